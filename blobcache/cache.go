package blobcache

import (
	"context"
	"time"

	"vrafs/backend"
	"vrafs/rafs"
)

// ImageOptions are the circumstances of one image.
type ImageOptions struct {
	// AllowUnverified lists ids of blobs whose chunks need no digest. A CRC is
	// checked where there is one but counts for nothing else.
	AllowUnverified []string
	// Observe, if set, is called after every back-end request with its size in
	// bytes, its duration and its error. It must not block.
	Observe func(bytes int, took time.Duration, err error)
}

// A Cache is the view that one image has of a Store. All methods may be called
// from any goroutine; Close waits for none of them.
type Cache struct {
	store *Store
	image *rafs.Image
	blobs backend.Opener
	opt   ImageOptions
}

// Open makes a view for an image, whose metadata must stay readable until Close.
// It does no I/O: files and back ends are opened at the first use of a blob. An
// image with a blob that can't be verified and isn't allowed is an error of class
// ErrUnverified; an unknown cipher is of class rafs.ErrUnsupported.
func (s *Store) Open(im *rafs.Image, blobs backend.Opener, o ImageOptions) (*Cache, error) {
	return &Cache{store: s, image: im, blobs: blobs, opt: o}, nil
}

// Fetch makes every chunk of spans present and verified, or holds its bytes in h.
// It blocks until that is so, one chunk fails, or ctx ends; others that wait for
// the same chunks are not disturbed by that. It touches no memory of the caller but h.
//
// Errors: ErrDigest, ErrUnverified, those of the back end, those of package rafs.
// All of them are EIO to a guest.
func (c *Cache) Fetch(ctx context.Context, spans []rafs.Span, h *Held) error { return ErrClosed }

// Prefetch is Fetch for data that nobody waits for: it yields to Fetch, keeps
// to Options.PrefetchRate, goes on after failed chunks and stores only. It blocks
// until done or ctx ends; the error is that of ctx.
func (c *Cache) Prefetch(ctx context.Context, spans []rafs.Span) error { return ErrClosed }

// PrefetchBlob prefetches the chunks that are stored in the given range of a
// blob: off and size are bytes of the blob file. A size of 0 means to the end.
func (c *Cache) PrefetchBlob(ctx context.Context, blob int, off, size uint64) error {
	return ErrClosed
}

// Close ends the view. Reads must have ended, fetches end with ErrClosed.
func (c *Cache) Close() error { return nil }
