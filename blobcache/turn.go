package blobcache

import "time"

const (
	// aheadTrips is how many round trips before the end of a request the next is sent.
	aheadTrips = 3
	// calmTrips and minCalm are how long nobody must have waited before something of class
	// Sometime is asked for, in round trips and at least.
	calmTrips = 2
	minCalm   = 50 * time.Millisecond
	// longest is how long class Sometime is kept waiting by others.
	longest = time.Second
)

// next chooses the pending flight that a request is to be made of. If there is none that
// may go, again is as take has it. Images are on links of their own: one that has to wait
// keeps no other waiting. Preconditions: mu is held.
func (s *scheduler) next(t time.Time) (first *flight, again time.Duration) {
	most := Sometime
	for _, f := range s.pending {
		switch {
		case f.urgency < now:
			if !f.view.cache.paused {
				most = max(most, f.urgency)
			}
		case f.ripe.After(t):
			again = sooner(again, f.ripe.Sub(t))
		default:
			return f, 0
		}
	}
	s.round++
	for _, f := range s.pending {
		c := f.view.cache
		if f.urgency != most || c.paused || c.looked == s.round {
			continue
		}
		c.looked = s.round
		wait, may := s.turn(f, t)
		if may {
			return f, 0
		}
		again = sooner(again, wait)
	}
	return nil, again
}

// sooner gives the lesser of two times, of which 0 is never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// turn reports whether it is the turn of a flight that nobody waits for; wait is as
// take's again. Preconditions: mu is held.
func (s *scheduler) turn(f *flight, t time.Time) (wait time.Duration, may bool) {
	prefetches, left := 0, uint64(0)
	for _, b := range s.running {
		if b.flights[0].view.cache == f.view.cache {
			left += b.left
			if b.stream != 0 && f.urgency == Sometime && f.stream != 0 {
				return 0, false // the next read of the pass begins where this one ends
			}
		}
		if b.urgency < now {
			prefetches++
		}
	}
	if prefetches >= s.opt.PrefetchRequests {
		return 0, false
	}
	if f.local {
		return 0, true
	}
	// One on its way, and the next when the end of that is some round trips away: it may
	// need a connection.
	if left > aheadTrips*f.view.cache.link.worth() {
		s.ahead = true
		return 0, false // bytes that come wake us
	}
	if wait := s.paced.Sub(t); wait > 0 {
		return wait, false
	}
	if f.urgency == Soon || t.Sub(s.let) > longest && prefetches == 0 {
		return 0, true
	}
	if s.waited > 0 {
		return longest - t.Sub(s.let) + time.Millisecond, false
	}
	calm := max(minCalm, calmTrips*f.view.cache.link.tripTime())
	if wait := s.calm.Add(calm).Sub(t); wait > 0 {
		return wait, false
	}
	return 0, true
}

// pace books n bytes of prefetch. Preconditions: mu is held.
func (s *scheduler) pace(t time.Time, n uint64) {
	if s.opt.PrefetchRate == 0 {
		return
	}
	if s.paced.Before(t) {
		s.paced = t
	}
	s.paced = s.paced.Add(time.Duration(float64(n) / float64(s.opt.PrefetchRate) * float64(time.Second)))
}

// makeWay ends what is on the same link and can wait, for a batch that can't.
// Preconditions: mu is held.
func (s *scheduler) makeWay(b *batch) {
	c := b.flights[0].view.cache
	if b.flights[0].local {
		return
	}
	for _, r := range s.running {
		if r.urgency == Sometime && r.flights[0].view.cache == c && r.left > c.link.worth()/2 {
			r.givenUp = true
		}
	}
}
