package build

import (
	"bytes"
	"context"
	"io"
	"math"

	"vrafs/backend"
	"vrafs/internal/bootload"
	"vrafs/rafs"
)

// ReadBootstrap copies the bootstrap out of b, which is either a bare bootstrap or
// a blob with an inlined one (found by its ToC or its last tar header). Errors are
// of class bootload.ErrNotImage, rafs.ErrCorrupt or rafs.ErrUnsupported.
func ReadBootstrap(ctx context.Context, b backend.Blob) ([]byte, error) {
	size, err := b.Size(ctx)
	if err != nil {
		return nil, err
	}
	r := blobReader{ctx, b}
	in, err := bootload.Extract(r, size, "")
	if err == nil {
		defer in.Close()
		return bytes.Clone(in.Bytes()), nil
	}
	head := make([]byte, min(size, 2048))
	if _, e := b.ReadAt(ctx, head, 0); e != nil || rafs.Detect(head) == 0 || size > bootload.MaxInlined {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(r, 0, int64(min(size, math.MaxInt64))))
}

// A blobReader is a backend.Blob as io.ReaderAt.
type blobReader struct {
	ctx context.Context
	b   backend.Blob
}

func (r blobReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.b.ReadAt(r.ctx, p, uint64(off))
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}
