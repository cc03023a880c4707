package build

import (
	"fmt"

	"vrafs/rafs"
)

// A chunk is one distinct chunk of the image being built.
type chunk struct {
	rafs.Chunk
	fileOff uint64 // in the file that first used it
}

// A chunkSet holds all chunks that files of the image refer to, and finds them
// by digest. It belongs to the sequencing goroutine while a pipeline runs.
type chunkSet struct {
	list   []chunk
	byHash map[rafs.Digest]uint32

	adopted  map[chunkID]uint32         // chunks of the parent
	dict     map[rafs.Digest]rafs.Chunk // chunks of the dictionary, with its blob numbers
	dictUse  func(rafs.Chunk) (rafs.Chunk, error)
	dictUsed map[rafs.Digest]uint32
}

func newChunkSet() *chunkSet {
	return &chunkSet{byHash: map[rafs.Digest]uint32{}, dictUsed: map[rafs.Digest]uint32{}}
}

// find looks for a chunk of the same digest and size, in the dictionary first
// (rafs.md 6.4). External chunks have no digest and are never shared.
func (s *chunkSet) find(d rafs.Digest, size uint32, fileOff uint64) (uint32, bool, error) {
	if i, ok := s.dictUsed[d]; ok && s.list[i].Size == size {
		return i, true, nil
	}
	if c, ok := s.dict[d]; ok && c.Size == size {
		c, err := s.dictUse(c)
		if err != nil {
			return 0, false, err
		}
		i, ok := s.adopted[chunkID{blob: c.Blob, index: c.Index}]
		if !ok {
			i = s.add(c, fileOff)
		}
		s.dictUsed[d] = i
		return i, true, nil
	}
	if i, ok := s.byHash[d]; ok && s.list[i].Size == size {
		return i, true, nil
	}
	return 0, false, nil
}

// add appends a chunk and returns its number.
func (s *chunkSet) add(c rafs.Chunk, fileOff uint64) uint32 {
	i := uint32(len(s.list))
	s.list = append(s.list, chunk{c, fileOff})
	if c.HasDigest && !c.Digest.IsZero() {
		if _, ok := s.byHash[c.Digest]; !ok {
			s.byHash[c.Digest] = i
		}
	}
	return i
}

// adopt appends a chunk of the parent, whose number must stay. It is shared with
// new files if share is set: their digests must be comparable.
func (s *chunkSet) adopt(c chunk, share bool) {
	if share {
		s.add(c.Chunk, c.fileOff)
	} else {
		s.list = append(s.list, c)
	}
}

// useDict makes the chunks of a dictionary known. use makes one of them a chunk of
// the new image; it is asked at the first use of a chunk.
func (s *chunkSet) useDict(dict *image, d rafs.Digester, use func(rafs.Chunk) (rafs.Chunk, error)) {
	s.dict, s.dictUse = make(map[rafs.Digest]rafs.Chunk, len(dict.chunks)), use
	for i := range dict.chunks {
		c := dict.chunks[i].Chunk
		if _, ok := s.dict[c.Digest]; !ok && c.HasDigest && !c.Digest.IsZero() && dict.blobs[c.Blob].Digester == d {
			s.dict[c.Digest] = c
		}
	}
}

// A blobOut is the data blob that a build writes.
type blobOut struct {
	table   int // place in the blob table, -1 while it has no chunk
	chunks  []uint32
	off     uint64 // stored bytes so far: the next compressed offset
	uoff    uint64 // next uncompressed offset
	align   bool
	batches []batchContext
}

// A batchContext describes one flushed batch (rafs.md 4.6).
type batchContext struct{ compressed, uncompressed uint32 }

// next allots an index and an uncompressed range.
func (o *blobOut) next(size uint32) (rafs.ChunkIndex, uint64, error) {
	if len(o.chunks) > rafs.MaxChunkNumber {
		return 0, 0, fmt.Errorf("%w: more than %d chunks in one blob", ErrSource, rafs.MaxChunkNumber+1)
	}
	off := o.uoff
	if o.align {
		off = alignUp(off, rafs.V6Align)
	}
	if off > rafs.V6MaxUncompressed-uint64(size) {
		return 0, 0, fmt.Errorf("%w: more than 2^44 bytes in one blob", ErrSource)
	}
	o.uoff = off + uint64(size)
	return rafs.ChunkIndex(len(o.chunks)), off, nil
}

func alignUp(n, a uint64) uint64 { return (n + a - 1) &^ (a - 1) }
