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
	what  string
	start time.Time
	last  time.Time
	shown bool
}

// progressDelay is how long work goes on before anything is shown, and how often
// the line changes: short enough to look alive, long enough to cost nothing.
const progressDelay = 200 * time.Millisecond

// NewProgress prepares the line for w, which is shown only if w is a terminal.
func NewProgress(w io.Writer, what string) *Progress {
	if !Terminal(w) {
		return nil
	}
	now := time.Now()
	return &Progress{w: w, what: what, start: now, last: now}
}

// Update shows how many bytes and entries were done so far.
func (p *Progress) Update(entries, bytes uint64) {
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
	rate := float64(bytes) / now.Sub(p.start).Seconds()
	fmt.Fprintf(p.w, "\r\x1b[K%s: %d entries, %s, %s/s", p.what, entries, Bytes(bytes), Bytes(uint64(rate)))
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
