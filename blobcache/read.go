package blobcache

import "vrafs/rafs"

// A Reader is the scratch memory of one reading goroutine. The zero value is
// ready; it must not be used by two goroutines at once. It outlives images.
type Reader struct {
	_ [0]func() // not comparable, not to be copied
}

// TryRead fills dst with the bytes of spans if that needs no waiting: all
// chunks verified, all pages in the page cache. dst must be at least as long as
// the spans together; it is written by system calls only, so it may be memory whose
// pages a peer can take away.
//
// n counts the bytes of spans that are in dst. With a nil error it is all of
// them. With ErrMiss the caller goes on, not over: Fetch, then Read with skip n. A
// syscall.EFAULT says that dst is not there.
//
// It never blocks, allocates nothing and takes no lock.
func (c *Cache) TryRead(r *Reader, spans []rafs.Span, dst [][]byte) (n int, err error) {
	return 0, ErrMiss
}

// Read is the second half of a read that missed, after Fetch returned nil: it fills
// dst from the cache files and from h, which may be nil. The first skip bytes of
// spans are in dst already. It may block on the local disk and on nothing else.
//
// n counts like TryRead's, skip included. ErrMiss says that data vanished between
// Fetch and Read: fetch again. Callers bound how often; a file that keeps
// vanishing is an I/O error.
func (c *Cache) Read(r *Reader, spans []rafs.Span, skip int, dst [][]byte, h *Held) (n int, err error) {
	return skip, ErrMiss
}
