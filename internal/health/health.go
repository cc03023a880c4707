// Package health decides whether a place that has an alternative is used: a proxy
// before the origin, a mirror beside it.
//
//	well --failures in a row--> sick --a probe answers, or the interval is over--> well
//
// While it is used, and for a while after, the place is probed, so that the first read
// after a pause finds out nothing by waiting for it. A probe that fails makes it sick,
// too. Where there is nothing to probe, a sick place is used again after the interval,
// and one failure more makes it sick anew.
//
// Trust: none in places. Concurrency: everything may be called from any goroutine. Close
// waits for the probe under way. Source: nydusd 3.5 and 3.6.
package health

import (
	"context"
	"sync"
	"time"
)

// Options are how a place is watched.
type Options struct {
	// Failures in a row make a place sick; 0 is 1.
	Failures int
	// Interval is the time between probes, and how long a place that can't be probed is
	// sick.
	Interval time.Duration
	// Pause is how long after its last use a place is still probed. 0: only when it is
	// used.
	Pause time.Duration
	// Probe asks the place how it is, and ends with ctx; nil: it can't be asked.
	Probe func(ctx context.Context) error
	// WhenSick probes only a place that is sick.
	WhenSick bool
}

// A Health is that of one place. Make it with New.
type Health struct {
	opt  Options
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu       sync.Mutex
	failures int       // in a row
	sick     bool      // or was, where there is no probe
	until    time.Time // where there is no probe: sick before
	used     time.Time // last
	probed   time.Time // last
	probing  bool      // a goroutine does
	closed   bool
}

// New begins with a place that is well. It starts nothing.
func New(o Options) *Health {
	o.Failures = max(o.Failures, 1)
	o.Interval = max(o.Interval, minInterval)
	h := &Health{opt: o}
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

// minInterval bounds what a configuration can ask for.
const minInterval = 100 * time.Millisecond

// maxProbe bounds a probe's time.
const maxProbe = 5 * time.Second

// Well reports whether the place is to be used now, and counts as a use.
func (h *Health) Well() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	h.used = now
	if h.opt.Probe == nil {
		return !h.sick || !now.Before(h.until)
	}
	if !h.probing && !h.closed && now.Sub(h.probed) >= h.opt.Interval && (h.sick || !h.opt.WhenSick) {
		h.probing = true
		h.wg.Go(h.watch)
	}
	return !h.sick
}

// Sick reports whether the place is not used, and doesn't count as a use.
func (h *Health) Sick() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sick && (h.opt.Probe != nil || time.Now().Before(h.until))
}

// Failed notes that the place did not do its work.
func (h *Health) Failed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failures++; h.failures >= h.opt.Failures {
		h.sick, h.until = true, time.Now().Add(h.opt.Interval)
	}
}

// Worked notes that it did.
func (h *Health) Worked() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures, h.sick = 0, false
}

// watch probes the place until it was not used for a while.
func (h *Health) watch() {
	tick := time.NewTicker(h.opt.Interval)
	defer tick.Stop()
	for h.probe() {
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			return
		}
	}
}

// probe probes once, and reports whether to go on.
func (h *Health) probe() bool {
	ctx, cancel := context.WithTimeout(h.ctx, maxProbe)
	defer cancel()
	err := h.opt.Probe(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sick = err != nil; !h.sick {
		h.failures = 0
	}
	h.probed = time.Now()
	h.probing = !h.closed && h.probed.Sub(h.used) < h.opt.Pause && (h.sick || !h.opt.WhenSick)
	return h.probing
}

// Close ends the probes.
func (h *Health) Close() {
	h.stop()
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.wg.Wait()
}
