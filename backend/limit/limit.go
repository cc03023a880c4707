// Package limit bounds the bytes that are on their way from back ends at once, and
// lets reads that somebody waits for go before the others.
//
//	demand   --free?--> back end --its bytes--> the next that waits
//	prefetch --free, half of them left, and no demand in the way?--> back end
//
// Reads take their turn in the order in which they came, so that large ones are
// not passed for ever by small ones, but a prefetch (backend.IsPrefetch) only while no
// demand waits. Prefetches have at most half of the bytes, so that a demand finds room,
// and while demands are under way they come one at a time: enough to go on, too little to
// take the link from those who wait. A prefetch that is wanted meanwhile is a demand from
// then on. A read that is larger than the bound, or its half, runs alone.
//
// Trust: that of the back ends. Concurrency: everything may be called from any
// goroutine. Source: none, the bound is ours.
package limit

import (
	"context"
	"io"
	"slices"
	"sync"

	"vrafs/backend"
)

// Bytes is a bound that back ends share. Make it with New.
type Bytes struct {
	max uint64

	mu    sync.Mutex
	under [classes]share // what is under way
	queue [classes][]*waiter
}

// A class of reads.
type class uint8

const (
	demand class = iota
	prefetch
	classes
)

// A share of the bound.
type share struct {
	bytes uint64
	reads int
}

type waiter struct {
	n     uint64
	class class
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
	give, err := b.bytes.take(ctx, uint64(len(p)))
	if err != nil {
		return 0, err
	}
	defer give()
	return b.Blob.ReadAt(ctx, p, off)
}

// window is the most that is on its way of a read whose bytes are handed over while they
// come.
const window = 1 << 20

// ReadTo implements backend.Streamer.
func (b *blob) ReadTo(ctx context.Context, w io.Writer, off, n uint64) (uint64, error) {
	give, err := b.bytes.take(ctx, min(n, window))
	if err != nil {
		return 0, err
	}
	defer give()
	return backend.ReadTo(ctx, b.Blob, w, off, n)
}

// Try takes what a demand of n bytes needs that are handed over while they come, if it is
// free now and nobody waits for it. The caller gives it back.
func (b *Bytes) Try(n uint64) (give func(), ok bool) {
	w := &waiter{n: min(n, window, b.max), class: demand}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.fits(w) {
		return nil, false
	}
	b.enter(w)
	return func() { b.give(w) }, true
}

// take waits until n bytes are free, or ctx ends.
func (b *Bytes) take(ctx context.Context, n uint64) (give func(), err error) {
	w := &waiter{n: min(n, b.max), class: demand}
	if backend.IsPrefetch(ctx) {
		w.class = prefetch
	}
	b.mu.Lock()
	if b.fits(w) {
		b.enter(w)
	} else {
		w.ready = make(chan struct{})
		b.queue[w.class] = append(b.queue[w.class], w)
	}
	b.mu.Unlock()
	if w.ready == nil {
		return func() { b.give(w) }, nil
	}
	return b.wait(ctx, w)
}

// wait is take for who is in the queue.
func (b *Bytes) wait(ctx context.Context, w *waiter) (give func(), err error) {
	wanted := backend.Wanted(ctx)
	for {
		select {
		case <-w.ready:
			return func() { b.give(w) }, nil
		case <-ctx.Done():
			b.leave(w)
			return nil, context.Cause(ctx)
		case <-wanted:
			wanted = nil
			b.promote(w)
		}
	}
}

// fits reports whether w may go at once. Preconditions: mu is held.
func (b *Bytes) fits(w *waiter) bool { return len(b.queue[w.class]) == 0 && b.room(w) }

// room reports whether there is room for w, which is first of its class.
// Preconditions: mu is held.
func (b *Bytes) room(w *waiter) bool {
	if w.n > b.max-b.under[demand].bytes-b.under[prefetch].bytes {
		return false
	}
	ahead := b.under[prefetch]
	if w.class == demand || ahead.reads == 0 {
		return len(b.queue[demand]) == 0 || w.class == demand
	}
	waited := b.under[demand].reads > 0 || len(b.queue[demand]) > 0
	return !waited && w.n <= max(b.max/2, ahead.bytes)-ahead.bytes
}

// enter counts w as under way. Preconditions: mu is held.
func (b *Bytes) enter(w *waiter) {
	b.under[w.class].bytes += w.n
	b.under[w.class].reads++
}

// promote makes a demand of a prefetch that waits.
func (b *Bytes) promote(w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.remove(w) {
		w.class = demand
		b.queue[demand] = append(b.queue[demand], w)
		b.admit()
	}
}

// leave takes a waiter out of the queue, or gives back what it has got meanwhile.
func (b *Bytes) leave(w *waiter) {
	b.mu.Lock()
	waits := b.remove(w)
	b.admit()
	b.mu.Unlock()
	if !waits {
		b.give(w)
	}
}

// remove takes a waiter out of the queue if it is there. Preconditions: mu is held.
func (b *Bytes) remove(w *waiter) bool {
	q := &b.queue[w.class]
	i := slices.Index(*q, w)
	if i >= 0 {
		*q = slices.Delete(*q, i, i+1)
	}
	return i >= 0
}

func (b *Bytes) give(w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.under[w.class].bytes -= w.n
	b.under[w.class].reads--
	b.admit()
}

// admit lets in who is first, as long as there is room. Preconditions: mu is held.
func (b *Bytes) admit() {
	for c := range b.queue {
		for len(b.queue[c]) > 0 && b.room(b.queue[c][0]) {
			w := b.queue[c][0]
			b.queue[c] = slices.Delete(b.queue[c], 0, 1)
			b.enter(w)
			close(w.ready)
		}
	}
}
