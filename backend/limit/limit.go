// Package limit bounds the bytes that are on their way from back ends at once.
//
//	read of n bytes --n free?--> back end --n back--> the next that waits
//
// Reads take their turn in the order in which they came, so that large ones are
// not passed for ever by small ones. One that is larger than the bound runs alone.
//
// Trust: that of the back ends. Concurrency: everything may be called from any
// goroutine. Source: none, the bound is ours.
package limit

import (
	"context"
	"sync"

	"vrafs/backend"
)

// Bytes is a bound that back ends share. Make it with New.
type Bytes struct {
	max uint64

	mu    sync.Mutex
	used  uint64
	queue []*waiter
}

type waiter struct {
	n     uint64
	ready chan struct{}
}

// New makes a bound of max bytes, which isn't 0.
func New(max uint64) *Bytes { return &Bytes{max: max} }

// Wrap puts the reads of a back end under the bound.
func (b *Bytes) Wrap(inner backend.Opener) backend.Opener { return &limited{inner, b} }

type limited struct {
	inner backend.Opener
	bytes *Bytes
}

func (l *limited) Open(ctx context.Context, id string) (backend.Blob, error) {
	b, err := l.inner.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	return &blob{b, l.bytes}, nil
}

type blob struct {
	backend.Blob
	bytes *Bytes
}

func (b *blob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	n := min(uint64(len(p)), b.bytes.max)
	if err := b.bytes.take(ctx, n); err != nil {
		return 0, err
	}
	defer b.bytes.give(n)
	return b.Blob.ReadAt(ctx, p, off)
}

// take waits until n bytes are free, or ctx ends.
func (b *Bytes) take(ctx context.Context, n uint64) error {
	b.mu.Lock()
	if len(b.queue) == 0 && n <= b.max-b.used {
		b.used += n
		b.mu.Unlock()
		return nil
	}
	w := &waiter{n, make(chan struct{})}
	b.queue = append(b.queue, w)
	b.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		b.leave(w)
		return context.Cause(ctx)
	}
}

// leave takes a waiter out of the queue, or gives back what it has got meanwhile.
func (b *Bytes) leave(w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, q := range b.queue {
		if q == w {
			b.queue = append(b.queue[:i], b.queue[i+1:]...)
			b.admit()
			return
		}
	}
	b.used -= w.n
	b.admit()
}

func (b *Bytes) give(n uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	b.admit()
}

// admit lets in who is first, as long as there is room. Preconditions: mu is held.
func (b *Bytes) admit() {
	for len(b.queue) > 0 && b.queue[0].n <= b.max-b.used {
		w := b.queue[0]
		b.queue = b.queue[1:]
		b.used += w.n
		close(w.ready)
	}
}
