package blobcache

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"vrafs/backend"
	"vrafs/rafs"
)

// ImageOptions are the circumstances of one image.
type ImageOptions struct {
	// AllowUnverified lists ids of blobs whose chunks need no digest. A CRC is
	// checked where there is one but counts for nothing else.
	AllowUnverified []string
	// Validate makes the process check every chunk it finds in the data file, also
	// one that another process of ours has proven (cache.validate).
	Validate bool
	// Observe, if set, is called after every back-end request with the bytes that came,
	// its duration and its error. It must not block.
	Observe func(bytes int, took time.Duration, err error)
	// Wrong, if set, is called when data of the back end are not what the image says. It
	// must not block.
	Wrong func(err error)
}

// A Cache is the view that one image has of a Store. All methods may be called
// from any goroutine.
type Cache struct {
	store  *Store
	image  *rafs.Image
	blobs  backend.Opener
	opt    ImageOptions
	views  []*view
	ctx    context.Context // of back-end requests
	cancel context.CancelCauseFunc
	count  counters
	link   link
	paused bool   // its prefetches; guarded by scheduler.mu
	gap    uint64 // that its requests read along; guarded by scheduler.mu
	looked uint64 // the last round that looked whether it is its turn; guarded by scheduler.mu

	mu      sync.Mutex
	active  sync.WaitGroup // fetching calls and flights
	closed  bool
	sources map[string]backend.Blob // nil after Close
}

// Open makes a view for an image, whose metadata must stay readable until Close.
// It does no I/O: files and back ends are opened at the first use of a blob. An
// image with a blob that can't be verified and isn't allowed is an error of class
// ErrUnverified; an unknown cipher is of class rafs.ErrUnsupported.
func (s *Store) Open(im *rafs.Image, blobs backend.Opener, o ImageOptions) (*Cache, error) {
	c := &Cache{store: s, image: im, blobs: blobs, opt: o, sources: map[string]backend.Blob{}}
	for i := range im.Blobs() {
		b := &im.Blobs()[i]
		v := &view{cache: c, blob: b, index: i, mu: make(chan struct{}, 1), free: slices.Contains(o.AllowUnverified, b.ID)}
		if why := unverifiable(im, b); why != "" && !v.free {
			return nil, fmt.Errorf("%w: blob %s %s; allow it by its id to serve it unverified", ErrUnverified, b.ID, why)
		}
		if b.Encrypted() && b.Cipher != rafs.CipherAES128XTS {
			return nil, fmt.Errorf("%w: blob %s is encrypted with %v", rafs.ErrUnsupported, b.ID, b.Cipher)
		}
		c.views = append(c.views, v)
	}
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	return c, nil
}

// unverifiable says why a blob can have no digests, as far as its description
// tells. Single chunks without a digest are met later.
func unverifiable(im *rafs.Image, b *rafs.Blob) string {
	switch {
	case b.Features.IsTarfs():
		return "is a plain tar file"
	case b.Features.Has(rafs.BlobExternal):
		return "is external"
	case im.Version() == rafs.V6 && b.ChunkCount > 0 && im.ChunkTableLen() == 0 && !b.Features.Has(rafs.BlobInlinedChunkDigest):
		return "has no digests"
	}
	return ""
}

// enter notes a fetching call or a flight, which Close waits for.
func (c *Cache) enter() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.active.Add(1)
	return nil
}

func (c *Cache) leave() { c.active.Done() }

// view gives the view of a span's blob.
func (c *Cache) view(blob uint16) (*view, error) {
	if int(blob) >= len(c.views) {
		return nil, fmt.Errorf("%w: blob %d of %d", rafs.ErrCorrupt, blob, len(c.views))
	}
	return c.views[blob], nil
}

// Close ends the view: fetches end with ErrClosed, and Close waits for them. Calls
// of TryRead and Read must have ended. The image may be unmapped afterwards.
func (c *Cache) Close() error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	c.mu.Unlock()
	c.cancel(ErrClosed)
	c.store.sched.drop(c)
	c.active.Wait()
	if !first {
		return nil
	}
	c.mu.Lock()
	sources := c.sources
	c.sources = nil
	c.mu.Unlock()
	for _, v := range c.views {
		v.close()
	}
	for _, b := range sources {
		_ = b.Close()
	}
	return nil
}
