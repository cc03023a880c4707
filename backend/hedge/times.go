package hedge

import (
	"slices"
	"sync"
	"time"
)

// times are how long the first bytes of recent reads took.
type times struct {
	mu   sync.Mutex
	ring [64]time.Duration
	n    int // ever
}

// known is how many times make a judgement.
const known = 8

func (t *times) add(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ring[t.n%len(t.ring)] = d
	t.n++
}

// late is longer than 19 of 20 took, and much longer than most, within the bounds of o.
// Where all take about as long, a read that first needs a connection would be late else.
func (t *times) late(o *Options) time.Duration {
	t.mu.Lock()
	list := slices.Clone(t.ring[:min(t.n, len(t.ring))])
	t.mu.Unlock()
	if len(list) < known {
		return o.First
	}
	slices.Sort(list)
	return min(max(list[len(list)*19/20], 3*list[len(list)/2], o.Min), o.Max)
}
