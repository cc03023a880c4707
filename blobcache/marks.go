package blobcache

import (
	"fmt"
	"sync/atomic"

	"vrafs/internal/opener"
	"vrafs/rafs"
)

// A mark says where in the data file one chunk lies, verified for one image:
//
//	63              24 23          0
//	| offset           | size - 1  | + 1, so that 0 is "not verified"
//
// A span is served only if it lies inside the mark of its chunk, so two inodes
// that give one chunk number different places can't borrow each other's proof.
const (
	markSizeBits = 24
	markMaxOff   = 1<<(64-markSizeBits) - 1 // exclusive: 1 TiB
)

// marks are the marks of one blob in memory of our own, off the Go heap: reading
// one depends on no other process. Pages cost memory when they are first set.
type marks struct {
	mem   *opener.Mapping
	words []atomic.Uint64
	count atomic.Uint32
}

// init makes room for n chunks; n may be 0 for "unknown".
func (m *marks) init(n uint32) error {
	if n == 0 {
		n = rafs.MaxChunksPerBlob
	}
	mem, err := opener.Memory(uint64(n) * 8)
	if err != nil {
		return fmt.Errorf("table of verified chunks: %w", err)
	}
	m.mem, m.words = mem, words64(mem.Bytes())
	return nil
}

// covers reports whether s lies inside the verified bytes of its chunk.
func (m *marks) covers(s *rafs.Span) bool {
	if uint64(s.Index) >= uint64(len(m.words)) {
		return false
	}
	w := m.words[s.Index].Load()
	if w == 0 {
		return false
	}
	w--
	off, size := w>>markSizeBits, w&(1<<markSizeBits-1)+1
	return s.Off >= off && s.Off-off <= size && uint64(s.Len) <= size-(s.Off-off)
}

// has reports whether chunk i is marked.
func (m *marks) has(i rafs.ChunkIndex) bool {
	return uint64(i) < uint64(len(m.words)) && m.words[i].Load() != 0
}

// set marks c. Preconditions: the data file holds bytes with c's digest.
func (m *marks) set(c *rafs.Chunk) {
	if uint64(c.Index) >= uint64(len(m.words)) || c.Off >= markMaxOff || c.Size == 0 {
		return
	}
	if m.words[c.Index].Swap(c.Off<<markSizeBits|uint64(c.Size-1)+1) == 0 {
		m.count.Add(1)
	}
}

func (m *marks) close() error { return m.mem.Close() }
