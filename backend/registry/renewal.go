package registry

import (
	"context"
	"sync"
	"time"
)

// Pauses after renewals that went wrong, doubled each time (nydusd 4.5).
const (
	minPause = 5 * time.Second
	maxPause = 600 * time.Second
)

// A renewal runs in the background, one at a time and none after close.
type renewal struct {
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	busy   bool
	closed bool
	pause  time.Duration // after the next failure
	after  time.Time     // none before
}

func (r *renewal) init() { r.ctx, r.stop = context.WithCancel(context.Background()) }

// start runs renew unless one is running, or the last one failed a moment ago.
func (r *renewal) start(now time.Time, renew func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy || r.closed || now.Before(r.after) {
		return
	}
	r.busy = true
	r.wg.Go(func() { r.done(now, renew(r.ctx)) })
}

// done notes how the renewal that began then has ended.
func (r *renewal) done(then time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy = false
	if err == nil {
		r.pause, r.after = 0, time.Time{}
		return
	}
	r.pause = min(max(2*r.pause, minPause), maxPause)
	r.after = then.Add(r.pause)
}

// close ends what runs, and waits for it.
func (r *renewal) close() {
	r.stop()
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.wg.Wait()
}
