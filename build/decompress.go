package build

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"vrafs/rafs"
)

// Magic numbers of compressed streams (RFC 1952, RFC 8878).
var (
	gzipMagic = []byte{0x1f, 0x8b, 0x08}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

// foreignMagic are the first bytes of compressions that other tools take.
var foreignMagic = []struct {
	name  string
	magic string
}{
	{"xz", "\xfd7zXZ\x00"}, {"bzip2", "BZh"}, {"lz4", "\x04\x22\x4d\x18"}, {"lzip", "LZIP"}, {"compress", "\x1f\x9d"},
}

// isZstd reports whether a stream begins with a frame of zstd, or with one that its
// decoders skip.
func isZstd(head []byte) bool {
	return bytes.HasPrefix(head, zstdMagic) || len(head) >= 4 && head[0]&0xf0 == 0x50 && string(head[1:4]) == "\x2a\x4d\x18"
}

// CompressorOf says how a layer that begins with head is stored; 4 bytes are enough.
func CompressorOf(head []byte) rafs.Compressor {
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		return rafs.CompressorGzip
	case isZstd(head):
		return rafs.CompressorZstd
	}
	return rafs.CompressorNone
}

// Decompressed gives the plain bytes of r, which may be gzip, zstd or plain. The
// first bytes decide. closeReader releases what the decoder holds.
func Decompressed(r io.Reader) (plain io.Reader, closeReader func(), err error) {
	br := bufio.NewReaderSize(r, tarBuffer)
	head, err := br.Peek(6)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	switch CompressorOf(head) {
	case rafs.CompressorGzip:
		z, err := newGzipReader(br)
		if err != nil {
			return nil, nil, err
		}
		return bufio.NewReaderSize(z, tarBuffer), func() { _ = z.z.Close() }, nil
	case rafs.CompressorZstd:
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, nil, err
		}
		return bufio.NewReaderSize(z, tarBuffer), z.Close, nil
	}
	for _, f := range foreignMagic {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			return nil, nil, fmt.Errorf("it is compressed with %s: layers are plain, gzip or zstd", f.name)
		}
	}
	return br, func() {}, nil
}

// A gzipReader reads the members of a gzip stream one after the other. As gzip does it
// passes over zeros behind the last one, which tapes and block devices leave; it
// refuses anything else.
type gzipReader struct {
	z *gzip.Reader
	r *bufio.Reader
}

func newGzipReader(r *bufio.Reader) (*gzipReader, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	return &gzipReader{z, r}, nil
}

// Read reads plain bytes.
func (g *gzipReader) Read(p []byte) (int, error) {
	for {
		n, err := g.z.Read(p)
		if n > 0 && err == io.EOF {
			err = nil // it comes again with the next read
		}
		if n > 0 || err != io.EOF {
			return n, err
		}
		switch head, err := g.r.Peek(len(gzipMagic)); {
		case err != nil && err != io.EOF:
			return 0, err
		case !bytes.HasPrefix(head, gzipMagic):
			return 0, g.padding()
		}
		if err := g.z.Reset(g.r); err != nil {
			return 0, err
		}
		g.z.Multistream(false)
	}
}

// padding reads what is behind the last member: io.EOF if it is nothing but zeros.
func (g *gzipReader) padding() error {
	for total := uint64(0); ; {
		head, _ := g.r.Peek(g.r.Buffered())
		if len(head) == 0 {
			if _, err := g.r.Peek(1); err != nil {
				return err
			}
			continue
		}
		if !isZero(head) {
			return errors.New("gzip: bytes that are no gzip stream after its end")
		}
		if total += uint64(len(head)); total > defaultTarLimits.tail {
			return fmt.Errorf("gzip: more than %d bytes of zeros after its end", defaultTarLimits.tail)
		}
		if _, err := g.r.Discard(len(head)); err != nil {
			return err
		}
	}
}
