package blobcache

import (
	"cmp"
	"slices"
)

const (
	// minGap is the hole in the stored bytes that a merged request always reads along,
	// maxGap the largest.
	minGap = 16 << 10
	maxGap = 256 << 10
	// A list of files makes no more ranges than fewRanges, or of so few bytes each: else
	// the smallest holes between them are read along.
	fewRanges  = 32
	rangeBytes = 256 << 10
)

// A batch is what becomes one request: flights whose stored bytes lie in one range, or
// one to be looked up in the data file.
type batch struct {
	flights []*flight
	off     uint64
	size    uint64
	stream  uint64        // of the pass that it is part of, as flight.stream
	begun   Urgency       // when it was taken
	wanted  chan struct{} // of a prefetch: closed when somebody waits for one of them

	// Guarded by scheduler.mu.
	urgency Urgency
	left    uint64 // bytes that have not come yet
	givenUp bool   // it makes way for others
}

// batch makes a batch of a pending flight and its neighbours. Preconditions: mu is
// held.
func (s *scheduler) batch(first *flight) *batch {
	b := &batch{flights: []*flight{first}, begun: first.urgency, urgency: first.urgency, wanted: make(chan struct{})}
	if first.local {
		return b
	}
	b.flights = s.grow(first)
	if first.urgency == Sometime {
		b.stream = first.stream
	}
	b.off = b.flights[0].chunk.CompressedOff
	for _, f := range b.flights {
		b.size = max(b.size, f.end()-b.off)
	}
	return b
}

// grow gives first and its pending neighbours in the order of their stored bytes.
// Flights that may be misled never share a request, or a unit, with others.
//
// What somebody waits for comes first, so nothing is read before it that nobody waits
// for, but what is read along with it; and what can wait is not read with it at all.
// Prefetches of whole blobs end where their blob is divided evenly: hosts that prefetch
// the same blob ask for the same ranges then, and whatever caches ranges between them
// and the origin has them.
func (s *scheduler) grow(first *flight) []*flight {
	var near []*flight
	for _, f := range s.pending {
		if f.view == first.view && f.origin == first.origin && f.unsure == first.unsure && !f.local {
			near = append(near, f)
		}
	}
	slices.SortFunc(near, func(a, b *flight) int { return cmp.Compare(a.chunk.CompressedOff, b.chunk.CompressedOff) })
	gap := s.gap(first.view.cache, near)
	if first.urgency == now {
		near = slices.DeleteFunc(near, func(f *flight) bool { return f.urgency == Sometime && !f.along })
	}
	i := slices.Index(near, first)
	lo, hi := i, i+1
	off, end := first.chunk.CompressedOff, first.end()
	fits := s.fits(first)
	for hi < len(near) && near[hi].chunk.CompressedOff <= end+gap && fits(near[hi], off, max(end, near[hi].end())) {
		end = max(end, near[hi].end())
		hi++
	}
	for lo > 0 && near[lo-1].end()+gap >= off && fits(near[lo-1], near[lo-1].chunk.CompressedOff, end) &&
		(near[lo-1].urgency >= first.urgency || near[lo-1].along) {
		lo--
		off, end = near[lo].chunk.CompressedOff, max(end, near[lo].end())
	}
	return near[lo:hi]
}

// fits tells whether a request for first and others may have f, from off to end then.
func (s *scheduler) fits(first *flight) func(f *flight, off, end uint64) bool {
	most := s.opt.PrefetchBytes
	switch first.urgency {
	case now:
		most = s.opt.MaxRequestBytes
	case Sometime:
		return func(f *flight, _, _ uint64) bool { return f.chunk.CompressedOff/most == first.chunk.CompressedOff/most }
	}
	return func(_ *flight, off, end uint64) bool { return end-off <= most }
}

// gap gives the largest hole that requests of an image read along. near are pending
// flights in the order of their stored bytes. It never gets less while prefetches of
// lists are pending, whose ranges would be more in the end. Preconditions: mu is held.
func (s *scheduler) gap(c *Cache, near []*flight) uint64 {
	var holes []uint64
	bytes, end := uint64(0), uint64(0)
	for _, f := range near {
		if f.urgency != Soon {
			continue
		}
		if hole := f.chunk.CompressedOff - min(end, f.chunk.CompressedOff); end > 0 && hole > minGap {
			holes = append(holes, hole)
		}
		bytes += uint64(f.chunk.CompressedSize)
		end = max(end, f.end())
	}
	if bytes == 0 {
		c.gap = minGap
		return minGap
	}
	if n := len(holes) + 1 - max(fewRanges, int(bytes/rangeBytes)); n > 0 {
		slices.Sort(holes)
		c.gap = max(c.gap, min(holes[n-1], maxGap))
	}
	return max(c.gap, minGap)
}
