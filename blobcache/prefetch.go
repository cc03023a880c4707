package blobcache

import (
	"context"
	"sync"
	"time"

	"vrafs/rafs"
)

// prefetchWindow bounds the chunks that one prefetch has under way.
const prefetchWindow = 64

// Prefetch is Fetch for data that nobody waits for: it yields to Fetch, keeps
// to Options.PrefetchRate, goes on after failed chunks and holds nothing. It blocks
// until done or ctx ends; the error is that of ctx or ErrClosed.
func (c *Cache) Prefetch(ctx context.Context, spans []rafs.Span) error {
	return c.prefetch(ctx, false, func(p *prefetcher) {
		for i := range spans {
			if !p.add(&spans[i]) {
				return
			}
		}
	})
}

// PrefetchBlob prefetches the chunks that are stored in the given range of a
// blob: off and size are bytes of the blob file. A size of 0 means to the end.
// Otherwise it is like Prefetch.
func (c *Cache) PrefetchBlob(ctx context.Context, blob int, off, size uint64) error {
	return c.prefetch(ctx, true, func(p *prefetcher) {
		if blob < 0 || blob >= len(c.views) || p.enter(uint16(blob)) != nil || p.o.plain {
			return
		}
		if err := p.table(); err != nil {
			c.store.warn(p.v.blob.ID, "can't be prefetched", err)
			return
		}
		for i := range rafs.ChunkIndex(p.v.blob.ChunkCount) {
			ch, err := p.v.lookup(p.t, i)
			if err != nil || ch.CompressedOff+uint64(ch.CompressedSize) <= off ||
				size != 0 && ch.CompressedOff >= off && ch.CompressedOff-off >= size {
				continue
			}
			if !p.add(spanOf(&ch)) {
				return
			}
		}
	})
}

// prefetch runs add with a window of flights.
func (c *Cache) prefetch(ctx context.Context, whole bool, add func(*prefetcher)) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	c.count.begin()
	defer c.count.end()
	p := &prefetcher{plan{c: c, ctx: ctx, whole: whole}}
	add(p)
	p.drain(0)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if c.ctx.Err() != nil {
		return ErrClosed
	}
	return nil
}

// A prefetcher is one running prefetch.
type prefetcher struct{ plan }

// add prefetches the chunk of a span; false if the prefetch has ended.
func (p *prefetcher) add(s *rafs.Span) bool {
	if p.ctx.Err() != nil || p.c.ctx.Err() != nil {
		return false
	}
	if err := p.enter(s.Blob); err != nil {
		return true
	}
	if p.o.plain || !p.o.file.usable() || !p.o.file.writable || p.o.has(s.Index) || p.table() != nil {
		return true
	}
	if len(p.waits) >= prefetchWindow && !p.drain(prefetchWindow/2) {
		return false
	}
	f, made, err := p.v.start(p.o, p.t, s, false)
	if err != nil || f == nil {
		return true
	}
	p.waits = append(p.waits, wait{nil, p.o, f})
	if !made {
		return true
	}
	p.fresh = append(p.fresh, f)
	p.c.count.prefetchChunks.Add(1)
	if p.c.store.pace.rate == 0 {
		return true
	}
	p.submit()
	return p.c.store.pace.pass(p.ctx, p.c.ctx, uint64(f.chunk.CompressedSize))
}

// drain submits what was added and waits until no more than keep are under way. It
// reports whether the prefetch should go on: not past a chunk that could not be
// stored, the next would have no place either.
func (p *prefetcher) drain(keep int) bool {
	p.submit()
	for len(p.waits) > keep {
		w := p.waits[0]
		err := p.c.await(p.ctx, w, nil)
		p.waits = p.waits[1:]
		if p.ctx.Err() != nil || p.c.ctx.Err() != nil || err == nil && w.flight.held != nil {
			return false
		}
	}
	return true
}

// A pacer is a leaky bucket over all prefetches of a store.
type pacer struct {
	rate uint64 // bytes per second; 0: no bound

	mu   sync.Mutex
	next time.Time // when the bucket is empty
}

// pass books n bytes and waits for those before them; false if a context ended.
func (p *pacer) pass(ctx, other context.Context, n uint64) bool {
	if p.rate == 0 {
		return ctx.Err() == nil
	}
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	wait := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	p.mu.Unlock()
	if wait <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-other.Done():
	}
	return false
}
