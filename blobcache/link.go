package blobcache

import (
	"slices"
	"sync"
	"time"
)

// A link is what is known of the way to the back end of one image: how long it is and
// how much goes through it.
//
//	round trip: the least of recent times to the first byte
//	rate:       that of long answers, times the number of answers that came together
//	worth:      round trip x rate: bytes that come in the time that a request costs
//
// What is worth a round trip decides how much is read along with a miss, which gaps a
// request reads through, and when the next request is sent while one is coming.
type link struct {
	mu     sync.Mutex
	firsts [linkMemory]time.Duration // recent times to the first byte
	n      int                       // of them, all that ever came
	trip   time.Duration             // the least of firsts
	rate   float64                   // bytes a second; 0: unknown
	coming int                       // answers that come now
}

const (
	linkMemory = 16
	// rateBytes is how long an answer has to be to tell of the rate: a short one comes
	// out of buffers on the way.
	rateBytes = 128 << 10
	// unknownWorth stands for worth while nothing is known.
	unknownWorth = 256 << 10
)

// first notes how long the first byte of an answer took, and that the rest is coming.
func (l *link) first(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.firsts[l.n%linkMemory] = took
	l.n++
	l.trip = slices.Min(l.firsts[:min(l.n, linkMemory)])
	l.coming++
}

// last notes the end of an answer whose bytes came in that time after the first.
func (l *link) last(bytes uint64, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	together := l.coming
	l.coming--
	if bytes < rateBytes || took <= 0 {
		return
	}
	rate := float64(bytes) / took.Seconds() * float64(together)
	if l.rate == 0 {
		l.rate = rate
	}
	l.rate += (rate - l.rate) / 4
}

// worth gives the bytes that a round trip is worth.
func (l *link) worth() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate == 0 {
		return unknownWorth
	}
	return uint64(l.rate * l.trip.Seconds())
}

// tripTime is the time of a round trip; 0: unknown.
func (l *link) tripTime() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.trip
}

// gather is how long a miss waits for its neighbours: so little of a round trip that
// whoever waits alone does not notice.
func (l *link) gather() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trip < 64*minGather {
		return 0
	}
	return min(l.trip/64, maxGather)
}

const (
	minGather = 50 * time.Microsecond
	maxGather = 500 * time.Microsecond
)
