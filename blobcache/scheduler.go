package blobcache

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// mergeGap is the largest hole in the stored bytes that a merged request reads
// along: less than what a round trip costs.
const mergeGap = 16 << 10

// A scheduler turns flights into back-end requests:
//
//	join, submit -> pending flights -> take: one demand, grown by its neighbours
//	                                     -> request loop -> jobs -> workers
//
// A flight whose bytes are wrong comes back to pending for its second attempt.
// Request loops live while something is pending, workers until close.
type scheduler struct {
	opt  Options
	ctx  context.Context
	warn func(blob, what string, err error)

	mu       sync.Mutex
	flights  map[flightKey]*flight
	pending  []*flight
	loops    int
	prefetch int    // loops that run a request nobody waits for
	bytes    uint64 // stored bytes of requests under way
	free     []*fetchBuf
	started  bool // workers run
	closed   bool

	jobs chan job
	wg   sync.WaitGroup
}

func newScheduler(ctx context.Context, opt Options) *scheduler {
	return &scheduler{opt: opt, ctx: ctx, flights: map[flightKey]*flight{}, jobs: make(chan job)}
}

// join gives the flight of a key, which is made by fresh if there is none.
func (s *scheduler) join(key flightKey, demand bool, fresh func() (*flight, error)) (f *flight, made bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, ErrClosed
	}
	if f = s.flights[key]; f != nil {
		if demand && !f.demand {
			f.demand = true
			if f.want != nil {
				f.want()
			}
			s.wake() // it may be pending behind a full prefetch
		}
		return f, false, nil
	}
	if f, err = fresh(); err != nil {
		return nil, false, err
	}
	f.demand = demand
	s.flights[key] = f
	return f, true, nil
}

// submit makes flights pending and sees to it that they are taken.
func (s *scheduler) submit(list ...*flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(s.pending, list...)
	s.wake()
}

// wake starts request loops and, once, the workers. Preconditions: mu is held.
func (s *scheduler) wake() {
	if s.closed {
		return
	}
	if !s.started && len(s.pending) > 0 {
		s.started = true
		for range s.opt.Workers {
			s.wg.Go(func() { (&worker{s: s}).run() })
		}
	}
	for n := len(s.pending); n > 0 && s.loops < s.opt.Requests; n-- {
		s.loops++
		s.wg.Go(s.loop)
	}
}

// A batch is what one request loop has taken: flights whose stored bytes lie in
// one range, or flights to be looked up in the data file.
type batch struct {
	flights []*flight
	off     uint64
	size    uint64
	demand  bool
	wanted  chan struct{} // of a prefetch: closed when somebody waits for one of them
}

// loop runs requests as long as one may be taken.
func (s *scheduler) loop() {
	for {
		s.mu.Lock()
		b, ok := s.take()
		if !ok {
			s.loops--
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		s.request(&b)
		if !b.demand {
			s.mu.Lock()
			s.prefetch--
			s.mu.Unlock()
		}
	}
}

// take removes the next batch from pending. Preconditions: mu is held.
func (s *scheduler) take() (batch, bool) {
	i := slices.IndexFunc(s.pending, func(f *flight) bool { return f.demand })
	if i < 0 {
		if len(s.pending) == 0 || s.prefetch >= max(1, s.opt.Requests/2) {
			return batch{}, false
		}
		i = 0
	}
	first := s.pending[i]
	b := batch{demand: first.demand}
	if first.local {
		b.flights = []*flight{first}
	} else {
		b.flights = s.grow(first)
		b.off = b.flights[0].chunk.CompressedOff
		for _, f := range b.flights {
			b.size = max(b.size, f.end()-b.off)
		}
		if s.bytes > 0 && s.bytes+b.size > s.opt.MaxFetchBytes {
			return batch{}, false // the end of another request wakes us
		}
		s.bytes += b.size
	}
	s.pending = slices.DeleteFunc(s.pending, func(f *flight) bool { return slices.Contains(b.flights, f) })
	if !b.demand {
		s.prefetch++
		b.wanted = make(chan struct{})
		want := sync.OnceFunc(func() { close(b.wanted) })
		for _, f := range b.flights {
			f.want = want
		}
	}
	return b, true
}

// grow gives first and its pending neighbours in the order of their stored bytes.
// Flights that may be misled never share a request, or a unit, with others.
func (s *scheduler) grow(first *flight) []*flight {
	var near []*flight
	for _, f := range s.pending {
		if f.view == first.view && f.origin == first.origin && f.unsure == first.unsure && !f.local {
			near = append(near, f)
		}
	}
	slices.SortFunc(near, func(a, b *flight) int { return cmp.Compare(a.chunk.CompressedOff, b.chunk.CompressedOff) })
	i := slices.Index(near, first)
	lo, hi := i, i+1
	off, end := first.chunk.CompressedOff, first.end()
	fits := func(off, end uint64) bool { return end-off <= s.opt.MaxRequestBytes }
	for hi < len(near) && near[hi].chunk.CompressedOff <= end+mergeGap && fits(off, max(end, near[hi].end())) {
		end = max(end, near[hi].end())
		hi++
	}
	for lo > 0 && near[lo-1].end()+mergeGap >= off && fits(near[lo-1].chunk.CompressedOff, end) {
		lo--
		off, end = near[lo].chunk.CompressedOff, max(end, near[lo].end())
	}
	return near[lo:hi]
}

// finish ends a flight for all who wait.
func (s *scheduler) finish(f *flight, err error) {
	s.mu.Lock()
	if s.flights[f.key] == f {
		delete(s.flights, f.key)
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
