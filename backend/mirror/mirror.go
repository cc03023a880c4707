// Package mirror reads blobs from the first of several places that has them.
//
//	read --> mirror 1 --trouble--> mirror 2 --trouble--> origin
//	            | sick: skipped       | has no such blob: skipped for a while
//
// What one place has brought stays: the next one is asked for the rest, in the same read.
// A mirror that fails several times in a row is skipped until its probe answers, or
// an interval is over. What the origin says is final; reads that want the
// origin (backend.FromOrigin) go there at once, and a second request beside a late one
// begins at the second place.
//
// Trust: that of the back ends; bytes are the caller's to verify. Concurrency: everything
// may be called from any goroutine. Source: nydusd 3.6.
package mirror

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"vrafs/backend"
)

// A Mirror is a place beside the origin.
type Mirror struct {
	Blobs backend.Opener
	// Health says whether it is used.
	Health Health
}

// A Health watches a mirror, as package health does.
type Health interface {
	// Well reports whether to ask the mirror now.
	Well() bool
	// Worked and Failed say how that went.
	Worked()
	Failed()
}

// New puts mirrors before an origin, in the order in which they are asked.
func New(origin backend.Opener, mirrors []Mirror) backend.Opener { return &opener{origin, mirrors} }

type opener struct {
	origin  backend.Opener
	mirrors []Mirror
}

// Open implements backend.Opener. A mirror that can't open the blob is left out.
func (o *opener) Open(ctx context.Context, id string) (backend.Blob, error) {
	b, err := o.origin.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	all := &blob{origin: b}
	for _, m := range o.mirrors {
		if b, err := m.Blobs.Open(ctx, id); err == nil {
			all.mirrors = append(all.mirrors, &place{Blob: b, health: m.Health})
		}
	}
	return all, nil
}

// absentFor is how long a mirror is not asked again for a blob that it hasn't.
const absentFor = time.Minute

// A place is a blob at a mirror.
type place struct {
	backend.Blob
	health Health
	absent atomic.Int64 // until then, in nanoseconds since 1970
}

type blob struct {
	origin  backend.Blob
	mirrors []*place
}

func (b *blob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	done := 0
	err := b.ask(ctx, func(b backend.Blob) error {
		n, err := b.ReadAt(ctx, p[done:], off+uint64(done))
		done += n
		return err
	})
	return done, err
}

// ReadTo implements backend.Streamer.
func (b *blob) ReadTo(ctx context.Context, w io.Writer, off, n uint64) (done uint64, err error) {
	err = b.ask(ctx, func(b backend.Blob) error {
		got, err := backend.ReadTo(ctx, b, w, off+done, n-done)
		done += got
		return err
	})
	return done, err
}

func (b *blob) Size(ctx context.Context) (size uint64, err error) {
	err = b.ask(ctx, func(b backend.Blob) (err error) {
		size, err = b.Size(ctx)
		return err
	})
	return size, err
}

// ask lets one place after the other try until one has done it.
func (b *blob) ask(ctx context.Context, try func(backend.Blob) error) error {
	skip := backend.WantsElsewhere(ctx)
	for _, m := range b.mirrors {
		if backend.WantsOrigin(ctx) || time.Now().UnixNano() < m.absent.Load() || !m.health.Well() {
			continue
		}
		if skip {
			skip = false
			continue
		}
		err := try(m.Blob)
		switch {
		case err == nil:
			m.health.Worked()
			return nil
		case ctx.Err() != nil, enough(err):
			return err
		case errors.Is(err, backend.ErrNotFound):
			m.absent.Store(time.Now().Add(absentFor).UnixNano())
		case !errors.Is(err, io.ErrUnexpectedEOF):
			m.health.Failed()
		}
	}
	return try(b.origin)
}

// enough reports whether err is from who reads and wants no more, not from a mirror:
// those tell of hosts.
func enough(err error) bool {
	e := (*backend.Error)(nil)
	return errors.Is(err, backend.ErrPermanent) && !errors.As(err, &e)
}

func (b *blob) Close() error {
	err := b.origin.Close()
	for _, m := range b.mirrors {
		err = errors.Join(err, m.Close())
	}
	return err
}
