// Package pace bounds the bytes per second that come from back ends.
//
//	prefetch --both buckets empty?--> fills both --> back end
//	demand   --that of demands empty?--> fills it, and that of all --> back end
//
// A bucket leaks at its rate; whoever finds it empty goes on at once, however much it
// fills in, so that the largest request fits under the smallest rate. A demand never waits for what
// prefetches have filled in: they wait until it has leaked, with what demands filled in
// meanwhile. A prefetch that is wanted is a demand from then on. Long reads fill in what
// they take piece by piece.
//
// Trust: that of the back ends. Concurrency: everything may be called from any goroutine.
// Source: nydusd 3.2 and 4.2, for prefetch; the bound on everything is ours.
package pace

import (
	"context"
	"io"
	"sync"
	"time"

	"vrafs/backend"
)

// Rates are in bytes per second; 0 is no bound.
type Rates struct{ All, Prefetch uint64 }

// A Pacer is a bound that back ends share. Make it with New.
type Pacer struct {
	rates Rates

	mu sync.Mutex
	// When each bucket is empty.
	demand, all, prefetch time.Time
}

// New makes a bound.
func New(r Rates) *Pacer { return &Pacer{rates: r} }

// Wrap puts the reads of a back end under the bound.
func (p *Pacer) Wrap(inner backend.Opener) backend.Opener {
	if p.rates == (Rates{}) {
		return inner
	}
	return &opener{inner, p}
}

type opener struct {
	inner backend.Opener
	p     *Pacer
}

func (o *opener) Open(ctx context.Context, id string) (backend.Blob, error) {
	b, err := o.inner.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	return &blob{b, o.p}, nil
}

type blob struct {
	backend.Blob
	p *Pacer
}

func (b *blob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	if err := b.p.wait(ctx, uint64(len(p))); err != nil {
		return 0, err
	}
	return b.Blob.ReadAt(ctx, p, off)
}

// piece is what a long read fills in at once.
const piece = 1 << 20

// ReadTo implements backend.Streamer.
func (b *blob) ReadTo(ctx context.Context, w io.Writer, off, n uint64) (uint64, error) {
	if err := b.p.wait(ctx, min(n, piece)); err != nil {
		return 0, err
	}
	if n > piece {
		d := &paced{ctx: ctx, p: b.p, w: w, left: n - piece, paid: piece}
		if from, ok := w.(io.ReaderFrom); ok {
			w = &pacedReader{d, from}
		} else {
			w = d
		}
	}
	return backend.ReadTo(ctx, b.Blob, w, off, n)
}

// wait waits until n bytes may come, or ctx ends.
func (p *Pacer) wait(ctx context.Context, n uint64) error {
	for {
		wait := p.enter(n, backend.IsPrefetch(ctx))
		if wait <= 0 {
			return nil
		}
		t := time.NewTimer(wait)
		var wanted <-chan struct{}
		if backend.IsPrefetch(ctx) {
			wanted = backend.Wanted(ctx)
		}
		select {
		case <-t.C:
		case <-wanted:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
		t.Stop()
	}
}

// enter fills n bytes in, or says how long the bucket takes to be empty.
func (p *Pacer) enter(n uint64, prefetch bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	until := p.demand
	if prefetch {
		if until = p.all; p.prefetch.After(until) {
			until = p.prefetch
		}
	}
	if wait := until.Sub(now); wait > 0 {
		return wait
	}
	fill(&p.all, now, n, p.rates.All)
	if prefetch {
		fill(&p.prefetch, now, n, p.rates.Prefetch)
	} else {
		fill(&p.demand, now, n, p.rates.All)
	}
	return 0
}

// fill adds what n bytes take to leak to the time at which a bucket is empty.
func fill(empty *time.Time, now time.Time, n, rate uint64) {
	if rate == 0 {
		return
	}
	if empty.Before(now) {
		*empty = now
	}
	*empty = empty.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
}

// A paced writer takes a long read.
type paced struct {
	ctx  context.Context
	p    *Pacer
	w    io.Writer
	left uint64 // to be filled in
	paid uint64 // filled in and not taken
}

// pay fills in the next piece when the last one is taken.
func (d *paced) pay() error {
	if d.paid > 0 || d.left == 0 {
		return nil
	}
	n := min(d.left, piece)
	if err := d.p.wait(d.ctx, n); err != nil {
		return err
	}
	d.left, d.paid = d.left-n, n
	return nil
}

func (d *paced) took(n int) { d.paid -= min(d.paid, uint64(n)) }

func (d *paced) Write(p []byte) (int, error) {
	if err := d.pay(); err != nil {
		return 0, err
	}
	n, err := d.w.Write(p)
	d.took(n)
	return n, err
}

// A pacedReader is a paced writer to one that reads itself.
type pacedReader struct {
	*paced
	from io.ReaderFrom
}

// ReadFrom implements io.ReaderFrom.
func (d *pacedReader) ReadFrom(r io.Reader) (int64, error) {
	return d.from.ReadFrom(&pacedSource{d.paced, r})
}

type pacedSource struct {
	*paced
	src io.Reader
}

func (s *pacedSource) Read(p []byte) (int, error) {
	if err := s.pay(); err != nil {
		return 0, err
	}
	n, err := s.src.Read(p)
	s.took(n)
	return n, err
}
