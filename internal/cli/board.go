package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// A Board shows several pieces of work at once: on a terminal one line for each, which
// change in place, below the lines that stay; elsewhere only lines that stay. Its methods
// may be called by any goroutine.
type Board struct {
	w     io.Writer
	fd    int // of the terminal, -1 if there is none
	mu    sync.Mutex
	keys  []string // in the order of their first appearance
	text  map[string]string
	drawn int // lines on the screen
	last  time.Time
}

// NewBoard makes a board on w.
func NewBoard(w io.Writer) *Board {
	b := &Board{w: w, fd: -1, text: map[string]string{}}
	if f, ok := w.(interface{ Fd() uintptr }); ok && Terminal(w) {
		b.fd = int(f.Fd())
	}
	return b
}

// boardDelay is how often the lines change.
const boardDelay = 100 * time.Millisecond

// Set changes the line of the piece of work called key.
func (b *Board) Set(key, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.text[key]; !known {
		b.keys = append(b.keys, key)
	}
	b.text[key] = text
	if now := time.Now(); now.Sub(b.last) >= boardDelay {
		b.last = now
		b.draw("")
	}
}

// Done takes the line of key away. A line that is not empty stays above the others
// for good.
func (b *Board) Done(key, line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.text, key)
	b.keys = slices.DeleteFunc(b.keys, func(k string) bool { return k == key })
	b.draw(line)
}

// Close takes away what is not done.
func (b *Board) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keys = nil
	b.draw("")
}

// draw writes the line that stays and then all others anew. The lock is held.
func (b *Board) draw(line string) {
	if b.fd < 0 {
		if line != "" {
			_, _ = fmt.Fprintln(b.w, line)
		}
		return
	}
	rows, columns := 24, 80
	if w, h, err := term.GetSize(b.fd); err == nil && w > 10 && h > 1 {
		rows, columns = h, w
	}
	var out strings.Builder
	if b.drawn > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", b.drawn)
	}
	out.WriteString("\r\x1b[J")
	if line != "" {
		out.WriteString(line + "\n")
	}
	b.drawn = 0
	for _, k := range b.keys[:min(len(b.keys), rows-1)] {
		text := b.text[k]
		out.WriteString(text[:min(len(text), columns-1)] + "\n")
		b.drawn++
	}
	_, _ = io.WriteString(b.w, out.String())
}
