package registry

import (
	"context"
	"errors"
	"io"
	"net/url"
	"sync/atomic"

	"vrafs/backend"
	"vrafs/internal/httprange"
)

// A blob is one blob of a repository.
type blob struct {
	r  *Registry
	id string
	// target is where the registry sent us last; nil if unknown.
	target atomic.Pointer[url.URL]
}

// read takes the short way if it knows one, and else asks the registry.
func (b *blob) read(ctx context.Context, d *httprange.Dest, off uint64) (httprange.Reply, error) {
	if t := b.target.Load(); t != nil {
		_, rep, err := b.r.follow(ctx, t, d, off)
		if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			return rep, err
		}
		// Whatever is wrong there: the next one asks the registry again. So does this
		// one after a refusal. It may mean the link, which has ended: some storages
		// answer 400 or 404 then.
		b.target.CompareAndSwap(t, nil)
		if !errors.Is(err, backend.ErrPermanent) {
			return rep, err
		}
	}
	rep, err := b.r.ask(ctx, b.id, d, off)
	if !rep.Redirect() {
		return rep, err
	}
	t, err := b.r.redirect(b.r.url(b.id), rep.Header.Get("Location"))
	if err != nil {
		return httprange.Reply{}, err
	}
	t, rep, err = b.r.follow(ctx, t, d, off)
	if err == nil {
		b.target.Store(t)
	}
	return rep, err
}
