package cli

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// A Progress shows one line about long work on a terminal and erases it at the
// end. On anything but a terminal it writes nothing. All methods may be called
// by any goroutine, also on a nil Progress.
type Progress struct {
	mu    sync.Mutex
	w     io.Writer
	start time.Time
	last  time.Time
	shown bool
}

// progressDelay is how long work goes on before anything is shown, and how often
// the line changes: short enough to look alive, long enough to cost nothing.
const progressDelay = 200 * time.Millisecond

// NewProgress prepares the line for w, which is shown only if w is a terminal.
func NewProgress(w io.Writer) *Progress {
	if !Terminal(w) {
		return nil
	}
	now := time.Now()
	return &Progress{w: w, start: now, last: now}
}

// Update shows how many bytes of total are done; a total of 0 is unknown.
func (p *Progress) Update(done, total uint64, what string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.last) < progressDelay {
		return
	}
	p.last, p.shown = now, true
	rate := Bytes(uint64(float64(done) / now.Sub(p.start).Seconds()))
	if total == 0 {
		fmt.Fprintf(p.w, "\r\x1b[K%s: %s, %s/s", what, Bytes(done), rate)
		return
	}
	percent := float64(min(done, total)) / float64(total) * 100
	fmt.Fprintf(p.w, "\r\x1b[K%s: %.0f %% of %s, %s/s", what, percent, Bytes(total), rate)
}

// Done erases the line.
func (p *Progress) Done() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		io.WriteString(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// Bytes writes a number of bytes for people, in binary units.
func Bytes(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}
