package blobcache

import (
	"sync"

	"vrafs/rafs"
)

const (
	// minAmplify is how much is read along however short the way is, if Options.Amplify
	// lets it, in bytes.
	minAmplify = 64 << 10
	// nearBytes is how far apart misses are neighbours, in stored bytes.
	nearBytes = 2 << 20
	// maxUnknown bounds the chunks that the image says nothing about and that are passed by.
	maxUnknown = 64
	// maxAlong bounds what one miss takes along, in chunks: an image may have any number of
	// them in few stored bytes.
	maxAlong = 4096
	// forgetAlong is after how many chunks that were read along half of them are forgotten.
	forgetAlong = 256
)

// A Near is the chunks that a reader is likely to want next: those of the file in which
// it reads. The zero value says nothing.
type Near struct {
	Blob        uint16
	First, Last rafs.ChunkIndex
}

func (n *Near) has(blob int, i rafs.ChunkIndex) bool {
	return int(n.Blob) == blob && n.First <= i && i <= n.Last && n.First < n.Last
}

// misses are the last ones of a blob, and how often what was read along with them was
// wanted. Both say how much of the neighbourhood of the next will be read.
type misses struct {
	mu          sync.Mutex
	at          [16]rafs.Chunk
	n           int // ever
	along, used uint32
}

// add notes a miss, and gives how many of the last were near it in the blob and how many
// in the same file.
func (m *misses) add(c *rafs.Chunk, near *Near) (close, same int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.at[:min(m.n, len(m.at))] {
		old := &m.at[i]
		if max(old.CompressedOff, c.CompressedOff)-min(old.CompressedOff, c.CompressedOff) < nearBytes {
			close++
		}
		if near.has(int(c.Blob), old.Index) && near.has(int(c.Blob), c.Index) {
			same++
		}
	}
	m.at[m.n%len(m.at)] = *c
	m.n++
	return close, same
}

// tookAlong notes that n chunks were read along.
func (m *misses) tookAlong(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.along += uint32(n); m.along > forgetAlong {
		m.along, m.used = m.along/2, m.used/2
	}
}

// wanted notes that a chunk was there without having been asked for by whoever reads it.
func (m *misses) wanted() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used = min(m.used+1, m.along)
}

// worthwhile is how often more may be doubled: the more of what was read along has been
// wanted, the more often.
func (m *misses) worthwhile() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case 2*m.used >= m.along:
		return 4
	case 4*m.used >= m.along:
		return 1
	}
	return 0
}

// ahead is how many stored bytes a request for the miss of c may have: what a round trip
// is worth, since that is how long the next request is on its way, and twice that for
// every two misses close to it as long as that is worthwhile. Of a file that was missed
// in before it may have as much as there may be.
func (v *view) ahead(c *rafs.Chunk, near *Near) (anywhere, inFile uint64) {
	most := min(v.cache.store.opt.Amplify, v.cache.store.opt.MaxRequestBytes)
	close, same := v.misses.add(c, near)
	anywhere = min(most, max(v.cache.link.worth(), minAmplify)<<min(close/2, v.misses.worthwhile()))
	if same > 0 {
		return anywhere, most
	}
	return anywhere, anywhere
}

// amplify adds the missing neighbours of a flight: those that follow it in its
// blob, and where there are few of them those before it, but no more than half of what a
// round trip is worth: whoever waits has to wait for these. Slices of its own unit come with
// it in any case, and would bring the whole unit once more if they came alone.
func (v *view) amplify(o *openView, t *tables, list []*flight, first *flight, near *Near) []*flight {
	if v.cache.store.opt.Amplify == 0 || first.local || t.index == nil && t.meta == nil {
		return list
	}
	anywhere, inFile := v.ahead(&first.chunk, near)
	limit := func(i rafs.ChunkIndex) uint64 {
		if near.has(v.index, i) {
			return inFile
		}
		return anywhere
	}
	before := len(list)
	lo, hi := first.chunk.CompressedOff, first.end()
	unknown := 0
	take := func(i rafs.ChunkIndex, fits func(c *rafs.Chunk) bool) bool {
		if len(list)-before >= maxAlong {
			return false
		}
		c, err := v.lookup(t, i)
		if err != nil {
			unknown++
			return unknown < maxUnknown
		}
		if !first.sharesUnit(&c) && !fits(&c) {
			return false
		}
		f, made, err := v.start(o, t, spanOf(&c), Sometime)
		if err != nil || f == nil {
			return false
		}
		fetched := v.cache.store.sched.alongside(f) // perhaps of a prefetch that waits
		if made {
			list = append(list, f)
		}
		if !fetched {
			return false
		}
		lo, hi = min(lo, c.CompressedOff), max(hi, f.end())
		return true
	}
	for i := first.chunk.Index + 1; uint32(i) < v.blob.ChunkCount && !o.has(i); i++ {
		if !take(i, func(c *rafs.Chunk) bool {
			return c.CompressedOff >= lo && c.CompressedOff <= hi+minGap && c.CompressedOff+uint64(c.CompressedSize) <= lo+limit(c.Index)
		}) {
			break
		}
	}
	back, start := min(anywhere, v.cache.link.worth()/2), lo
	for i := first.chunk.Index; i > 0 && !o.has(i-1); i-- {
		if !take(i-1, func(c *rafs.Chunk) bool {
			end := c.CompressedOff + uint64(c.CompressedSize)
			return end <= lo && end+minGap >= lo && c.CompressedOff+back >= start && c.CompressedOff+limit(c.Index) >= hi
		}) {
			break
		}
	}
	v.misses.tookAlong(len(list) - before)
	return list
}
