package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"

	"vrafs/backend"
	"vrafs/internal/httprange"
)

var (
	errDigest = errors.New("not the sha256 digest that registries name blobs by")
	errSize   = errors.New("the server does not tell the size")
	errClosed = fmt.Errorf("%w: blob is closed", backend.ErrPermanent)
)

// A blob is one blob of a repository.
type blob struct {
	r      *Registry
	id     string
	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	// target is where the registry sent us last; nil if unknown.
	target atomic.Pointer[url.URL]
	size   atomic.Pointer[uint64]
}

func (b *blob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(b.ctx, func() { cancel(errClosed) })()
	if b.ctx.Err() != nil {
		return 0, errClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	rep, err := b.read(ctx, p, off)
	if rep.Sized {
		b.size.Store(&rep.Size)
	}
	return rep.N, b.name(err)
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
	return 0, &backend.Error{Blob: b.id, Host: b.r.opt.Host, Cause: errSize, Class: backend.ErrPermanent}
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

// read takes the short way if it knows one, and else asks the registry.
func (b *blob) read(ctx context.Context, p []byte, off uint64) (httprange.Reply, error) {
	if t := b.target.Load(); t != nil {
		_, rep, err := b.r.follow(ctx, t, p, off)
		if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			return rep, err
		}
		// Whatever is wrong there: the next one asks the registry again.
		b.target.CompareAndSwap(t, nil)
		if rep.Status != http.StatusUnauthorized && rep.Status != http.StatusForbidden {
			return rep, err
		}
	}
	rep, err := b.r.ask(ctx, b.id, p, off)
	if !rep.Redirect() {
		return rep, err
	}
	t, err := b.r.redirect(b.r.url(b.id), rep.Header.Get("Location"))
	if err != nil {
		return httprange.Reply{}, err
	}
	t, rep, err = b.r.follow(ctx, t, p, off)
	if err == nil {
		b.target.Store(t)
	}
	return rep, err
}
