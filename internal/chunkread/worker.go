package chunkread

import (
	"context"
	"errors"
	"fmt"
	"io"

	"vrafs/internal/codec"
	"vrafs/rafs"
)

// A request is a chunk with everything a worker needs to read it.
type request struct {
	blob  *blob
	chunk rafs.Chunk
	zran  rafs.ZranContext // of zran chunks
}

// request prepares a resolved chunk for the workers.
func (r *Reader) request(c rafs.Chunk) (request, error) {
	q := request{blob: r.blobs[c.Blob], chunk: c}
	if c.Flags&(rafs.ChunkZran|rafs.ChunkBatch) == 0 {
		return q, nil
	}
	if c.UnitSize == 0 {
		return q, fmt.Errorf("%w: blob %s has no blob.meta to find chunk %d", rafs.ErrUnsupported, q.blob.info.ID, c.Index)
	}
	var err error
	if c.Flags&rafs.ChunkZran != 0 {
		q.zran, err = q.blob.meta.Zran(c.Unit)
	}
	return q, err
}

// A worker decodes chunks. It keeps the last unit it unpacked, since neighbours
// mostly share it.
type worker struct {
	dec    codec.Decoder
	raw    []byte // stored bytes of a unit
	unit   []byte
	of     *blob // whose unit is in unit; nil: none
	number uint32
}

// read fills the piece of s and proves it.
func (w *worker) read(ctx context.Context, s *slot) error {
	q, c := &s.req, &s.req.chunk
	s.buf = grow(s.buf, int(c.Size))
	s.piece.Data = s.buf
	var err error
	if c.UnitSize != 0 {
		err = w.slice(ctx, q, s.buf)
	} else {
		err = w.whole(ctx, s)
	}
	if err == nil {
		err = prove(q, s.buf)
	}
	if err != nil {
		return fmt.Errorf("chunk %d of blob %s, %d bytes at %#x: %w", c.Index, q.blob.info.ID, c.CompressedSize, c.CompressedOff, err)
	}
	return nil
}

func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// whole reads an ordinary chunk.
func (w *worker) whole(ctx context.Context, s *slot) error {
	q := &s.req
	if q.blob.xts == nil && q.chunk.Flags&rafs.ChunkCompressed == 0 {
		s.piece.Stored = s.buf
		_, err := q.blob.data.ReadAt(ctx, s.buf, q.chunk.CompressedOff)
		return err
	}
	var err error
	if s.raw, s.piece.Stored, err = fetch(ctx, q, s.raw); err != nil {
		return err
	}
	return w.decode(q, s.piece.Stored, s.buf, q.chunk.Flags&rafs.ChunkCompressed != 0)
}

// slice reads a part of a batch or zran unit.
func (w *worker) slice(ctx context.Context, q *request, dst []byte) error {
	c := &q.chunk
	if w.of != q.blob || w.number != c.Unit || len(w.unit) != int(c.UnitSize) {
		w.of = nil
		raw, p, err := fetch(ctx, q, w.raw)
		if err != nil {
			return err
		}
		w.raw, w.unit = raw, grow(w.unit, int(c.UnitSize))
		if c.Flags&rafs.ChunkZran != 0 {
			z := codec.ZranContext{Byte: q.zran.CtxByte, Bits: q.zran.CtxBits, Dict: q.zran.Dict}
			err = w.dec.Zran(w.unit, p, z)
		} else {
			err = w.decode(q, p, w.unit, len(p) != len(w.unit)) // of the plaintext: encryption may pad
		}
		if err != nil {
			return err
		}
		w.of, w.number = q.blob, c.Unit
	}
	copy(dst, w.unit[c.UnitOff:])
	return nil
}

// fetch reads the stored bytes of a chunk or its unit into raw, which it may have
// to make larger, and decrypts them.
func fetch(ctx context.Context, q *request, raw []byte) (memory, stored []byte, err error) {
	raw = grow(raw, int(q.chunk.CompressedSize))
	n, err := q.blob.data.ReadAt(ctx, raw, q.chunk.CompressedOff)
	if q.blob.info.LegacyStargz() && n > 0 && errors.Is(err, io.ErrUnexpectedEOF) {
		return raw, raw[:n], nil // the stored size is an upper bound
	}
	if err != nil {
		return raw, nil, err
	}
	if q.blob.xts == nil {
		return raw, raw, nil
	}
	stored, err = q.blob.xts.Decrypt(raw)
	return raw, stored, err
}

func (w *worker) decode(q *request, p, dst []byte, compressed bool) error {
	if compressed {
		return w.dec.Decompress(dst, p, q.blob.info.Compressor)
	}
	if len(p) != len(dst) {
		return fmt.Errorf("%w: %d stored bytes for %d", codec.ErrData, len(p), len(dst))
	}
	copy(dst, p)
	return nil
}

// prove compares digest and CRC where the image has them; Resolve has seen to it
// that a missing digest is allowed.
func prove(q *request, p []byte) error {
	c := &q.chunk
	if c.HasDigest {
		if got := codec.Sum(q.blob.info.Digester, p); got != c.Digest {
			return fmt.Errorf("%w: %v, the image says %v", ErrDigest, got, c.Digest)
		}
	}
	if c.Flags&rafs.ChunkHasCRC != 0 {
		if got := codec.CRC32C(p); got != c.CRC32 {
			return fmt.Errorf("%w: CRC %08x, the image says %08x", ErrDigest, got, c.CRC32)
		}
	}
	return nil
}
