package window

import (
	"sync"
	"time"
)

// keepTime is how long an edge is kept after its last use.
const keepTime = 5 * time.Second

// A Memory keeps edges for a moment. The zero value keeps nothing.
type Memory struct {
	max uint64

	mu       sync.Mutex
	m        map[key]*edge
	bytes    uint64
	sweeping bool
	asked    uint64
	reused   uint64
}

// key names a window.
type key struct {
	blob   *blob
	number uint64
}

// An edge is a window of which a part was wanted.
type edge struct {
	data []byte
	used time.Time
}

// NewMemory makes a memory of at most max bytes.
func NewMemory(max uint64) *Memory { return &Memory{max: max, m: map[key]*edge{}} }

// Stats are counters of a Memory.
type Stats struct {
	Asked  uint64 // edges that were fetched
	Reused uint64 // reads that found theirs
	Bytes  uint64 // kept now
}

// Stats gives the counters; those of a nil Memory are zero.
func (m *Memory) Stats() Stats {
	if m == nil {
		return Stats{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stats{m.asked, m.reused, m.bytes}
}

func (m *Memory) get(k key) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.m[k]
	if e == nil {
		return nil, false
	}
	e.used = time.Now()
	m.reused++
	return e.data, true
}

// put keeps data, which nobody may change any more, if there is room for it.
func (m *Memory) put(k key, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	n := uint64(len(data))
	if n > m.max || m.m[k] != nil || k.blob.ctx.Err() != nil {
		return
	}
	for m.bytes+n > m.max {
		m.forget(m.oldest())
	}
	m.m[k] = &edge{data, time.Now()}
	m.bytes += n
	m.sweepLater()
}

// oldest is what was used least recently. Preconditions: mu is held, something is kept.
func (m *Memory) oldest() (k key) {
	var oldest *edge
	for i, e := range m.m {
		if oldest == nil || e.used.Before(oldest.used) {
			k, oldest = i, e
		}
	}
	return k
}

// forget drops one edge. Preconditions: mu is held.
func (m *Memory) forget(k key) {
	m.bytes -= uint64(len(m.m[k].data))
	delete(m.m, k)
}

// sweepLater has what is too old dropped. Preconditions: mu is held.
func (m *Memory) sweepLater() {
	if !m.sweeping {
		m.sweeping = true
		time.AfterFunc(keepTime, m.sweep)
	}
}

func (m *Memory) sweep() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweeping = false
	for k, e := range m.m {
		if time.Since(e.used) >= keepTime {
			m.forget(k)
		}
	}
	if len(m.m) > 0 {
		m.sweepLater()
	}
}

// drop forgets the edges of a blob.
func (m *Memory) drop(b *blob) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.m {
		if k.blob == b {
			m.forget(k)
		}
	}
}
