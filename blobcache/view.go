package blobcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync/atomic"
	"time"

	"vrafs/backend"
	"vrafs/internal/opener"
	"vrafs/rafs"
)

// metaPause is how long a failed load of blob.meta isn't tried again.
const metaPause = 2 * time.Second

// A view is one blob of one image.
type view struct {
	cache *Cache
	blob  *rafs.Blob
	index int
	free  bool // chunks need no digest

	open atomic.Pointer[openView] // set at first use

	misses misses
	mu     chan struct{} // a lock that can be waited for with a context
	closed bool
	tab    *tables
}

// An openView is what a read needs of a blob. It is immutable.
type openView struct {
	file *blobFile
	marks
	// plain: the file is the blob itself (tarfs), there are no chunks to verify.
	plain bool
}

// verified reports whether the bytes of s can be read from the file.
func (o *openView) verified(s *rafs.Span) bool {
	return !o.file.dead.Load() && (o.plain || o.covers(s))
}

// adopt marks c if this boot's proof of it is p, and reports whether it is.
func (o *openView) adopt(c *rafs.Chunk, p proof) bool {
	o.file.mu.RLock()
	defer o.file.mu.RUnlock()
	if !o.file.proven(c.Index, p) {
		return false
	}
	o.set(c)
	return true
}

// mark marks c, which was put into the data file in the given epoch, unless an
// eviction came since.
func (o *openView) mark(c *rafs.Chunk, epoch uint32) {
	o.file.mu.RLock()
	defer o.file.mu.RUnlock()
	if o.file.epoch == epoch {
		o.set(c)
	}
}

// complete tells other processes when the last chunk of the blob is verified, and
// reports whether it is.
func (o *openView) complete() bool {
	o.file.mu.RLock()
	defer o.file.mu.RUnlock()
	n := o.file.key.chunks
	if n == 0 || o.count.Load() != n || o.file.cmap == nil {
		return false
	}
	_ = o.file.cmap.setReady()
	return true
}

// complete sees to it that a blob whose last chunk is verified is all that a nydusd needs
// to do without a back end: blob.meta may not have been needed so far.
func (v *view) complete(ctx context.Context, o *openView) {
	if o.complete() {
		_, _ = v.table(ctx, false, true)
	}
}

func (v *view) lock(ctx context.Context) error {
	select {
	case v.mu <- struct{}{}:
		if v.closed {
			v.unlock()
			return ErrClosed
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (v *view) unlock() { <-v.mu }

// files opens the cache files on first use.
func (v *view) files(ctx context.Context) (*openView, error) {
	if o := v.open.Load(); o != nil {
		return o, nil
	}
	if err := v.lock(ctx); err != nil {
		return nil, err
	}
	defer v.unlock()
	if o := v.open.Load(); o != nil {
		return o, nil
	}
	o, missing, err := v.openFiles(ctx)
	if err != nil {
		return nil, err
	}
	if missing != nil {
		v.cache.store.warn(v.blob.ID, "cache files can't all be used", missing)
	}
	v.open.Store(o)
	return o, nil
}

// openFiles opens the cache files. missing says what is not there of them.
func (v *view) openFiles(ctx context.Context) (o *openView, missing, err error) {
	s := v.cache.store
	o = &openView{}
	if v.blob.Features.IsTarfs() {
		o.plain = true
		if o.file = new(blobFile); s.opt.Dir != "" {
			o.file, missing = openPlain(s.o, s.opt.Dir, v.blob.ID)
		}
		return o, missing, nil
	}
	key := blobKey{id: v.blob.ID, size: v.blob.UncompressedSize, chunks: v.blob.ChunkCount}
	if v.blob.Features.Has(rafs.BlobNoExtTable) {
		key.size, key.chunks = 0, 0
	}
	if err := o.init(key.chunks); err != nil {
		return nil, nil, err
	}
	if o.file, missing, err = s.acquire(ctx, key); err != nil {
		_ = o.marks.close()
		return nil, nil, err
	}
	o.file.join(&o.marks)
	return o, missing, nil
}

// openPlain opens a tar file that serves as a blob (section 4.12).
func openPlain(o opener.Opener, dir, id string) (*blobFile, error) {
	b := &blobFile{key: blobKey{id: id}}
	if err := opener.Name(id); err != nil {
		return b, err
	}
	f, _, err := opener.Regular(o, filepath.Join(dir, id))
	if err == nil {
		b.data, b.fd = f, int(f.Fd())
	}
	return b, err
}

// table loads the tables on first use. It may ask the back end for blob.meta and
// blob.digest; a failure of that is an error only for chunks that need them.
//
// The index of v5 costs a walk over all inodes and isn't needed to read, so it is
// loaded only if whole is set. blob.meta costs a round trip: where the image itself says
// all about its chunks, it is only asked for if whole or meta is set.
func (v *view) table(ctx context.Context, whole, meta bool) (*tables, error) {
	if err := v.lock(ctx); err != nil {
		return nil, err
	}
	defer v.unlock()
	if v.tab == nil || v.tab.index == nil && whole {
		t := &tables{}
		if whole || v.cache.image.Version() == rafs.V6 {
			if err := t.loadIndex(v); err != nil {
				t.close()
				return nil, err
			}
		}
		v.tab = t
	}
	if v.tab.meta != nil || !v.blob.HasMeta() || time.Since(v.tab.tried) < metaPause ||
		!whole && !meta && v.tab.selfSufficient() && v.blob.Features&(rafs.BlobZran|rafs.BlobBatch) == 0 {
		return v.tab, nil
	}
	t := *v.tab
	t.metaErr = t.loadMeta(ctx, v, false)
	if ctx.Err() == nil {
		t.tried = time.Now()
	}
	if t.metaErr != nil {
		v.cache.store.warn(v.blob.ID, "chunk infos can't be had", t.metaErr)
	}
	if v.blob.Features.Has(rafs.BlobInlinedChunkDigest) && t.digests == nil && !t.selfSufficient() {
		if err := t.loadDigests(ctx, v); err != nil {
			v.cache.store.warn(v.blob.ID, "chunk digests can't be had", err)
		}
	}
	v.tab = &t
	return v.tab, nil
}

// source gives the back-end blob named id.
func (v *view) source(ctx context.Context, id string) (backend.Blob, error) {
	c := v.cache
	c.mu.Lock()
	b := c.sources[id]
	c.mu.Unlock()
	if b != nil {
		return b, nil
	}
	b, err := c.blobs.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch first := c.sources[id]; {
	case c.sources == nil:
		_ = b.Close()
		return nil, ErrClosed
	case first != nil: // somebody else was faster
		_ = b.Close()
		return first, nil
	}
	c.sources[id] = b
	return b, nil
}

// request fills p from byte off of the back-end blob id.
func (v *view) request(ctx context.Context, id string, p []byte, off uint64) error {
	n, err := v.requestSome(ctx, id, p, off)
	if n == len(p) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("blob %s: %d of %d bytes at %#x: %w", id, n, len(p), off, err)
}

// requestSome is request without a judgement of what came.
func (v *view) requestSome(ctx context.Context, id string, p []byte, off uint64) (n int, err error) {
	err = v.ask(ctx, id, func(ctx context.Context, src backend.Blob) (int, error) {
		n, err = src.ReadAt(ctx, p, off)
		if n = max(0, min(n, len(p))); n == len(p) {
			err = nil
		}
		v.cache.count.requestBytes.Add(uint64(n))
		return n, err
	})
	return n, err
}

// readTo hands size bytes from off to w, which counts them, while they come; an error
// says that fewer came.
func (v *view) readTo(ctx context.Context, id string, w io.Writer, off, size uint64) error {
	return v.ask(ctx, id, func(ctx context.Context, src backend.Blob) (int, error) {
		n, err := backend.ReadTo(ctx, src, w, off, size)
		if err == nil && n < size {
			err = io.ErrUnexpectedEOF
		}
		return int(n), err
	})
}

// ask makes one request of the back-end blob id and counts it.
func (v *view) ask(ctx context.Context, id string, read func(context.Context, backend.Blob) (int, error)) error {
	c := v.cache
	ctx, cancel := context.WithTimeout(ctx, c.store.opt.RequestTimeout)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	begin := time.Now()
	c.count.requests.Add(1)
	src, err := v.source(ctx, id)
	n := 0
	if err == nil {
		n, err = read(ctx, src)
	}
	failed := err
	if errors.Is(err, errGivenUp) {
		failed = nil
	}
	if failed != nil {
		c.count.requestErrors.Add(1)
	}
	if c.opt.Observe != nil {
		c.opt.Observe(n, time.Since(begin), failed)
	}
	return err
}

// close gives everything back. The cache's reads have ended.
func (v *view) close() {
	v.mu <- struct{}{}
	defer v.unlock()
	v.closed = true
	if o := v.open.Swap(nil); o != nil {
		if o.plain {
			o.file.close()
		} else {
			o.file.part(&o.marks)
			v.cache.store.release(o.file)
			_ = o.marks.close()
		}
	}
	if v.tab != nil {
		v.tab.close()
		v.tab = nil
	}
}
