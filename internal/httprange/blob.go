package httprange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"vrafs/backend"
)

var (
	errSize   = errors.New("the server does not tell the size")
	errClosed = fmt.Errorf("%w: blob is closed", backend.ErrPermanent)
)

// A Reader reads a range of one blob, as Client.Range does.
type Reader func(ctx context.Context, d *Dest, off uint64) (Reply, error)

// NewBlob makes a blob of a way to read it. Its errors name the blob by id; host is for
// those without an answer.
func NewBlob(id, host string, read Reader) backend.Blob {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &blob{id: id, host: host, read: read, ctx: ctx, cancel: cancel}
}

type blob struct {
	id, host string
	read     Reader
	ctx      context.Context // ends with Close
	cancel   context.CancelCauseFunc
	size     atomic.Pointer[uint64]
}

func (b *blob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	n, err := b.get(ctx, Into(p), off)
	return int(n), err
}

// ReadTo implements backend.Streamer.
func (b *blob) ReadTo(ctx context.Context, w io.Writer, off, n uint64) (uint64, error) {
	return b.get(ctx, To(w, n), off)
}

func (b *blob) get(ctx context.Context, d *Dest, off uint64) (uint64, error) {
	if b.ctx.Err() != nil {
		return 0, errClosed
	}
	if d.want == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(b.ctx, func() { cancel(errClosed) })()
	rep, err := b.read(ctx, d, off)
	if rep.Sized {
		size := rep.Size // alone: a pointer into rep would keep its headers
		b.size.Store(&size)
	}
	return d.done, b.name(err)
}

func (b *blob) Size(ctx context.Context) (uint64, error) {
	if n := b.size.Load(); n != nil {
		return *n, nil
	}
	if _, err := b.ReadAt(ctx, make([]byte, 1), 0); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, err
	}
	if n := b.size.Load(); n != nil {
		return *n, nil
	}
	return 0, &backend.Error{Blob: b.id, Host: b.host, Cause: errSize, Class: backend.ErrPermanent}
}

func (b *blob) Close() error {
	b.cancel(errClosed)
	return nil
}

// name puts the blob's id into an error.
func (b *blob) name(err error) error {
	e := (*backend.Error)(nil)
	if !errors.As(err, &e) {
		return err
	}
	named := *e
	named.Blob = b.id
	return &named
}
