package build

import (
	"context"
	"fmt"
	"iter"

	"vrafs/internal/chunkread"
	"vrafs/internal/codec"
	"vrafs/rafs"
)

// A blobCopy makes a new blob of chunks that other blobs hold. Every chunk is
// verified; its stored bytes are taken over as they are where the new blob's
// compressor allows it.
type blobCopy struct {
	m   *image
	b   *builder
	enc codec.Encoder
}

// newBlobCopy opens a blob in dir with the place table in the blob table of m.
// like decides compressor and digester.
func newBlobCopy(m *image, dir string, table int, like *rafs.Blob, extra rafs.BlobFeatures) (*blobCopy, error) {
	o := Options{Version: m.version, Compressor: like.Compressor, Digester: like.Digester, ChunkSize: m.chunkSize}
	if like.Compressor == rafs.CompressorGzip {
		o.Compressor = rafs.CompressorZstd // gzip is only read
	}
	b := &builder{sink: Sink{BlobDir: dir}, o: o, set: &chunkSet{list: m.chunks},
		own: &blobOut{table: table, align: m.version == rafs.V6}}
	b.blobs = make([]rafs.Blob, table+1)
	b.blobs[table] = rafs.Blob{Index: table, ChunkSize: m.chunkSize, Compressor: o.Compressor, Digester: o.Digester,
		Features: o.features() | extra}
	var err error
	if b.blob, err = newBlobWriter(&b.sink, true); err != nil {
		return nil, err
	}
	return &blobCopy{m: m, b: b}, nil
}

// copy appends the chunks with the given numbers and moves their records to the
// new blob. r reads the blobs of src, in which the chunks still are.
func (c *blobCopy) copy(ctx context.Context, r *chunkread.Reader, src *rafs.Image, ids []uint32) error {
	err := r.Stream(ctx, 0, c.items(src, ids), func(p chunkread.Piece) error {
		return c.append(p.Tag.(uint32), &p, src.Blobs()[p.Chunk.Blob].Compressor)
	})
	if err != nil {
		return fmt.Errorf("copy chunks: %w", err)
	}
	return nil
}

// items gives the chunks as the reader wants them, with their numbers.
func (c *blobCopy) items(src *rafs.Image, ids []uint32) iter.Seq2[chunkread.Item, error] {
	return func(yield func(chunkread.Item, error) bool) {
		for _, id := range ids {
			if !yield(chunkread.Item{Chunk: c.m.chunks[id].Chunk, Tag: id}, nil) {
				return
			}
		}
	}
}

// append stores one chunk. compressor is that of the blob it comes from.
func (c *blobCopy) append(id uint32, p *chunkread.Piece, compressor rafs.Compressor) error {
	stored, compressed := p.Stored, p.Chunk.Flags&rafs.ChunkCompressed != 0
	if stored == nil || compressed && compressor != c.b.o.Compressor {
		var err error
		if stored, compressed, err = c.enc.Compress(nil, p.Data, c.b.o.Compressor); err != nil {
			return err
		}
	}
	own := c.b.own
	index, off, err := own.next(p.Chunk.Size)
	if err != nil {
		return err
	}
	n := &c.m.chunks[id].Chunk
	*n = rafs.Chunk{Blob: uint16(own.table), Index: index, Off: off, Size: p.Chunk.Size,
		CompressedOff: own.off, CompressedSize: uint32(len(stored)),
		Flags: p.Chunk.Flags & rafs.ChunkHasCRC, CRC32: p.Chunk.CRC32, Digest: p.Chunk.Digest, HasDigest: p.Chunk.HasDigest}
	if compressed {
		n.Flags |= rafs.ChunkCompressed
	}
	own.off += uint64(len(stored))
	own.chunks = append(own.chunks, id)
	return c.b.blob.write(stored)
}

// close ends the blob, gives it its name and returns its entry of the blob table.
func (c *blobCopy) close() (rafs.Blob, error) {
	c.b.set.list = c.m.chunks
	s := &sections{b: c.b, m: c.m}
	if err := s.data(); err != nil {
		c.b.blob.abort()
		return rafs.Blob{}, err
	}
	e := c.b.blobs[c.b.own.table]
	e.ID = c.b.blob.sum()
	e.MetaID = e.ID
	if err := c.b.blob.out.commit(e.ID); err != nil {
		c.b.blob.abort()
		return rafs.Blob{}, fmt.Errorf("write blob: %w", err)
	}
	return e, nil
}

// movable reports whether chunks of a blob can go to another: they have digests,
// and doing so reveals nothing.
func movable(b *rafs.Blob) bool {
	const fixed = rafs.BlobEncrypted | rafs.BlobExternal | rafs.BlobTarfs
	return b.Features&fixed == 0 && !b.LegacyStargz()
}
