// Package window reads through what shares ranges between hosts, in ranges that are the
// same on all of them.
//
//	blob      |--window 0--|--window 1--|--window 2--|--window 3--|
//	read              [.................................]
//	requests  |  edge: kept|   whole    |   whole    | edge: kept |
//
// Dragonfly shares a range only with those who ask for the very same one, and what a host
// reads first depends on what it runs. So every read is made of windows of one size,
// aligned to it, the last one too: its range goes past the end of the blob. Whole windows
// go straight to the reader; an edge is read as a whole, once for all who want it, and kept
// for a moment, since what is read next lies beside it as a rule.
//
// Where nothing shares (Options.Shared), and where a window can't be had, reads are exact
// and go to the origin.
//
// Trust: that of the back end; bytes are the caller's to verify. Memory: what is kept is
// bounded by Memory, and goes soon. Concurrency: everything may be called from any
// goroutine; Close waits for requests. Source: decision 13.
package window

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"vrafs/backend"
)

// Options say what is shared.
type Options struct {
	// Size is that of windows in bytes, not 0.
	Size uint64
	// Memory keeps edges; back ends may share it.
	Memory *Memory
	// Shared reports whether a read would go through what shares ranges.
	Shared func(ctx context.Context) bool
	// Origin says that the origin may be asked for what can't be had otherwise.
	Origin bool
}

// New wraps a back end.
func New(inner backend.Opener, o Options) backend.Opener { return &opener{inner, o} }

type opener struct {
	inner backend.Opener
	opt   Options
}

func (o *opener) Open(ctx context.Context, id string) (backend.Blob, error) {
	b, err := o.inner.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	w := &blob{Blob: b, opt: &o.opt, flights: map[uint64]*flight{}}
	w.ctx, w.cancel = context.WithCancelCause(context.Background())
	return w, nil
}

type blob struct {
	backend.Blob
	opt    *Options
	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	flights map[uint64]*flight // by number of the window
	closed  bool
}

func (b *blob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	n, err := b.ReadTo(ctx, backend.Fill(p), off, uint64(len(p)))
	return int(n), err
}

// ReadTo implements backend.Streamer.
func (b *blob) ReadTo(ctx context.Context, w io.Writer, off, n uint64) (done uint64, err error) {
	if off+n < off {
		return 0, io.ErrUnexpectedEOF
	}
	if n == 0 || backend.WantsOrigin(ctx) || !b.opt.Shared(ctx) {
		return backend.ReadTo(ctx, b.Blob, w, off, n)
	}
	for done < n && err == nil {
		var got uint64
		got, err = b.part(ctx, w, off+done, n-done)
		done += got
	}
	if err == nil || !b.opt.Origin || final(ctx, err) {
		return done, err
	}
	got, err := backend.ReadTo(backend.FromOrigin(ctx), b.Blob, w, off+done, n-done)
	return done + got, err
}

// final reports whether asking the origin is of no use: the reader has ended or wants no
// more, the blob has ended, or this was the origin's own refusal.
func final(ctx context.Context, err error) bool {
	e := (*backend.Error)(nil)
	switch {
	case ctx.Err() != nil, errors.Is(err, io.ErrUnexpectedEOF), !errors.As(err, &e):
		return true
	case e.Status == http.StatusProxyAuthRequired:
		return false
	}
	return e.Status >= 400 && e.Status < 500 && errors.Is(err, backend.ErrPermanent)
}

// part reads up to n bytes from off, as far as the window goes in which they begin.
func (b *blob) part(ctx context.Context, w io.Writer, off, n uint64) (uint64, error) {
	number, in := off/b.opt.Size, off%b.opt.Size
	n = min(n, b.opt.Size-in)
	if data, ok := b.opt.Memory.get(key{b, number}); ok {
		return write(w, data, in, n)
	}
	if n == b.opt.Size {
		return backend.ReadTo(backend.ForPeers(ctx), b.Blob, w, off, n)
	}
	data, err := b.fetch(ctx, number)
	if err != nil {
		return 0, err
	}
	return write(w, data, in, n)
}

// write gives w the n bytes of a window from in. A window that is short ends the blob.
func write(w io.Writer, data []byte, in, n uint64) (uint64, error) {
	data = data[min(in, uint64(len(data))):]
	data = data[:min(n, uint64(len(data)))]
	if len(data) > 0 {
		if k, err := w.Write(data); err != nil {
			return uint64(k), err
		}
	}
	if uint64(len(data)) < n {
		return uint64(len(data)), io.ErrUnexpectedEOF
	}
	return n, nil
}

var errClosed = fmt.Errorf("%w: blob is closed", backend.ErrPermanent)

func (b *blob) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cancel(errClosed)
	err := b.Blob.Close()
	b.wg.Wait()
	b.opt.Memory.drop(b)
	return err
}
