package codec

import (
	"bytes"
	"fmt"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"vrafs/rafs"
)

// An Encoder compresses. The zero value is ready. One goroutine at a time.
type Encoder struct {
	lz4  lz4.Compressor
	zstd *zstd.Encoder
	gzip *gzip.Writer
	buf  []byte
}

// Compress appends the stored form of src to dst. The second result says
// whether that is compressed: if compression does not make the chunk smaller its own
// bytes are appended, as the format wants (RAFS, section 3).
func (e *Encoder) Compress(dst, src []byte, c rafs.Compressor) ([]byte, bool, error) {
	start := len(dst)
	var err error
	switch c {
	case rafs.CompressorNone:
		return append(dst, src...), false, nil
	case rafs.CompressorLZ4:
		dst, err = e.compressLZ4(dst, src)
	case rafs.CompressorGzip:
		dst, err = e.compressGzip(dst, src)
	case rafs.CompressorZstd:
		dst, err = e.compressZstd(dst, src)
	default:
		err = fmt.Errorf("compress: %v", c)
	}
	if err != nil {
		return dst[:start], false, err
	}
	if n := len(dst) - start; n == 0 || n >= len(src) {
		return append(dst[:start], src...), false, nil
	}
	return dst, true, nil
}

func (e *Encoder) compressLZ4(dst, src []byte) ([]byte, error) {
	if bound := lz4.CompressBlockBound(len(src)); cap(e.buf) < bound {
		e.buf = make([]byte, bound)
	}
	n, err := e.lz4.CompressBlock(src, e.buf[:cap(e.buf)])
	if err != nil {
		return dst, fmt.Errorf("lz4: %w", err)
	}
	return append(dst, e.buf[:n]...), nil
}

func (e *Encoder) compressZstd(dst, src []byte) ([]byte, error) {
	if e.zstd == nil {
		z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
			zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return dst, fmt.Errorf("zstd encoder: %w", err)
		}
		e.zstd = z
	}
	return e.zstd.EncodeAll(src, dst), nil
}

func (e *Encoder) compressGzip(dst, src []byte) ([]byte, error) {
	buf := bytes.NewBuffer(dst)
	if e.gzip == nil {
		w, err := gzip.NewWriterLevel(buf, gzip.DefaultCompression)
		if err != nil {
			return dst, fmt.Errorf("gzip: %w", err)
		}
		e.gzip = w
	} else {
		e.gzip.Reset(buf)
	}
	if _, err := e.gzip.Write(src); err != nil {
		return dst, fmt.Errorf("gzip: %w", err)
	}
	if err := e.gzip.Close(); err != nil {
		return dst, fmt.Errorf("gzip: %w", err)
	}
	return buf.Bytes(), nil
}
