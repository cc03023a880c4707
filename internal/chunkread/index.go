package chunkread

import (
	"fmt"

	"vrafs/rafs"
)

// An Index completes chunks from the bootstrap alone: 4 bytes of memory per chunk.
type Index struct {
	im     *rafs.Image
	tables []*rafs.ChunkIndexTable // by blob, made at first use
}

// NewIndex makes an empty Index.
func NewIndex(im *rafs.Image) *Index {
	return &Index{im: im, tables: make([]*rafs.ChunkIndexTable, len(im.Blobs()))}
}

// Table is the index of blob i.
func (x *Index) Table(i uint16) (*rafs.ChunkIndexTable, error) {
	if int(i) >= len(x.tables) {
		return nil, fmt.Errorf("%w: blob %d of %d", rafs.ErrCorrupt, i, len(x.tables))
	}
	if x.tables[i] == nil {
		t, err := x.im.BuildIndex(int(i), make([]byte, x.im.IndexBytes(int(i))))
		if err != nil {
			return nil, err
		}
		x.tables[i] = t
	}
	return x.tables[i], nil
}

// Complete adds what Inode.Chunk doesn't know of a v6 chunk: stored place, digest,
// flags. For batch and zran chunks the stored place is that of their unit, which
// only blob.meta knows.
func (x *Index) Complete(c rafs.Chunk) (rafs.Chunk, error) {
	if x.im.Version() == rafs.V5 {
		return c, nil
	}
	t, err := x.Table(c.Blob)
	if err != nil {
		return c, err
	}
	if x.im.Tarfs() {
		c.CompressedOff, c.CompressedSize = c.Off, c.Size
		return c, nil
	}
	full, ok := t.Chunk(c.Index)
	if !ok {
		return c, fmt.Errorf("%w: chunk %d of blob %d is not in the chunk table", rafs.ErrCorrupt, c.Index, c.Blob)
	}
	if full.Off != c.Off || full.Size != c.Size {
		return c, fmt.Errorf("%w: chunk %d of blob %d: a file has %d bytes at %#x, the chunk table %d at %#x",
			rafs.ErrCorrupt, c.Index, c.Blob, c.Size, c.Off, full.Size, full.Off)
	}
	return full, nil
}
