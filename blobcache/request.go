package blobcache

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"vrafs/backend"
)

// A fetchBuf holds the stored bytes of one request until its last job is done.
type fetchBuf struct {
	b    []byte
	jobs atomic.Int32
}

// Freed buffers are kept for the next request: memory that is new to the process
// costs more than a tenth of what decoding it does. So many are kept, none of them
// larger than maxKept bytes.
const (
	keptBufs = 4
	maxKept  = 2 << 20
)

// buffer gives a buffer of size bytes with one user.
func (s *scheduler) buffer(size uint64) *fetchBuf {
	b := &fetchBuf{}
	s.mu.Lock()
	if n := len(s.free); n > 0 {
		b, s.free = s.free[n-1], s.free[:n-1]
	}
	s.mu.Unlock()
	if uint64(cap(b.b)) < size {
		b.b = make([]byte, max(size, min(s.opt.MaxRequestBytes, maxKept)))
	}
	b.b = b.b[:size]
	b.jobs.Store(1)
	return b
}

// release takes one user off the buffer; the last gives its bytes back.
func (s *scheduler) release(b *fetchBuf) {
	if b.jobs.Add(-1) != 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes -= uint64(len(b.b))
	if cap(b.b) <= maxKept && len(s.free) < keptBufs {
		s.free = append(s.free, b)
	}
	s.wake()
}

// A job is work for one worker: the flights of one stored unit, or one flight to be
// looked up in the data file, then buf is nil.
type job struct {
	flights []*flight
	stored  []byte
	buf     *fetchBuf
}

// request reads the bytes of a batch and hands them to the workers.
func (s *scheduler) request(b *batch) {
	if b.flights[0].local {
		s.send(job{flights: b.flights})
		return
	}
	first := b.flights[0]
	v := first.view
	ctx := v.cache.ctx
	if first.origin {
		ctx = backend.FromOrigin(ctx)
	}
	if !b.demand {
		ctx = backend.ForPrefetchUntil(ctx, b.wanted)
	}
	buf := s.buffer(b.size)
	defer s.release(buf)
	n, err := v.requestSome(ctx, v.blob.ID, buf.b, b.off)
	if err == nil && uint64(n) < b.size {
		err = io.ErrUnexpectedEOF
	}
	if !b.demand {
		v.cache.count.prefetchBytes.Add(uint64(n))
		v.cache.count.prefetchMerged.Add(1)
	}
	for list := b.flights; len(list) > 0; {
		unit := 1
		for unit < len(list) && list[0].sameUnit(list[unit]) {
			unit++
		}
		s.split(list[:unit], buf, b.off, uint64(n), err)
		list = list[unit:]
	}
}

// split makes a job of one unit of a request of which n bytes came.
func (s *scheduler) split(unit []*flight, buf *fetchBuf, off, n uint64, err error) {
	f := unit[0]
	lo, hi := f.chunk.CompressedOff-off, f.end()-off
	if hi > n {
		// The stored size of eStargz chunks is an upper bound.
		if !f.view.blob.LegacyStargz() || lo >= n || !errors.Is(err, io.ErrUnexpectedEOF) {
			if context.Cause(f.view.cache.ctx) != nil {
				err = ErrClosed
			}
			for _, f := range unit {
				s.finish(f, f.errorf(err))
			}
			return
		}
		hi = n
	}
	buf.jobs.Add(1)
	s.send(job{flights: unit, stored: buf.b[lo:hi:hi], buf: buf})
}

// send hands a job to a worker; after the end of the store it fails.
func (s *scheduler) send(j job) {
	select {
	case s.jobs <- j:
	case <-s.ctx.Done():
		for _, f := range j.flights {
			s.finish(f, ErrClosed)
		}
		if j.buf != nil {
			s.release(j.buf)
		}
	}
}
