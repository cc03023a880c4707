package daemon

import (
	"context"
	"fmt"
	"sync"
)

// A gate lets commands through until it is shut. The zero value is open.
type gate struct {
	mu     sync.Mutex
	inside int
	why    error         // nobody is let through for good; nil: they are
	open   chan struct{} // closed when it opens again; nil: it is open
	empty  chan struct{} // closed when nobody is inside; nil: nobody asks
}

// enter waits until the gate is open, and returns how to leave, or why the gate is barred.
func (g *gate) enter() (leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.open != nil && g.why == nil {
		wait := g.open
		g.mu.Unlock()
		<-wait
		g.mu.Lock()
	}
	if g.why != nil {
		return nil, g.why
	}
	g.inside++
	return g.leave, nil
}

// bar turns everybody away who comes to a gate that is shut, or waits there, with why.
func (g *gate) bar(why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.why = why
	close(g.open)
	g.open = make(chan struct{})
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// shut keeps commands out and waits for those inside, at most until ctx ends: then it
// is an error, and the gate is open. One caller may shut it at a time.
func (g *gate) shut(ctx context.Context) (reopen func(), err error) {
	g.mu.Lock()
	g.open = make(chan struct{})
	empty := make(chan struct{})
	if g.inside == 0 {
		close(empty)
	} else {
		g.empty = empty
	}
	inside := g.inside
	g.mu.Unlock()
	select {
	case <-empty:
		return g.reopen, nil
	case <-ctx.Done():
		g.reopen()
		return nil, fmt.Errorf("%d commands do not end: %w", inside, context.Cause(ctx))
	}
}

func (g *gate) reopen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
	g.open, g.empty, g.why = nil, nil, nil
}
