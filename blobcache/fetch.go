package blobcache

import (
	"context"
	"errors"
	"fmt"
	"io"

	"vrafs/rafs"
)

// fetchRounds bounds how often one Fetch starts over after another image was closed
// or a blob.meta was replaced under it.
const fetchRounds = 4

// Fetch makes every chunk of spans present and verified, or holds its bytes in h.
// It blocks until that is so, one chunk fails, or ctx ends; others that wait for
// the same chunks are not disturbed by that. It touches no memory of the caller
// but h, and no bytes of spans that h holds already are asked for again.
//
// The image's metadata are read on the caller's goroutine, which must be ready for a
// fault where the bootstrap is a mapping that can be cut short.
//
// Errors: ErrDigest, ErrUnverified, ErrClosed, those of the back end, those of
// package rafs. All of them are EIO to a guest.
func (c *Cache) Fetch(ctx context.Context, spans []rafs.Span, h *Held) error {
	return c.FetchNear(ctx, spans, Near{}, h)
}

// FetchNear is Fetch by a reader that is likely to want more of what is near.
func (c *Cache) FetchNear(ctx context.Context, spans []rafs.Span, near Near, h *Held) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.leave()
	for round := 1; ; round++ {
		err := c.fetch(ctx, spans, near, h)
		if err == nil || round == fetchRounds || !c.again(ctx, err, spans) {
			return plainError(err)
		}
	}
}

// again reports whether another try can give another result.
func (c *Cache) again(ctx context.Context, err error, spans []rafs.Span) bool {
	if errors.Is(err, ErrClosed) {
		return c.ctx.Err() == nil // a flight of another image, which was closed
	}
	var misled *misledError
	replaced := errors.As(err, &misled)
	switch {
	case errors.Is(err, ErrDigest), errors.Is(err, rafs.ErrCorrupt):
	case replaced && errors.Is(err, rafs.ErrUnsupported):
	case replaced && errors.Is(err, io.ErrUnexpectedEOF): // sent past the end of the blob
	default:
		return false
	}
	for i := range spans {
		if v, err := c.view(spans[i].Blob); err == nil && v.reloadMeta(ctx) {
			replaced = true
		}
	}
	return replaced
}

// A wait is a span whose chunk is under way.
type wait struct {
	span   *rafs.Span // nil in a Prefetch, whose spans may be gone
	v      *view
	view   *openView
	flight *flight
	size   uint64 // of a Prefetch's span
}

func (c *Cache) fetch(ctx context.Context, spans []rafs.Span, near Near, h *Held) error {
	p := plan{c: c, ctx: ctx, near: near}
	defer p.submit() // flights that were made must run, also after an error
	for i := range spans {
		s := &spans[i]
		if h.has(s) {
			continue
		}
		if err := p.enter(s.Blob); err != nil {
			return err
		}
		if p.o.verified(s) && p.o.file.usable() {
			continue
		}
		if err := p.want(s, h); err != nil {
			return err
		}
	}
	p.submit()
	var bad error
	for _, w := range p.waits {
		err := c.await(ctx, w, h)
		var misled *misledError
		switch {
		case errors.As(err, &misled): // the others must end, too, before another try
			bad = err
		case err != nil:
			return err
		}
	}
	return bad
}

// A misledError is what chunk infos led to that are not from the origin. It may
// be their fault even if they were replaced meanwhile.
type misledError struct{ error }

func (e *misledError) Unwrap() error { return e.error }

// plainError takes the mark of a misledError off.
func plainError(err error) error {
	if misled, ok := err.(*misledError); ok {
		return misled.error
	}
	return err
}

// A plan collects the flights that a list of spans needs. Flights that it made
// are submitted before it blocks: others may wait for them already.
type plan struct {
	c     *Cache
	ctx   context.Context
	whole bool // tables by chunk number are needed
	meta  bool // blob.meta is needed
	near  Near
	v     *view
	o     *openView
	t     *tables
	waits []wait
	fresh []*flight
}

// enter turns to a blob and opens its files.
func (p *plan) enter(blob uint16) error {
	v, err := p.c.view(blob)
	if err != nil || v == p.v {
		return err
	}
	p.submit()
	o, err := v.files(p.ctx)
	if err != nil {
		return err
	}
	p.v, p.o, p.t, p.meta = v, o, nil, false
	return nil
}

// table loads the tables of the blob.
func (p *plan) table() error {
	if p.t != nil {
		return nil
	}
	p.submit()
	t, err := p.v.table(p.ctx, p.whole, p.meta)
	p.t = t
	return err
}

// want sees to it that the chunk of a span comes because somebody waits for it.
func (p *plan) want(s *rafs.Span, h *Held) error {
	if p.o.plain {
		return p.v.hold(p.ctx, s, h)
	}
	if err := p.table(); err != nil {
		return err
	}
	f, made, err := p.start(s, now)
	if err != nil && p.t.unsure {
		return &misledError{err}
	}
	if err != nil {
		return err
	}
	if made {
		p.fresh = append(p.fresh, f)
	}
	if f != nil && (made || p.c.store.sched.alongside(f)) {
		p.fresh = p.v.amplify(p.o, p.t, p.fresh, f, &p.near)
	}
	if f == nil {
		p.v.misses.wanted()
		p.v.complete(p.ctx, p.o)
		return nil
	}
	p.waits = append(p.waits, wait{span: s, v: p.v, view: p.o, flight: f})
	return nil
}

// start is start of the view, once more with blob.meta if that is missing.
func (p *plan) start(s *rafs.Span, u Urgency) (f *flight, made bool, err error) {
	f, made, err = p.v.start(p.o, p.t, s, u)
	if errors.Is(err, errNoMeta) && !p.meta {
		p.t, p.meta = nil, true
		if err = p.table(); err == nil {
			f, made, err = p.v.start(p.o, p.t, s, u)
		}
	}
	return f, made, err
}

// submit lets the flights run that were made.
func (p *plan) submit() {
	if len(p.fresh) > 0 {
		p.c.store.sched.submit(p.fresh...)
		p.fresh = nil
	}
}

// await waits for a flight and marks or holds what it brought.
func (c *Cache) await(ctx context.Context, w wait, h *Held) error {
	f := w.flight
	select {
	case <-f.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.ctx.Done():
		return ErrClosed
	}
	switch {
	case f.err != nil && f.unsure:
		return &misledError{f.err}
	case f.err != nil:
		return f.err
	case f.held == nil:
		w.view.mark(&f.chunk, f.epoch)
		w.v.complete(ctx, w.view)
		return nil
	case h == nil:
		return nil
	}
	off := w.span.Off - f.chunk.Off
	return h.add(w.span, f.held[off:][:w.span.Len])
}

// start gives the flight of the span's chunk, or nil if this boot's proof makes
// one unnecessary. made says that the flight must be submitted.
func (v *view) start(o *openView, t *tables, s *rafs.Span, u Urgency) (f *flight, made bool, err error) {
	c, err := v.describe(t, s.Index, s.Ref)
	if err != nil {
		return nil, false, err
	}
	if s.Off < c.Off || s.Off-c.Off > uint64(c.Size) || uint64(s.Len) > uint64(c.Size)-(s.Off-c.Off) {
		return nil, false, fmt.Errorf("%w: blob %s: %#x+%#x is outside chunk %d at %#x+%#x",
			rafs.ErrCorrupt, v.blob.ID, s.Off, s.Len, c.Index, c.Off, c.Size)
	}
	if !c.HasDigest && !v.free {
		return nil, false, fmt.Errorf("%w: blob %s: chunk %d; allow the blob by its id to serve it unverified", ErrUnverified, v.blob.ID, c.Index)
	}
	key := flightKey{o.file, c.Index, proofOf(v.blob.Digester, &c)}
	if !v.cache.opt.Validate && o.adopt(&c, key.proof) {
		return nil, false, nil
	}
	local := o.file.claimed(c.Index)
	return v.cache.store.sched.join(key, u, func() (*flight, error) {
		f, err := v.newFlight(t, key, &c)
		if err == nil {
			f.local = local
		}
		return f, err
	})
}

func (v *view) newFlight(t *tables, key flightKey, c *rafs.Chunk) (*flight, error) {
	f := &flight{key: key, view: v, chunk: *c, unsure: t.unsure, done: make(chan struct{})}
	if c.Flags&(rafs.ChunkBatch|rafs.ChunkZran) != 0 && c.UnitSize == 0 {
		return nil, fmt.Errorf("%w: blob %s: the unit of chunk %d is unknown", rafs.ErrUnsupported, v.blob.ID, c.Index)
	}
	if c.Flags&rafs.ChunkZran != 0 {
		var err error
		if f.zran, err = t.meta.Zran(c.Unit); err != nil {
			return nil, err
		}
	}
	if err := v.cache.enter(); err != nil {
		return nil, err
	}
	return f, nil
}

// spanOf gives the span that is all of a chunk.
func spanOf(c *rafs.Chunk) *rafs.Span {
	return &rafs.Span{Blob: c.Blob, Index: c.Index, Off: c.Off, Len: c.Size}
}

// hold reads a span of a plain blob that is not in the directory.
func (v *view) hold(ctx context.Context, s *rafs.Span, h *Held) error {
	if h == nil {
		return nil
	}
	p := make([]byte, s.Len)
	if err := v.request(ctx, v.blob.ID, p, s.Off); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: %w", rafs.ErrCorrupt, err)
		}
		return err
	}
	v.cache.count.unstored.Add(1)
	return h.add(s, p)
}
