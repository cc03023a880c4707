package blobcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

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

// request reads the bytes of a batch and hands them to the workers while they come.
func (s *scheduler) request(b *batch) {
	first := b.flights[0]
	if first.local {
		s.send(job{flights: b.flights}, first.urgency == now, b.wanted)
		return
	}
	v := first.view
	ctx := v.cache.ctx
	if first.origin {
		ctx = backend.FromOrigin(ctx)
	}
	if b.begun < now {
		ctx = backend.ForPrefetchUntil(ctx, b.wanted)
		v.cache.count.prefetchMerged.Add(1)
	}
	if b.stream != 0 {
		ctx = backend.InStream(ctx, b.stream)
	}
	r := &reception{s: s, b: b, buf: s.buffer(b.size), begin: time.Now()}
	defer s.release(r.buf)
	r.resume()
	err := v.readTo(ctx, v.blob.ID, r, b.off+r.n, b.size-r.n)
	r.end(err)
}

// errGivenUp ends a request that makes way for others.
var errGivenUp = fmt.Errorf("%w: the request makes way for others", backend.ErrPermanent)

// A reception takes the bytes of a request and makes jobs of the flights whose bytes
// are all there.
type reception struct {
	s      *scheduler
	b      *batch
	buf    *fetchBuf
	n      uint64 // bytes that are there
	done   int    // flights, the first of the batch, that are with the workers
	begin  time.Time
	firstN uint64    // bytes that came first
	first  time.Time // when; zero: none yet
}

// resume begins with what an earlier request brought of the first flight, if that was not
// wrong.
func (r *reception) resume() {
	if f := r.b.flights[0]; !f.origin {
		r.n = uint64(copy(r.buf.b, f.got))
	}
	for _, f := range r.b.flights {
		f.got = nil
	}
	_ = r.s.progress(r.b, r.n) // it makes way when something comes
}

// Write implements io.Writer.
func (r *reception) Write(p []byte) (int, error) {
	n := copy(r.buf.b[r.n:], p)
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, r.came(n)
}

// ReadFrom implements io.ReaderFrom: bytes go straight from the network to where they
// are decoded.
func (r *reception) ReadFrom(src io.Reader) (total int64, err error) {
	for r.n < uint64(len(r.buf.b)) {
		n, err := src.Read(r.buf.b[r.n:])
		total += int64(n)
		if e := r.came(n); e != nil {
			return total, e
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// came notes n more bytes. Its error ends the request.
func (r *reception) came(n int) error {
	if n == 0 {
		return nil
	}
	c := r.b.flights[0].view.cache
	// What comes of a stream was sent before it was asked for: it tells nothing of the link.
	if r.first.IsZero() && r.b.stream == 0 {
		r.first, r.firstN = time.Now(), uint64(n)
		c.link.first(r.first.Sub(r.begin))
	}
	c.count.requestBytes.Add(uint64(n))
	if r.b.begun < now {
		c.count.prefetchBytes.Add(uint64(n))
	}
	r.n += uint64(n)
	givenUp := r.s.progress(r.b, uint64(n))
	for r.done < len(r.b.flights) {
		unit := r.unit()
		if f := unit[0]; f.end()-r.b.off > r.n {
			break
		}
		r.send(unit, unit[0].end()-r.b.off)
	}
	if givenUp && r.done < len(r.b.flights) {
		return errGivenUp
	}
	return nil
}

// progress takes n bytes off what a batch still has to get, and reports whether it is
// given up. Since the end of it is nearer now, the next may be sent.
func (s *scheduler) progress(b *batch, n uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.left -= min(b.left, n)
	if s.ahead {
		s.wake()
	}
	return b.givenUp && b.urgency < now
}

// unit gives the next flights that are slices of one stored unit.
func (r *reception) unit() []*flight {
	list := r.b.flights[r.done:]
	n := 1
	for n < len(list) && list[0].sameUnit(list[n]) {
		n++
	}
	return list[:n]
}

// send makes a job of a unit whose stored bytes end at hi.
func (r *reception) send(unit []*flight, hi uint64) {
	lo := unit[0].chunk.CompressedOff - r.b.off
	urgent := r.s.awaited(r.b.flights[r.done:]) // those behind it wait for its worker, too
	r.done += len(unit)
	r.buf.jobs.Add(1)
	r.s.send(job{flights: unit, stored: r.buf.b[lo:hi:hi], buf: r.buf}, urgent, r.b.wanted)
}

// awaited reports whether somebody waits for one of the flights.
func (s *scheduler) awaited(list []*flight) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(list, func(f *flight) bool { return f.urgency == now })
}

// end sees to the flights whose bytes did not come.
func (r *reception) end(err error) {
	link := &r.b.flights[0].view.cache.link
	if !r.first.IsZero() {
		link.last(r.n-r.firstN, time.Since(r.first))
	}
	for r.done < len(r.b.flights) {
		unit := r.unit()
		f := unit[0]
		switch lo := f.chunk.CompressedOff - r.b.off; {
		case r.b.stream != 0 && lo < r.n && errors.Is(err, errGivenUp):
			// The stream has passed these bytes.
			got := bytes.Clone(r.buf.b[lo:r.n])
			for _, f := range unit {
				f.got = got
			}
		case f.view.blob.LegacyStargz() && lo < r.n && errors.Is(err, io.ErrUnexpectedEOF):
			r.send(unit, r.n) // the stored size of eStargz chunks is an upper bound
			continue
		case context.Cause(f.view.cache.ctx) != nil:
			err = ErrClosed
		}
		r.done += len(unit)
		r.s.fail(r.b, unit, err)
	}
}

// fail ends flights whose bytes did not come. Those of a prefetch that somebody began
// to wait for meanwhile, or that made way, are asked for once more.
func (s *scheduler) fail(b *batch, unit []*flight, err error) {
	var again, over []*flight
	s.mu.Lock()
	closed := unit[0].view.cache.ctx.Err() != nil
	for _, f := range unit {
		f.batch = nil
		if !closed && (errors.Is(err, errGivenUp) || b.begun < now && f.urgency == now) {
			again = append(again, f)
		} else {
			over = append(over, f)
		}
	}
	if len(again) > 0 {
		s.pending = append(again, s.pending...)
		s.wake()
	}
	s.mu.Unlock()
	for _, f := range over {
		s.finish(f, f.errorf(err))
	}
}

// send hands a job to a worker, before those that nobody waits for if it is urgent, or
// gets so while it waits for one; after the end of the store it fails.
func (s *scheduler) send(j job, urgent bool, wanted <-chan struct{}) {
	if !urgent {
		select {
		case s.jobs <- j:
			return
		case <-wanted:
		case <-s.ctx.Done():
		}
	}
	select {
	case s.urgent <- j:
	case <-s.ctx.Done():
		for _, f := range j.flights {
			s.finish(f, ErrClosed)
		}
		if j.buf != nil {
			s.release(j.buf)
		}
	}
}
