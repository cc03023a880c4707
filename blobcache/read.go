package blobcache

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"vrafs/internal/scatter"
	"vrafs/rafs"
)

const (
	// askAbove is the length from which a run is only tried if all its pages are in
	// the page cache: read-ahead that a failed try starts is paid by the queue.
	askAbove = 128 << 10
	// evictionTries is how often a Read starts over after an eviction.
	evictionTries = 4
)

var pageSize = uint64(os.Getpagesize())

// ErrShort says that dst is shorter than the spans.
var ErrShort = errors.New("destination shorter than the spans")

// A Reader is the scratch memory of one reading goroutine. The zero value is
// ready; it must not be used by two goroutines at once. It outlives images.
type Reader struct {
	iov   []unix.Iovec
	shard uint32                   // of the counters; 0: none yet
	cut   func(size uint64) uint64 // tests: how much of a call may come
}

// TryRead fills dst with the bytes of spans if that needs no waiting: all
// chunks verified, all pages in the page cache. dst must be at least as long as
// the spans together; it is written by system calls only, so it may be memory whose
// pages a peer can take away.
//
// n counts the bytes of spans that are in dst. With a nil error it is all of
// them. With ErrMiss the caller goes on, not over: Fetch, then Read with skip n. A
// syscall.EFAULT says that dst is not there, ErrShort that it is too short.
//
// It never blocks, allocates nothing once r has grown, and takes no lock.
func (c *Cache) TryRead(r *Reader, spans []rafs.Span, dst [][]byte) (n int, err error) {
	n, err = c.tryRead(r, spans, dst)
	c.count.read(r, n, err)
	return n, err
}

// Chunks may be evicted at any time. An eviction takes marks off, then adds to the
// epoch, then frees bytes: a read during which the epoch stayed the same saw none of
// that, and one during which it changed may have got zeros and counts for nothing.
func (c *Cache) tryRead(r *Reader, spans []rafs.Span, dst [][]byte) (int, error) {
	epoch := c.store.epoch.Load()
	n, err := c.tryFiles(r, spans, dst)
	if c.store.epoch.Load() != epoch {
		return 0, ErrMiss
	}
	return n, err
}

func (c *Cache) tryFiles(r *Reader, spans []rafs.Span, dst [][]byte) (int, error) {
	for i := range spans {
		if o := c.openView(spans[i].Blob); o == nil || !o.verified(&spans[i]) {
			return 0, ErrMiss
		}
	}
	cur := scatter.At(dst)
	done := 0
	for len(spans) > 0 {
		o := c.openView(spans[0].Blob)
		k, size := run(spans)
		if o.file.data == nil || size > askAbove && !cached(o.file.fd, spans[0].Off, size) {
			return done, ErrMiss
		}
		n, err := r.fill(o.file.fd, spans[0].Off, size, &cur, unix.RWF_NOWAIT)
		done += int(n)
		if err != nil {
			return done, err
		}
		if n < size {
			return done, ErrMiss
		}
		spans = spans[k:]
	}
	return done, nil
}

// openView gives the open files of a blob, nil before its first use.
func (c *Cache) openView(blob uint16) *openView {
	if int(blob) >= len(c.views) {
		return nil
	}
	return c.views[blob].open.Load()
}

// run gives the number of leading spans that follow each other in one file, and
// their length.
func run(spans []rafs.Span) (n int, size uint64) {
	first := &spans[0]
	size = uint64(first.Len)
	for n = 1; n < len(spans); n++ {
		if s := &spans[n]; s.Blob != first.Blob || s.Off != first.Off+size {
			break
		}
		size += uint64(spans[n].Len)
	}
	return n, size
}

// cached reports whether all pages of a range are in the page cache. Where the
// kernel can't tell (before Linux 6.5) they are not.
func cached(fd int, off, size uint64) bool {
	pages := (off+size-1)/pageSize - off/pageSize + 1
	n, errno := cachedPages(fd, off, size)
	return errno == 0 && n == pages
}

// Read is the second half of a read that missed, after Fetch returned nil: it fills
// dst from the cache files and from h, which may be nil. The first skip bytes of
// spans are in dst already. It may block on the local disk and on nothing else.
//
// n counts like TryRead's, skip included. ErrMiss says that data vanished between
// Fetch and Read: fetch again. Callers bound how often; a file that keeps
// vanishing is an I/O error.
func (c *Cache) Read(r *Reader, spans []rafs.Span, skip int, dst [][]byte, h *Held) (n int, err error) {
	for range evictionTries {
		epoch := c.store.epoch.Load()
		n, err = c.readFiles(r, spans, skip, dst, h)
		if c.store.epoch.Load() == epoch {
			return n, err
		}
	}
	return skip, ErrMiss
}

// readFiles is Read as long as nothing is evicted.
func (c *Cache) readFiles(r *Reader, spans []rafs.Span, skip int, dst [][]byte, h *Held) (n int, err error) {
	cur := scatter.At(dst)
	if !cur.Skip(uint64(skip)) {
		return skip, ErrShort
	}
	done, at := uint64(skip), uint64(0)
	for i := range spans {
		s := spans[i]
		if at += uint64(s.Len); at <= done {
			continue
		}
		left := at - done // of s
		s.Off += uint64(s.Len) - left
		s.Len = uint32(left)
		got, err := c.readSpan(r, &s, &cur, h)
		done += got
		if err != nil {
			return int(done), err
		}
	}
	return int(done), nil
}

// readSpan reads one span; whatever the error, the bytes counted are in dst.
func (c *Cache) readSpan(r *Reader, s *rafs.Span, cur *scatter.Cursor, h *Held) (uint64, error) {
	if at, ok := h.find(s); ok {
		return r.fillAll(int(h.file.Fd()), uint64(at), uint64(s.Len), cur)
	}
	o := c.openView(s.Blob)
	if o == nil || !o.verified(s) || o.file.data == nil {
		return 0, ErrMiss
	}
	n, err := r.fillAll(o.file.fd, s.Off, uint64(s.Len), cur)
	if err == ErrMiss { // the file ended before a verified chunk did
		o.file.intact()
	}
	return n, err
}

// fillAll is fill until all is there or the file has no more, which is ErrMiss.
func (r *Reader) fillAll(fd int, off, size uint64, cur *scatter.Cursor) (done uint64, err error) {
	for done < size {
		n, err := r.fill(fd, off+done, size-done, cur, 0)
		done += n
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, ErrMiss
		}
	}
	return done, nil
}

// fill reads size bytes at off into cur. A short count is no error and says
// nothing about its cause.
func (r *Reader) fill(fd int, off, size uint64, cur *scatter.Cursor, flags int) (done uint64, err error) {
	for done < size {
		var want uint64
		r.iov, want = cur.Vectors(r.iov[:0], size-done)
		if len(r.iov) == 0 {
			return done, ErrShort
		}
		if r.cut != nil {
			r.iov, _ = cur.Vectors(r.iov[:0], r.cut(want))
		}
		n, errno := scatter.Read(fd, r.iov, off+done, flags)
		switch errno {
		case 0:
		case unix.EAGAIN, unix.EOPNOTSUPP:
			return done, ErrMiss
		case unix.EFAULT:
			return done, syscall.EFAULT
		default:
			return done, errno
		}
		done += uint64(n)
		cur.Skip(uint64(n))
		if uint64(n) < want {
			break
		}
	}
	return done, nil
}
