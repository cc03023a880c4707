// Package hedge asks a second time for what is late.
//
//	read --> first request ------ no byte for long ------> second request
//	              |                                              |
//	              +--> whoever has the next byte goes on <-------+
//	                   the other is cancelled
//
// Late is a request whose first byte takes longer than that of 19 in 20 recent ones, or
// that stops for long in the middle. The second one asks for what is missing, by another
// way if there is one (backend.Elsewhere). Second requests are few: one for each twenty
// reads, and only while nobody else waits for the bytes in flight. There is one at
// most for each read, and none for a prefetch as long as nobody waits for it.
//
// Trust: that of the back end. Bytes are handed on as they come, from one request at a
// time. Concurrency: everything may be called from any goroutine; no request outlives
// its read. Source: Dean and Barroso, "The Tail at Scale", section "Hedged requests".
package hedge

import (
	"cmp"
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"vrafs/backend"
)

// Options say when a request is late. A zero value of a field stands for its default.
type Options struct {
	// Min and Max bound what counts as late for the first byte; default 50 ms and 2 s.
	// First is what counts so before enough is known; default 1 s.
	Min, Max, First time.Duration
	// Gap is how long a request that has begun may stop at least; default 500 ms.
	Gap time.Duration
	// Share is the reads for each second request; default 20.
	Share int
	// Room takes n bytes of a bound on what is under way, if they are free; nil: there
	// is no bound.
	Room func(n uint64) (give func(), ok bool)
}

// A Hedger is the budget of second requests that back ends share. Make it with New.
type Hedger struct {
	opt Options

	mu     sync.Mutex
	credit int // Share for each second request that may be sent

	sent, won atomic.Uint64
}

// maxCredit is how many second requests may be sent at once after a quiet time.
const maxCredit = 10

// New makes a budget.
func New(o Options) *Hedger {
	o.Min = cmp.Or(o.Min, 50*time.Millisecond)
	o.Max = cmp.Or(o.Max, 2*time.Second)
	o.First = cmp.Or(o.First, time.Second)
	o.Gap = cmp.Or(o.Gap, 500*time.Millisecond)
	o.Share = cmp.Or(o.Share, 20)
	if o.Room == nil {
		o.Room = func(uint64) (func(), bool) { return func() {}, true }
	}
	return &Hedger{opt: o, credit: o.Share}
}

// Stats are counters of a Hedger.
type Stats struct {
	Sent uint64 // second requests
	Won  uint64 // of them, those whose bytes were used
}

// Stats gives the counters; those of a nil Hedger are zero.
func (h *Hedger) Stats() Stats {
	if h == nil {
		return Stats{}
	}
	return Stats{Sent: h.sent.Load(), Won: h.won.Load()}
}

// Wrap hedges the reads of a back end.
func (h *Hedger) Wrap(inner backend.Opener) backend.Opener {
	return &opener{inner: inner, h: h, times: &times{}}
}

type opener struct {
	inner backend.Opener
	h     *Hedger
	times *times
}

func (o *opener) Open(ctx context.Context, id string) (backend.Blob, error) {
	b, err := o.inner.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	return &blob{b, o}, nil
}

type blob struct {
	backend.Blob
	o *opener
}

func (b *blob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	n, err := b.ReadTo(ctx, backend.Fill(p), off, uint64(len(p)))
	return int(n), err
}

// ReadTo implements backend.Streamer.
func (b *blob) ReadTo(ctx context.Context, w io.Writer, off, n uint64) (uint64, error) {
	if n == 0 || backend.WantsOrigin(ctx) || backend.IsPrefetch(ctx) && backend.Wanted(ctx) == nil {
		return backend.ReadTo(ctx, b.Blob, w, off, n)
	}
	b.o.h.earn()
	r := &race{b: b, w: w, off: off, n: n, begin: time.Now()}
	return r.run(ctx)
}

// earn counts a read.
func (h *Hedger) earn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.credit = min(h.credit+1, maxCredit*h.opt.Share)
}

// spend takes what a second request for n bytes costs.
func (h *Hedger) spend(n uint64) (give func(), ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.credit < h.opt.Share {
		return nil, false
	}
	if give, ok = h.opt.Room(n); ok {
		h.credit -= h.opt.Share
		h.sent.Add(1)
	}
	return give, ok
}
