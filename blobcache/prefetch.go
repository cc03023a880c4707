package blobcache

import (
	"context"
	"iter"

	"vrafs/rafs"
)

// prefetchWindow bounds the chunks that one prefetch has under way: as far as its
// requests see neighbours.
const prefetchWindow = 1024

// A Prefetch fetches what nobody waits for yet. It yields to Fetch, keeps to
// Options.PrefetchRate, goes on after failed chunks and holds nothing. Its methods are
// for one goroutine.
type Prefetch struct {
	plan
	urgency Urgency
	done    func(bytes uint64)
	ended   bool   // a chunk could not be stored: the next would have no place either
	stream  uint64 // flights are part of a pass that goes on to this byte
}

// Prefetch runs feed, which gives chunks to the Prefetch in the order in which they
// shall come, and waits for them. It blocks until they are there, or given up, or ctx
// ends; the error is that of ctx or ErrClosed. done, if not nil, is called with the
// bytes of spans that are there or given up.
//
// The image's metadata are read on the caller's goroutine, which must be ready for a
// fault where the bootstrap is a mapping that can be cut short.
func (c *Cache) Prefetch(ctx context.Context, u Urgency, done func(bytes uint64), feed func(*Prefetch)) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	c.count.begin()
	defer c.count.end()
	if done == nil {
		done = func(uint64) {}
	}
	p := &Prefetch{plan: plan{c: c, ctx: ctx}, urgency: min(u, Soon), done: done}
	feed(p)
	p.drain(0)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if c.ctx.Err() != nil {
		return ErrClosed
	}
	return nil
}

// PausePrefetch keeps prefetches from asking for more, until it is called with false.
// What is under way comes to its end, and what somebody waits for comes all the same.
func (c *Cache) PausePrefetch(pause bool) {
	s := c.store.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	c.paused = pause
	s.wake()
}

// Add has the chunks of spans prefetched. It blocks while too many are under way, and
// reports whether the prefetch goes on.
func (p *Prefetch) Add(spans []rafs.Span) bool {
	for i := range spans {
		if !p.add(&spans[i]) {
			return false
		}
	}
	p.submit()
	return true
}

// AddBlob is Add for the chunks that are stored in the given range of a blob: off and
// size are bytes of the blob file. A size of 0 means to the end.
func (p *Prefetch) AddBlob(blob int, off, size uint64) bool {
	p.whole = true
	defer func() { p.whole = false }()
	if blob < 0 || blob >= len(p.c.views) || p.enter(uint16(blob)) != nil || p.o.plain {
		return p.goesOn()
	}
	p.t = nil // it may be one that isn't whole
	if err := p.table(); err != nil {
		p.c.store.warn(p.v.blob.ID, "can't be prefetched", err)
		return p.goesOn()
	}
	if p.c.store.opt.PrefetchStream && p.urgency == Sometime {
		for ch := range p.stored(off, size) {
			if !p.o.has(ch.Index) {
				p.stream = max(p.stream, ch.CompressedOff+uint64(ch.CompressedSize))
			}
		}
		defer func() { p.stream = 0 }()
	}
	for ch := range p.stored(off, size) {
		if !p.add(spanOf(&ch)) {
			return false
		}
	}
	p.submit()
	return true
}

// stored gives the chunks that AddBlob means of the blob that was entered.
func (p *Prefetch) stored(off, size uint64) iter.Seq[rafs.Chunk] {
	return func(yield func(rafs.Chunk) bool) {
		for i := range rafs.ChunkIndex(p.v.blob.ChunkCount) {
			ch, err := p.v.lookup(p.t, i)
			if err != nil || ch.CompressedOff+uint64(ch.CompressedSize) <= off ||
				size != 0 && ch.CompressedOff >= off && ch.CompressedOff-off >= size {
				continue
			}
			if !yield(ch) {
				return
			}
		}
	}
}

// goesOn reports whether the prefetch has not ended.
func (p *Prefetch) goesOn() bool { return !p.ended && p.ctx.Err() == nil && p.c.ctx.Err() == nil }

// add prefetches the chunk of a span; false if the prefetch has ended.
func (p *Prefetch) add(s *rafs.Span) bool {
	if !p.goesOn() {
		return false
	}
	f, made := p.flight(s)
	if f == nil {
		p.done(uint64(s.Len))
		return true
	}
	p.waits = append(p.waits, wait{v: p.v, view: p.o, flight: f, size: uint64(s.Len)})
	if made {
		f.stream = p.stream
		p.fresh = append(p.fresh, f)
		p.c.count.prefetchChunks.Add(1)
	}
	return len(p.waits) < prefetchWindow || p.drain(prefetchWindow/2)
}

// flight gives the flight of a span's chunk, nil if there needs to be none or can be none.
func (p *Prefetch) flight(s *rafs.Span) (f *flight, made bool) {
	if err := p.enter(s.Blob); err != nil {
		return nil, false
	}
	if p.o.plain || !p.o.file.usable() || !p.o.file.writable || p.o.has(s.Index) || p.table() != nil {
		return nil, false
	}
	f, made, err := p.start(s, p.urgency)
	if err != nil {
		return nil, false
	}
	return f, made
}

// drain submits what was added and waits until no more than keep are under way. It
// reports whether the prefetch goes on.
func (p *Prefetch) drain(keep int) bool {
	p.submit()
	for len(p.waits) > keep && p.goesOn() {
		w := p.waits[0]
		err := p.c.await(p.ctx, w, nil)
		p.waits = p.waits[1:]
		p.done(w.size)
		p.ended = p.ended || err == nil && w.flight.held != nil
	}
	return p.goesOn()
}
