package virtqueue

import (
	"slices"
	"sync"
	"sync/atomic"
)

// A Space is a device's current Memory together with everyone who looks at it.
//
//	reader                         control goroutine (Replace)
//	m := cur; pin = m; cur == m?   old := cur; cur = new
//	... views of m ...             for each pin: wait while pin == old
//	pin = nil; wake if waited for  (the caller unmaps what only old held)
//
// Each pin is one word in a cache line of its own, so that queues do not share
// a counter: entering and leaving costs about 10 ns with any number of queues.
type Space struct {
	cur     atomic.Pointer[Memory]
	waiting atomic.Int32

	replace sync.Mutex // held over Replace; taken before mu
	dirty   *DirtyLog  // guarded by replace
	mu      sync.Mutex
	pins    []*Pin
	left    chan struct{} // cap 1: some pin was left while waiting != 0
}

// NewSpace returns a Space with an empty table.
func NewSpace() *Space {
	s := &Space{left: make(chan struct{}, 1)}
	s.cur.Store(&Memory{})
	return s
}

// Memory returns the current table, for questions about it. To touch guest
// memory use a Pin.
func (s *Space) Memory() *Memory { return s.cur.Load() }

// Replace publishes m and returns when no epoch that saw an older table is
// left, so that its mappings may be unmapped. It blocks as long as the longest
// epoch; it must not be called inside one.
func (s *Space) Replace(m *Memory) {
	s.replace.Lock()
	defer s.replace.Unlock()
	s.publish(m)
}

// publish is Replace with the lock held. The log travels with the table, so
// that one epoch guards both mappings.
func (s *Space) publish(m *Memory) {
	m = &Memory{byGPA: m.byGPA, byUVA: m.byUVA, log: s.dirty}
	s.waiting.Store(1)
	defer s.waiting.Store(0)
	s.cur.Store(m)
	s.mu.Lock()
	pins := slices.Clone(s.pins)
	s.mu.Unlock()
	for _, p := range pins {
		for {
			if seen := p.mem.Load(); seen == nil || seen == m {
				break
			}
			<-s.left
		}
	}
}

// SetLog makes l the dirty log of the device; nil ends logging. When SetLog
// returns, no epoch that saw the former log is left.
func (s *Space) SetLog(l *DirtyLog) {
	s.replace.Lock()
	defer s.replace.Unlock()
	s.dirty = l
	s.publish(s.cur.Load())
}

// A Pin is one reader's place in a Space. It is used by one goroutine at a time.
type Pin struct {
	_     [64]byte
	mem   atomic.Pointer[Memory]
	space *Space
	_     [48]byte
}

// NewPin returns a pin for a queue or a worker.
func (s *Space) NewPin() *Pin {
	p := &Pin{space: s}
	s.mu.Lock()
	s.pins = append(s.pins, p)
	s.mu.Unlock()
	return p
}

// Close takes the pin out of its Space. The pin must have been left.
func (p *Pin) Close() {
	s := p.space
	s.mu.Lock()
	if i := slices.Index(s.pins, p); i >= 0 {
		s.pins = slices.Delete(s.pins, i, i+1)
	}
	s.mu.Unlock()
}

// Enter starts an epoch and returns the table it sees. Until Leave the table's
// mappings stay. An epoch must not span a fetch, a lock held by one who fetches,
// or a wait for a peer: memory table changes wait for it.
func (p *Pin) Enter() *Memory {
	for {
		m := p.space.cur.Load()
		p.mem.Store(m)
		if p.space.cur.Load() == m {
			return m
		}
		p.Leave() // wakes a Replace that took this glimpse for an epoch
	}
}

// Stale reports whether the table was replaced since Enter: a long-running
// reader should leave and enter again.
func (p *Pin) Stale() bool { return p.space.cur.Load() != p.mem.Load() }

// Leave ends the epoch. It does nothing outside one.
func (p *Pin) Leave() {
	p.mem.Store(nil)
	if p.space.waiting.Load() != 0 {
		select {
		case p.space.left <- struct{}{}:
		default:
		}
	}
}
