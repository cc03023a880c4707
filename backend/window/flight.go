package window

import (
	"bytes"
	"context"
	"errors"
	"io"

	"vrafs/backend"
)

// A flight is the fetching of one window for all who wait for it.
type flight struct {
	done chan struct{}
	data []byte // after done
	err  error  // after done

	// Guarded by blob.mu.
	waiters int
	wanted  chan struct{} // closed when one of them is no prefetch; nil from the start
	cancel  context.CancelCauseFunc
}

// errLeft ends a request that nobody waits for any more.
var errLeft = errors.New("nobody waits any more")

// fetch gives the bytes of a window, fewer where the blob ends.
func (b *blob) fetch(ctx context.Context, number uint64) ([]byte, error) {
	f, err := b.join(ctx, number)
	if err != nil {
		return nil, err
	}
	defer b.leave(number, f)
	var wanted <-chan struct{}
	if backend.IsPrefetch(ctx) {
		wanted = backend.Wanted(ctx)
	}
	for {
		select {
		case <-f.done:
			return f.data, f.err
		case <-wanted:
			wanted = nil
			b.want(f)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// join waits along for the flight of a window, which is started if there is none.
func (b *blob) join(ctx context.Context, number uint64) (*flight, error) {
	prefetch := backend.IsPrefetch(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errClosed
	}
	if f := b.flights[number]; f != nil {
		f.waiters++
		if !prefetch {
			f.want()
		}
		return f, nil
	}
	f := &flight{done: make(chan struct{}), waiters: 1}
	own := backend.ForPeers(b.ctx)
	if prefetch {
		f.wanted = make(chan struct{})
		own = backend.ForPrefetchUntil(own, f.wanted)
	}
	own, f.cancel = context.WithCancelCause(own)
	b.flights[number] = f
	b.wg.Go(func() { b.run(own, number, f) })
	return f, nil
}

// run is the flight.
func (b *blob) run(ctx context.Context, number uint64, f *flight) {
	data := make([]byte, b.opt.Size)
	n, err := b.Blob.ReadAt(ctx, data, number*b.opt.Size)
	if n == len(data) || errors.Is(err, io.ErrUnexpectedEOF) {
		if f.data = data; n < len(data) {
			f.data = bytes.Clone(data[:n]) // what is kept has no room that isn't counted
		}
		b.opt.Memory.put(key{b, number}, f.data)
	} else {
		f.err = err
	}
	b.mu.Lock()
	if b.flights[number] == f {
		delete(b.flights, number)
	}
	b.mu.Unlock()
	f.cancel(nil)
	close(f.done)
}

// leave ends one wait for a flight. After the last one it goes down.
func (b *blob) leave(number uint64, f *flight) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		if b.flights[number] == f {
			delete(b.flights, number)
		}
		f.cancel(errLeft)
	}
}

// want says that somebody waits for a flight.
func (b *blob) want(f *flight) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f.want()
}

// want is that with mu held.
func (f *flight) want() {
	if f.wanted != nil {
		close(f.wanted)
		f.wanted = nil
	}
}
