package codec

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"vrafs/rafs"
)

// maxZstdWindow is the largest window a frame may ask for: what zstd -22 needs.
// Chunks are decoded straight into their destination, so the window costs nothing.
const maxZstdWindow = 1 << 27

// A Decoder decompresses. The zero value is ready; it keeps its state between
// calls so that decoding a chunk allocates nothing, gzip's code tables aside. One
// goroutine at a time.
type Decoder struct {
	zstd    *zstd.Decoder
	inflate io.ReadCloser // also a flate.Resetter
	in      bytes.Reader
	joined  []byte // zran: artificial prefix and input
}

// Decompress fills dst, whose length is the exact uncompressed size, from src.
// Input that gives fewer bytes is an error of class ErrData, and so is input
// that gives more, except for gzip: there the first len(dst) bytes count, since
// the stored size of eStargz chunks is only an upper bound.
func (d *Decoder) Decompress(dst, src []byte, c rafs.Compressor) error {
	if len(dst) == 0 {
		return fmt.Errorf("%w: empty chunk", ErrData)
	}
	switch c {
	case rafs.CompressorNone:
		if len(src) != len(dst) {
			return fmt.Errorf("%w: %d stored bytes for %d", ErrData, len(src), len(dst))
		}
		copy(dst, src)
		return nil
	case rafs.CompressorLZ4:
		return decompressLZ4(dst, src)
	case rafs.CompressorGzip:
		return d.decompressGzip(dst, src)
	case rafs.CompressorZstd:
		return d.decompressZstd(dst, src)
	}
	return fmt.Errorf("%w: %v", ErrData, c)
}

func decompressLZ4(dst, src []byte) error {
	n, err := lz4.UncompressBlock(src, dst)
	if err != nil {
		return fmt.Errorf("%w: lz4: %v", ErrData, err)
	}
	if n != len(dst) {
		return fmt.Errorf("%w: lz4: %d bytes of %d", ErrData, n, len(dst))
	}
	return nil
}

func (d *Decoder) decompressZstd(dst, src []byte) error {
	if d.zstd == nil {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return fmt.Errorf("zstd decoder: %w", err)
		}
		d.zstd = z
	}
	out, err := d.zstd.DecodeAll(src, dst[:0:len(dst)])
	if err != nil {
		return fmt.Errorf("%w: zstd: %v", ErrData, err)
	}
	if len(out) != len(dst) {
		return fmt.Errorf("%w: zstd: %d bytes of %d", ErrData, len(out), len(dst))
	}
	if &out[0] != &dst[0] {
		copy(dst, out)
	}
	return nil
}

// startInflate points the shared inflater at d.in with the given window.
func (d *Decoder) startInflate(dict []byte) error {
	if d.inflate == nil {
		d.inflate = flate.NewReaderDict(&d.in, dict)
		return nil
	}
	r, ok := d.inflate.(flate.Resetter)
	if !ok {
		return fmt.Errorf("%w: inflater cannot be reset", ErrData)
	}
	return r.Reset(&d.in, dict)
}

// DecompressLimit decompresses src, whose uncompressed size is not known, to at
// most limit bytes in a new slice. More output is an error of class ErrData.
func (d *Decoder) DecompressLimit(src []byte, c rafs.Compressor, limit int) ([]byte, error) {
	switch c {
	case rafs.CompressorNone:
		if len(src) > limit {
			return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrData, len(src), limit)
		}
		return bytes.Clone(src), nil
	case rafs.CompressorLZ4:
		return lz4Limit(src, limit)
	case rafs.CompressorGzip, rafs.CompressorZstd:
		return d.streamLimit(src, c, limit)
	}
	return nil, fmt.Errorf("%w: %v", ErrData, c)
}

// lz4Limit decodes a block without its size by doubling the destination. A
// block cannot expand more than 255 times, so that is where doubling ends.
func lz4Limit(src []byte, limit int) ([]byte, error) {
	most := min(uint64(limit), 255*uint64(len(src)))
	for size := min(most, 4*uint64(len(src))+64); ; size = min(most, 2*size) {
		dst := make([]byte, size)
		n, err := lz4.UncompressBlock(src, dst)
		if err == nil {
			return dst[:n], nil
		}
		if size == most {
			return nil, fmt.Errorf("%w: lz4: %v", ErrData, err)
		}
	}
}

func (d *Decoder) streamLimit(src []byte, c rafs.Compressor, limit int) ([]byte, error) {
	d.in.Reset(src)
	defer d.in.Reset(nil)
	var r io.Reader
	switch c {
	case rafs.CompressorZstd:
		z, err := zstd.NewReader(&d.in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, fmt.Errorf("%w: zstd: %v", ErrData, err)
		}
		defer z.Close()
		r = z
	default:
		if err := skipGzipHeader(&d.in); err != nil {
			return nil, err
		}
		if err := d.startInflate(nil); err != nil {
			return nil, err
		}
		r = d.inflate
	}
	var out bytes.Buffer
	n, err := out.ReadFrom(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %v", ErrData, c, err)
	}
	if n > int64(limit) {
		return nil, fmt.Errorf("%w: %v: more than %d bytes", ErrData, c, limit)
	}
	return out.Bytes(), nil
}
