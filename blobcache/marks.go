package blobcache

import (
	"fmt"
	"sync/atomic"

	"vrafs/internal/opener"
	"vrafs/rafs"
)

// A mark says where in the data file one chunk lies, verified for one image:
//
//	63     62            24 23          0
//	| used | offset        | size - 1  | + 1 without used, so that 0 is "not verified"
//
// used says that it was read since the last eviction.
//
// A span is served only if it lies inside the mark of its chunk, so two inodes
// that give one chunk number different places can't borrow each other's proof.
const (
	markSizeBits = 24
	markMaxOff   = 1<<(63-markSizeBits) - 1 // exclusive: 512 GiB
	markUsed     = 1 << 63
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
	if w&markUsed == 0 { // lost to an eviction at the same time, which is as well
		m.words[s.Index].CompareAndSwap(w, w|markUsed)
	}
	off, size := markPlace(w)
	return s.Off >= off && s.Off-off <= size && uint64(s.Len) <= size-(s.Off-off)
}

// markPlace gives the place that a mark stands for.
func markPlace(w uint64) (off, size uint64) {
	w = w&^markUsed - 1
	return w >> markSizeBits, w&(1<<markSizeBits-1) + 1
}

// each calls f for every mark.
func (m *marks) each(f func(i rafs.ChunkIndex, at byteRange, used bool)) {
	for i := range m.words {
		if w := m.words[i].Load(); w != 0 {
			off, size := markPlace(w)
			f(rafs.ChunkIndex(i), byteRange{off, off + size}, w&markUsed != 0)
		}
	}
}

// retain takes off the marks of bytes that keep doesn't have, and the marks of use of
// the others.
func (m *marks) retain(keep func(off, size uint64) bool) {
	for i := range m.words {
		switch w := m.words[i].Load(); {
		case w == 0:
		case keep(markPlace(w)):
			m.words[i].And(^uint64(markUsed))
		case m.words[i].Swap(0) != 0:
			m.count.Add(^uint32(0))
		}
	}
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
	if m.words[c.Index].Swap(markUsed|(c.Off<<markSizeBits|uint64(c.Size-1))+1) == 0 {
		m.count.Add(1)
	}
}

func (m *marks) close() error { return m.mem.Close() }
