package build

import (
	"bytes"
	"fmt"

	"vrafs/internal/inflate"
	"vrafs/rafs"
)

// Bounds of the slices of a gzip stream (rafs.md 4.7): a chunk starts a new one
// when the current has grown so large. A slice can only begin with a deflate
// block, so it may exceed them.
const (
	zranMaxIn  = 1 << 20
	zranMaxOut = 2 << 20
)

// A zranIndex says where a gzip stream can be entered for each chunk of the tar
// inside. Slices may overlap:
//
//	gzip    |block|   block   |  block  |   block   |
//	slices  [------ 0: chunks a, b -----]
//	                          [- 1: chunks c, d, e -]
type zranIndex struct {
	z      *inflate.Reader
	slices []zranSlice
	member int    // gzip member in which the last slice began
	start  uint64 // input offset at the start of the current chunk
}

// A zranSlice is one entry of the context table.
type zranSlice struct {
	inflate.Point
	inLen, outLen uint64
}

// A place says where the stored bytes of a chunk lie in the source.
type place struct {
	off     uint64
	size    uint32
	unit    uint32
	unitOff uint32
	zran    bool
}

// apply makes c a chunk whose bytes are stored at p.
func (p *place) apply(c *rafs.Chunk) {
	c.CompressedOff, c.CompressedSize = p.off, p.size
	if p.zran {
		c.Flags |= rafs.ChunkCompressed | rafs.ChunkZran
		c.Unit, c.UnitOff = p.unit, p.unitOff
	}
}

// begin opens a slice for the next size bytes of the stream, or keeps the last.
func (x *zranIndex) begin(size uint64) error {
	x.start = x.z.InOffset()
	out, block := x.z.OutOffset(), x.z.Block()
	if n := len(x.slices); n > 0 && x.z.Members() == x.member {
		s := &x.slices[n-1]
		first := block.OutOff == s.OutOff
		if first || x.start-s.InOff < zranMaxIn/2 && out+size-s.OutOff < zranMaxOut {
			return x.checkSlice(s, out+size)
		}
	}
	if len(x.slices) > rafs.MaxChunkNumber {
		return fmt.Errorf("more than %d zran slices", rafs.MaxChunkNumber)
	}
	s := zranSlice{Point: *block}
	s.Dict = bytes.Clone(block.Dict)
	x.slices, x.member = append(x.slices, s), x.z.Members()
	return x.checkSlice(&s, out+size)
}

// checkSlice refuses a slice that decoders would refuse.
func (x *zranIndex) checkSlice(s *zranSlice, end uint64) error {
	if n := end - s.OutOff; n > rafs.MaxUnitSize {
		return fmt.Errorf("a deflate block is too long to be entered: %d bytes, limit %d", n, rafs.MaxUnitSize)
	}
	return nil
}

// end closes a chunk of size bytes and gives its place.
func (x *zranIndex) end(size uint64) place {
	out := x.z.OutOffset()
	n := len(x.slices) - 1
	s := &x.slices[n]
	used := x.z.InOffset()
	s.inLen, s.outLen = used+inflate.Slack-s.InOff, out-s.OutOff
	return place{
		off: x.start, size: uint32(min(used-x.start, rafs.MaxUnitSize-1)),
		unit: uint32(n), unitOff: uint32(out - size - s.OutOff), zran: true,
	}
}

// prune drops slices that only chunks needed which turned out to be duplicates,
// and renumbers the rest: readers want no more slices than chunks.
func (x *zranIndex) prune(set *chunkSet, chunks []uint32) {
	number := make([]uint32, len(x.slices)) // new number + 1, 0 if not used
	for _, id := range chunks {
		number[set.list[id].Unit] = 1
	}
	kept := x.slices[:0]
	for i := range x.slices {
		if number[i] != 0 {
			kept = append(kept, x.slices[i])
			number[i] = uint32(len(kept))
		}
	}
	x.slices = kept
	for _, id := range chunks {
		c := &set.list[id]
		c.Unit = number[c.Unit] - 1
	}
}

// encode is the context table and the dictionaries behind it.
func (x *zranIndex) encode() (table, dicts []byte) {
	for i := range x.slices {
		s := &x.slices[i]
		var e [rafs.ZranContextSize]byte
		le.PutUint64(e[rafs.ZranInOffAt:], s.InOff)
		le.PutUint64(e[rafs.ZranOutOffAt:], s.OutOff)
		le.PutUint64(e[rafs.ZranDictOffAt:], uint64(len(dicts)))
		le.PutUint32(e[rafs.ZranInLenAt:], uint32(s.inLen))
		le.PutUint32(e[rafs.ZranOutLenAt:], uint32(s.outLen))
		le.PutUint32(e[rafs.ZranDictSizeAt:], uint32(len(s.Dict)))
		e[rafs.ZranCtxByteAt], e[rafs.ZranCtxBitsAt] = s.Byte, s.Bits
		table, dicts = append(table, e[:]...), append(dicts, s.Dict...)
	}
	return table, dicts
}
