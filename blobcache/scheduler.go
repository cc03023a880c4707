package blobcache

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A scheduler turns flights into back-end requests:
//
//	join, submit -> pending flights -> take: the most urgent, grown by its neighbours
//	                                     -> request -> jobs while bytes come -> workers
//
// What somebody waits for is asked for at once. What is expected soon is asked for in
// its order, the next request when the end of the last one is a round trip away, so that
// the link is busy and what comes first is there first. All else waits until nobody
// has waited for a while; what is under way of it is given up when somebody does.
//
// A flight whose bytes are wrong comes back to pending for its second attempt.
// A request is a goroutine; workers live until close.
type scheduler struct {
	opt  Options
	ctx  context.Context
	warn func(blob, what string, err error)

	mu      sync.Mutex
	flights map[flightKey]*flight
	pending []*flight
	running []*batch
	bytes   uint64 // stored bytes of requests under way
	free    []*fetchBuf
	waited  int       // flights that somebody waits for
	calm    time.Time // since when nobody does
	let     time.Time // when the last request of class Sometime was let go
	paced   time.Time // when the next prefetch may be, by Options.PrefetchRate
	ahead   bool      // a prefetch waits for others to come to their end
	round   uint64    // of looking whose turn it is
	timer   *time.Timer
	started bool // workers run
	closed  bool

	jobs, urgent chan job
	wg           sync.WaitGroup
}

func newScheduler(ctx context.Context, opt Options) *scheduler {
	return &scheduler{opt: opt, ctx: ctx, flights: map[flightKey]*flight{}, jobs: make(chan job), urgent: make(chan job)}
}

// join gives the flight of a key, which is made by fresh if there is none.
func (s *scheduler) join(key flightKey, u Urgency, fresh func() (*flight, error)) (f *flight, made bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, ErrClosed
	}
	if f = s.flights[key]; f != nil {
		if u > f.urgency {
			if u == now && f.batch == nil {
				f.ripe = time.Now().Add(f.view.cache.link.gather()) // its neighbours may come
			}
			s.raise(f, u)
			s.wake() // it may be pending behind others
		}
		return f, false, nil
	}
	if f, err = fresh(); err != nil {
		return nil, false, err
	}
	s.flights[key] = f
	s.raise(f, u)
	return f, true, nil
}

// raise makes a flight more urgent. Preconditions: mu is held.
func (s *scheduler) raise(f *flight, u Urgency) {
	f.urgency = u
	if u < now {
		return
	}
	s.waited++
	if f.batch != nil && f.batch.urgency < now {
		f.batch.urgency = now
		close(f.batch.wanted)
	}
}

// alongside has a flight read along with another; false if it isn't to be fetched, or is
// under way.
func (s *scheduler) alongside(f *flight) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.local || f.batch != nil {
		return false
	}
	f.along = true
	return true
}

// submit makes flights pending and sees to it that they are taken.
func (s *scheduler) submit(list ...*flight) {
	s.mu.Lock()
	var late []*flight
	for _, f := range list {
		f.batch = nil
		switch {
		case f.view.cache.ctx.Err() != nil:
			late = append(late, f) // nobody would take it any more
			continue
		case f.urgency == now && !f.local:
			f.ripe = time.Now().Add(f.view.cache.link.gather())
		}
		s.pending = append(s.pending, f)
	}
	s.wake()
	s.mu.Unlock()
	for _, f := range late {
		s.finish(f, ErrClosed)
	}
}

// wake sends what may be sent, and sees to it that the rest is looked at again.
// Preconditions: mu is held.
func (s *scheduler) wake() {
	if s.closed || len(s.pending) == 0 {
		return
	}
	if !s.started {
		s.started = true
		for range s.opt.Workers {
			s.wg.Go(func() { (&worker{s: s}).run() })
		}
	}
	s.ahead = false
	t := time.Now()
	for len(s.running) < s.opt.Requests {
		b, again := s.take(t)
		if b == nil {
			s.lookAgain(again)
			return
		}
		s.running = append(s.running, b)
		if b.urgency == now {
			s.makeWay(b)
		}
		s.wg.Go(func() { s.run(b) })
	}
}

// lookAgain wakes after a time, unless it is 0. Preconditions: mu is held.
func (s *scheduler) lookAgain(after time.Duration) {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if after > 0 {
		s.timer = time.AfterFunc(after, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.wake()
		})
	}
}

// run carries one request out.
func (s *scheduler) run(b *batch) {
	s.request(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = slices.DeleteFunc(s.running, func(r *batch) bool { return r == b })
	s.wake()
}

// take removes the next batch from pending. If there is none that may go, again is when
// there can be one without anything else having happened; 0: there can't.
// Preconditions: mu is held.
func (s *scheduler) take(t time.Time) (b *batch, again time.Duration) {
	first, again := s.next(t)
	if first == nil {
		return nil, again
	}
	b = s.batch(first)
	if i := slices.IndexFunc(b.flights, func(f *flight) bool { return f.urgency > first.urgency }); i >= 0 {
		b = s.batch(b.flights[i]) // it goes before what would have taken it along
	}
	if s.bytes > 0 && s.bytes+b.size > s.opt.MaxFetchBytes {
		return nil, again // the end of another request wakes us
	}
	s.bytes += b.size
	b.left = b.size
	taken := map[*flight]bool{}
	for _, f := range b.flights {
		f.batch = b
		taken[f] = true
	}
	s.pending = slices.DeleteFunc(s.pending, func(f *flight) bool { return taken[f] })
	if b.urgency < now {
		s.let = t
		s.pace(t, b.size)
	}
	return b, 0
}

// finish ends a flight for all who wait.
func (s *scheduler) finish(f *flight, err error) {
	s.mu.Lock()
	if s.flights[f.key] == f {
		delete(s.flights, f.key)
	}
	if f.urgency == now {
		if s.waited--; s.waited == 0 {
			s.calm = time.Now()
			s.wake() // looks again when it has been calm for long enough
		}
	}
	s.mu.Unlock()
	f.err = err
	close(f.done)
	f.view.cache.leave()
}

// drop ends the pending flights of a cache, or all of them.
func (s *scheduler) drop(c *Cache) {
	s.mu.Lock()
	var out []*flight
	s.pending = slices.DeleteFunc(s.pending, func(f *flight) bool {
		if c != nil && f.view.cache != c {
			return false
		}
		out = append(out, f)
		return true
	})
	s.mu.Unlock()
	for _, f := range out {
		s.finish(f, ErrClosed)
	}
}

// close refuses new flights and waits for those under way; ctx has ended.
func (s *scheduler) close() {
	s.mu.Lock()
	s.closed = true
	s.lookAgain(0)
	s.mu.Unlock()
	s.wg.Wait()
	s.drop(nil)
}

// inflight gives the stored bytes of requests under way.
func (s *scheduler) inflight() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}
