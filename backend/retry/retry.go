// Package retry asks a back end again after failures that another try may cure.
//
//	read --try--> error --pause, longer each time--> rest of it --try--> ...
//
// A try goes on where the last one stopped. Errors of class backend.ErrPermanent, the
// end of a blob and an ended context are final at once. Tries and their pauses
// end at Options.Total; the last of a read that somebody waits for passes by caches
// and peers (backend.FromOrigin). Nothing is remembered from read to read: the next one
// starts anew, so that a failure lasts no longer than its cause.
//
// Trust: that of the back end below. Concurrency: everything may be called from any
// goroutine. Source: nydusd 4.3.
package retry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"vrafs/backend"
)

// Options bound the tries. A zero value of a field stands for its default.
type Options struct {
	Retries int           // tries after the first; default 3
	Pause   time.Duration // before the second try, doubled each time; default 100 ms
	Max     time.Duration // longest pause; default 2 s
	Total   time.Duration // for all tries of one call, of ReadTo for each totalBytes; default 50 s
	// Count, if set, is called before every try but the first.
	Count func()
}

// New wraps a back end.
func New(inner backend.Opener, o Options) backend.Opener {
	if o.Retries == 0 {
		o.Retries = 3
	}
	setDefault(&o.Pause, 100*time.Millisecond)
	setDefault(&o.Max, 2*time.Second)
	setDefault(&o.Total, 50*time.Second)
	return &retrying{inner, o}
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

type retrying struct {
	inner backend.Opener
	opt   Options
}

func (r *retrying) Open(ctx context.Context, id string) (b backend.Blob, err error) {
	err = r.opt.do(ctx, id, r.opt.Total, func(ctx context.Context) (err error) {
		b, err = r.inner.Open(ctx, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &blob{b, id, &r.opt}, nil
}

type blob struct {
	backend.Blob
	id  string
	opt *Options
}

func (b *blob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	done := 0
	err := b.opt.do(ctx, b.id, b.opt.Total, func(ctx context.Context) error {
		n, err := b.Blob.ReadAt(ctx, p[done:], off+uint64(done))
		done += n
		return err
	})
	return done, err
}

// totalBytes is what all tries together may take Options.Total for where a read is
// longer.
const totalBytes = 1 << 20

// ReadTo implements backend.Streamer.
func (b *blob) ReadTo(ctx context.Context, w io.Writer, off, n uint64) (done uint64, err error) {
	total := b.opt.Total * time.Duration(1+min(n, 1<<40)/totalBytes)
	err = b.opt.do(ctx, b.id, total, func(ctx context.Context) error {
		got, err := backend.ReadTo(ctx, b.Blob, w, off+done, n-done)
		done += got
		return err
	})
	return done, err
}

func (b *blob) Size(ctx context.Context) (size uint64, err error) {
	err = b.opt.do(ctx, b.id, b.opt.Total, func(ctx context.Context) (err error) {
		size, err = b.Blob.Size(ctx)
		return err
	})
	return size, err
}

// prefetchRetries are enough where nobody waits: the bytes are asked for again when
// they are needed.
const prefetchRetries = 1

// errTotal ends a try that runs at the end of Options.Total.
const errTotal = backend.Timeout("no success in the time that all tries have together")

// do calls try until it succeeds or there is no point or, after total, no time in going on. The
// error is that of the last try, or of the one before it if time ran out in it; where it
// ran out in the first, while that waited for others, nothing below has named the blob id.
func (o *Options) do(ctx context.Context, id string, total time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, total, errTotal)
	defer cancel()
	var last error
	pause, left := o.Pause, o.Retries
	if backend.IsPrefetch(ctx) {
		left = min(left, prefetchRetries)
	}
	for ; ; left-- {
		if left == 0 && last != nil && !backend.IsPrefetch(ctx) {
			ctx = backend.FromOrigin(ctx)
		}
		err := try(ctx)
		if errors.Is(err, errTotal) {
			return cmp.Or(last, fmt.Errorf("blob %s: %w", id, err))
		}
		if err == nil || left == 0 || final(err) || !wait(ctx, max(jitter(pause), after(err))) {
			return err
		}
		if o.Count != nil {
			o.Count()
		}
		last = err
		pause = min(2*pause, o.Max)
	}
}

func final(err error) bool {
	return errors.Is(err, backend.ErrPermanent) || errors.Is(err, io.ErrUnexpectedEOF)
}

// jitter takes up to half off a pause, so that those who failed together do not
// come back together.
func jitter(pause time.Duration) time.Duration { return pause - rand.N(pause/2+1) }

// after is how long the server wants to be left alone.
func after(err error) time.Duration {
	if e := (*backend.Error)(nil); errors.As(err, &e) {
		return e.After
	}
	return 0
}

// wait pauses. It reports false, at once, if ctx would end during the pause.
func wait(ctx context.Context, d time.Duration) bool {
	if end, ok := ctx.Deadline(); ctx.Err() != nil || ok && time.Until(end) <= d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
