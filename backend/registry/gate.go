package registry

import (
	"context"
	"sync/atomic"
)

// A gate lets callers in one at a time until it is opened for all, so that what the
// first of them learns is not learned by all of them at once.
type gate struct {
	wide *atomic.Bool
	turn chan struct{} // holds a value while somebody is inside
}

func newGate() gate { return gate{new(atomic.Bool), make(chan struct{}, 1)} }

// enter waits for a turn, or until ctx ends. The caller must leave.
func (g *gate) enter(ctx context.Context) (leave func(), err error) {
	if g.wide.Load() {
		return func() {}, nil
	}
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if g.wide.Load() {
		<-g.turn
		return func() {}, nil
	}
	return func() { <-g.turn }, nil
}

// open lets everybody in from now on.
func (g *gate) open() { g.wide.Store(true) }
