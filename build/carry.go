package build

import (
	"fmt"

	"vrafs/rafs"
)

// carriedBlobs refuses blob tables that mean something else in another image.
func carriedBlobs(blobs []rafs.Blob) error {
	ids := make(map[string]bool, len(blobs))
	for i := range blobs {
		b := &blobs[i]
		if b.Features.Has(rafs.BlobNoExtTable) {
			return &rafs.FormatError{Off: rafs.V5SuperExtTableAt, Field: "super.extended_blob_table", Class: rafs.ErrUnsupported,
				Why: fmt.Sprintf("none, so the sizes of blob %s are not known; convert the image again", b.ID)}
		}
		if ids[b.ID] {
			return fmt.Errorf("%w: blob %d has the id of another, %s", rafs.ErrCorrupt, i, b.ID)
		}
		ids[b.ID] = true
	}
	return nil
}

// chunkTable takes the chunks of a v6 image, whose files only refer to them.
func (l *treeLoader) chunkTable() error {
	for i := range l.im.ChunkTableLen() {
		c, err := l.im.ChunkTableEntry(i)
		if err != nil {
			return err
		}
		if err := l.m.blobs[c.Blob].CheckChunk(rafs.V6, &c); err != nil {
			return fmt.Errorf("chunk table entry %d: %w", i, err)
		}
		if _, ok := l.addChunk(c, 0); !ok {
			return fmt.Errorf("chunk table entry %d: %w", i, conflict(&c, 0))
		}
	}
	return nil
}

// addChunk gives the number of c, a new one if it was not seen before. It is false
// if there is a chunk of that name that is not the same.
func (l *treeLoader) addChunk(c rafs.Chunk, fileOff uint64) (uint32, bool) {
	key := l.m.id(&c)
	if id, ok := l.m.byID[key]; ok {
		return id, l.m.tarfs() || l.m.chunks[id].Chunk == c
	}
	id := uint32(len(l.m.chunks))
	l.m.chunks = append(l.m.chunks, chunk{c, fileOff})
	l.m.byID[key] = id
	return id, true
}

// conflict says that two records of one chunk differ; ref is the place of the second.
func conflict(c *rafs.Chunk, ref uint64) error {
	return &rafs.FormatError{Off: ref, Field: "chunk",
		Why: fmt.Sprintf("differs from another record of chunk %d of blob %d", c.Index, c.Blob)}
}

// chunks takes the chunks of a file.
func (l *treeLoader) chunks(in *inode, src *rafs.Inode) error {
	n := src.ChunkCount()
	if n == 0 || l.o.dict && l.im.Version() == rafs.V6 {
		return nil
	}
	size := uint64(l.m.chunkSize)
	if want := (in.size + size - 1) / size; n != want {
		return &rafs.FormatError{Off: src.Offset(), Field: "inode.child_count", Class: rafs.ErrUnsupported,
			Why: fmt.Sprintf("%d chunks for %d bytes, %d could be carried over", n, in.size, want)}
	}
	in.chunks = make([]uint32, 0, n)
	for k := range n {
		id, err := l.chunk(src, k)
		if err != nil {
			return err
		}
		in.chunks = append(in.chunks, id)
	}
	return nil
}

// chunk takes chunk k of a file. It must be exactly the part of the file that its
// number says: files with holes (v5) and the file in a chunk dictionary are not
// made of such chunks.
func (l *treeLoader) chunk(src *rafs.Inode, k uint64) (uint32, error) {
	c, err := src.Chunk(k)
	if err != nil {
		return 0, err
	}
	size := uint64(l.m.chunkSize)
	if l.spans, err = src.AppendSpans(l.spans[:0], k*size, size); err != nil {
		return 0, err
	}
	ref := src.ChunkRef(k)
	whole := rafs.Span{Blob: c.Blob, Len: c.Size, Index: c.Index, Off: c.Off}
	if l.im.Version() == rafs.V5 {
		whole.Ref = ref
	}
	if len(l.spans) != 1 || l.spans[0] != whole {
		return 0, &rafs.FormatError{Off: ref, Field: "chunk.file_offset", Class: rafs.ErrUnsupported,
			Why: fmt.Sprintf("chunk %d is not all of what the file has from %#x on", k, k*size)}
	}
	if l.im.Version() == rafs.V5 || l.im.Tarfs() {
		id, ok := l.addChunk(c, k*size)
		if !ok {
			return 0, conflict(&c, ref)
		}
		return id, nil
	}
	id, ok := l.m.byID[l.m.id(&c)]
	if !ok {
		return 0, fmt.Errorf("%w: chunk %d of blob %d is missing in the chunk table", rafs.ErrCorrupt, c.Index, c.Blob)
	}
	if t := &l.m.chunks[id]; t.Off != c.Off || t.Size != c.Size {
		return 0, conflict(&c, ref)
	}
	return id, nil
}

// sameBlob refuses two descriptions of one blob of which only one can be true.
// Sizes may differ: a registry's, or none in a dictionary.
func sameBlob(a, b *rafs.Blob) error {
	const data = rafs.BlobZran | rafs.BlobBatch | rafs.BlobEncrypted | rafs.BlobExternal | rafs.BlobTarfs
	if a.ChunkCount != b.ChunkCount || a.Digester != b.Digester || a.Compressor != b.Compressor || (a.Features^b.Features)&data != 0 {
		return fmt.Errorf("%w: two descriptions of blob %s: %d and %d chunks, %v and %v, %v and %v", ErrInconsistent, a.ID,
			a.ChunkCount, b.ChunkCount, a.Compressor, b.Compressor, a.Features&data, b.Features&data)
	}
	return nil
}

// sameChunk refuses c, a chunk of another image that goes into m, if it is not
// what m has of that name, or not in its blob as m describes it.
func (m *image) sameChunk(b *rafs.Blob, have, c *rafs.Chunk) error {
	switch {
	case m.tarfs(): // nothing but names
		return nil
	case *have != *c:
		return fmt.Errorf("%w: two descriptions of chunk %d of blob %s", ErrInconsistent, c.Index, b.ID)
	}
	if err := b.CheckChunk(m.version, c); err != nil {
		return fmt.Errorf("%w: chunk %d is not in blob %s as the new image has it: %w", ErrInconsistent, c.Index, b.ID, err)
	}
	return nil
}
