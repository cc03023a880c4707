package backendtest

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"vrafs/backend"
)

// Memory is a back end whose blobs are byte slices.
type Memory map[string][]byte

// Open implements backend.Opener.
func (m Memory) Open(_ context.Context, id string) (backend.Blob, error) {
	data, ok := m[id]
	if !ok {
		return nil, fmt.Errorf("%w: %s", backend.ErrNotFound, id)
	}
	return &memoryBlob{data: data}, nil
}

type memoryBlob struct {
	data   []byte
	closed atomic.Bool
}

func (b *memoryBlob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	switch {
	case b.closed.Load():
		return 0, fmt.Errorf("%w: blob is closed", backend.ErrPermanent)
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case off >= uint64(len(b.data)) && len(p) > 0:
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(p, b.data[min(off, uint64(len(b.data))):])
	if n < len(p) {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

func (b *memoryBlob) Size(context.Context) (uint64, error) { return uint64(len(b.data)), nil }

func (b *memoryBlob) Close() error {
	b.closed.Store(true)
	return nil
}
