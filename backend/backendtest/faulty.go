package backendtest

import (
	"context"
	"io"

	"vrafs/backend"
)

// A Read is one read that a Faulty back end was asked for.
type Read struct {
	ID     string
	Off    uint64
	Len    int
	Origin bool // backend.WantsOrigin
	// Prefetch is backend.IsPrefetch at the beginning, Wanted what may change it.
	Prefetch bool
	Wanted   <-chan struct{}
}

// A Fault is what becomes of a read. The zero value lets it through.
type Fault struct {
	Err   error           // fail with it, and with no byte
	Short int             // give so many bytes less, and io.ErrUnexpectedEOF
	Flip  bool            // change one bit in each KiB
	Wait  <-chan struct{} // hold the read until it is closed or the context ends
}

// Faulty wraps a back end: fault is asked before every read, from the
// goroutines that read.
func Faulty(inner backend.Opener, fault func(Read) Fault) backend.Opener {
	return &faulty{inner, fault}
}

type faulty struct {
	inner backend.Opener
	fault func(Read) Fault
}

func (f *faulty) Open(ctx context.Context, id string) (backend.Blob, error) {
	b, err := f.inner.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	return &faultyBlob{b, id, f.fault}, nil
}

type faultyBlob struct {
	backend.Blob
	id    string
	fault func(Read) Fault
}

func (b *faultyBlob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	f := b.fault(Read{ID: b.id, Off: off, Len: len(p), Origin: backend.WantsOrigin(ctx),
		Prefetch: backend.IsPrefetch(ctx), Wanted: backend.Wanted(ctx)})
	if f.Wait != nil {
		select {
		case <-f.Wait:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	if f.Err != nil {
		return 0, f.Err
	}
	n, err := b.Blob.ReadAt(ctx, p, off)
	if f.Flip {
		for i := 0; i < n; i += 1024 {
			p[i] ^= 0x10
		}
	}
	if f.Short > 0 {
		return max(0, n-f.Short), io.ErrUnexpectedEOF
	}
	return n, err
}
