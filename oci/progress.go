package oci

import (
	"io"
	"sync"
	"time"
)

// An Event tells how far a piece of work is. Events of one piece come in order.
type Event struct {
	// What is "blob", "layer", "manifest" or "image".
	What string `json:"what"`
	// Name says which: a digest, a reference, or a platform.
	Name string `json:"name"`
	// State is what happens to it.
	State State `json:"state"`
	// Done of Total bytes are read; Total is 0 if it is not known.
	Done  int64 `json:"done,omitempty"`
	Total int64 `json:"total,omitempty"`
	// Result is the digest of what was made of it, at the end.
	Result string `json:"result,omitempty"`
	// Size is the size in bytes of that.
	Size int64 `json:"size,omitempty"`
}

// A State is what happens to a piece of work.
type State string

// The states. All but Running are ends.
const (
	StateRunning State = "running"
	StateDone    State = "done"
	StateExists  State = "exists"  // it was there already
	StateMounted State = "mounted" // taken over from another repository
	StateReused  State = "reused"  // an earlier conversion of it was found
	StateSkipped State = "skipped" // not copied on purpose
)

// A Progress is told about events. Its function may be nil; it is called from one
// goroutine at a time, and for running work a few times a second at most.
type Progress struct {
	Func func(Event)
	mu   sync.Mutex
}

// tell passes the event on. p may be nil.
func (p *Progress) tell(e Event) {
	if p == nil || p.Func == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Func(e)
}

// progressEvery is how often running work is told about.
const progressEvery = 100 * time.Millisecond

// reading counts what is read of r for event e.
func (p *Progress) reading(r io.Reader, e Event) io.Reader {
	if p == nil || p.Func == nil {
		return r
	}
	e.State = StateRunning
	p.tell(e)
	return &counted{p: p, r: r, e: e}
}

type counted struct {
	p    *Progress
	r    io.Reader
	e    Event
	last time.Time
}

// Read reads and counts.
func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.e.Done += int64(n)
	if now := time.Now(); now.Sub(c.last) >= progressEvery {
		c.last = now
		c.p.tell(c.e)
	}
	return n, err
}
