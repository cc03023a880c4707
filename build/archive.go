package build

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"vrafs/internal/inflate"
	"vrafs/rafs"
)

// An archive is a source whose data stays where it is: the image refers to a tar
// or a tar.gz (ref types), or to the tar that is stored as it came (tarfs).
type archive struct {
	name  string // if it is known beforehand
	sum   hash.Hash
	size  uint64     // bytes read, or known beforehand
	index *zranIndex // of a gzip stream, else nil
}

// open gives the plain tar and keeps account of the bytes of the source.
func (a *archive) open(src Source, out *blobWriter) (io.Reader, error) {
	a.sum = sha256.New()
	var raw io.Reader = &accounted{src.r, a}
	if src.typ == TypeTarfs {
		raw = io.TeeReader(raw, writerFunc(out.write))
	}
	br := bufio.NewReaderSize(raw, tarBuffer)
	head, err := br.Peek(len(zstdMagic))
	switch {
	case err != nil && err != io.EOF:
		return nil, err
	case isZstd(head):
		return nil, errors.New("a zstd stream cannot be referred to")
	case !bytes.HasPrefix(head, gzipMagic):
		return br, nil
	case src.typ == TypeTarfs:
		return nil, errors.New("tarfs needs a plain tar")
	}
	a.index = &zranIndex{z: inflate.NewReader(br)}
	return a.index.z, nil
}

// id is the name of the archive or its digest; then it must be read to its end.
func (a *archive) id() string {
	if a.name != "" {
		return a.name
	}
	return hex.EncodeToString(a.sum.Sum(nil))
}

// locate runs read, which reads the next size bytes of the tar, at off, and says
// where they are stored.
func (a *archive) locate(off, size uint64, read func() error) (*place, error) {
	if a.index == nil {
		return &place{off: off, size: uint32(size)}, read()
	}
	if err := a.index.begin(size); err != nil {
		return nil, err
	}
	if err := read(); err != nil {
		return nil, err
	}
	at := a.index.end(size)
	return &at, nil
}

// refer makes the chunks of a file in a tarfs image: they have no digests and lie
// in the tar itself (rafs.md 4.12).
func (s *tarSource) refer(e *tarEntry, in *inode) error {
	if e.isSparse {
		return s.t.errAt(e.off, "%q is sparse, which cannot be referred to", e.name)
	}
	b := s.b
	if b.own.table < 0 {
		var err error
		if b.own.table, err = b.ownBlob(); err != nil {
			return err
		}
	}
	for off := uint64(0); off < e.size; off += uint64(b.o.ChunkSize) {
		if len(b.own.chunks) > rafs.MaxChunkNumber {
			return fmt.Errorf("%w: more than %d chunks in one blob", ErrSource, rafs.MaxChunkNumber+1)
		}
		at, size := e.dataOff+off, uint32(min(uint64(b.o.ChunkSize), e.size-off))
		id := b.set.add(rafs.Chunk{
			Blob: uint16(b.own.table), Index: rafs.ChunkIndex(len(b.own.chunks)),
			Off: at, Size: size, CompressedOff: at, CompressedSize: size,
		}, off)
		b.own.chunks = append(b.own.chunks, id)
		in.chunks = append(in.chunks, id)
	}
	b.res.DataSize += e.size
	return nil
}

// accounted counts and hashes what is read.
type accounted struct {
	r io.Reader
	a *archive
}

func (c *accounted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.a.sum.Write(p[:n])
	c.a.size += uint64(n)
	return n, err
}

type writerFunc func([]byte) error

func (f writerFunc) Write(p []byte) (int, error) {
	if err := f(p); err != nil {
		return 0, err
	}
	return len(p), nil
}
