// Package stream makes one request of reads that follow one another.
//
//	reads     [ 0 ][ 1 ][ 2 ]  pause  [ 3 ][ 4 ]      longer pause   [ 5 ][ 6 ]
//	requests  |------------- bytes=0- ----------|  ended: it is idle |- bytes=n- -|
//
// A pass over a whole blob (backend.InStream) needs one request, however small its reads
// are and whoever goes before them: between two of them nothing is taken from the
// connection, so the server stops when what lies between is full. Before servers give up
// on that the request is ended; the next read goes on with a range from where it stopped,
// as after a failure. A few bytes that nobody wants are read and dropped.
//
// All other reads pass by, and so does one of a second pass over the same blob at the same
// time, or one that goes back: chunks need not lie in order in a hostile image, and each
// request to the end makes a server send what nobody takes.
//
// Trust: that of the back end; bytes are the caller's to verify. Memory: bufBytes for each
// blob under way. Concurrency: everything may be called from any goroutine; Close waits for
// requests. Source: nydusd 4.2, stream_prefetch.
package stream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"vrafs/backend"
)

// Options bound the requests. A zero value of a field stands for its default.
type Options struct {
	// Idle is how long a request may wait for the next read; default 10 s.
	Idle time.Duration
	// Skip is how many bytes before a read are dropped instead of ending the request;
	// default 1 MiB.
	Skip uint64
	// Late is how long no byte may come once somebody waits for a read; default 500 ms.
	Late time.Duration
	// Count is told what happens; nil: nothing is.
	Count *Counters
}

// Counters count for back ends that share them.
type Counters struct {
	Requests atomic.Uint64 // that were begun
	Resumed  atomic.Uint64 // of them, those that went on with a blob after another had ended
	Expired  atomic.Uint64 // that were ended because they were idle
	Bytes    atomic.Uint64 // that were handed on
}

const bufBytes = 64 << 10

// New wraps a back end.
func New(inner backend.Opener, o Options) backend.Opener {
	if o.Idle == 0 {
		o.Idle = 10 * time.Second
	}
	if o.Skip == 0 {
		o.Skip = 1 << 20
	}
	if o.Late == 0 {
		o.Late = 500 * time.Millisecond
	}
	if o.Count == nil {
		o.Count = &Counters{}
	}
	return &opener{inner, o}
}

type opener struct {
	inner backend.Opener
	opt   Options
}

func (o *opener) Open(ctx context.Context, id string) (backend.Blob, error) {
	inner, err := o.inner.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	b := &blob{Blob: inner, id: id, opt: &o.opt}
	b.ctx, b.cancel = context.WithCancelCause(backend.ForPrefetch(context.Background()))
	return b, nil
}

type blob struct {
	backend.Blob
	id     string
	opt    *Options
	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // of requests

	mu    sync.Mutex // held by a read of a pass
	cur   *request   // nil: none
	begun bool       // there was one
}

var errClosed = fmt.Errorf("%w: blob is closed", backend.ErrPermanent)

// ReadTo implements backend.Streamer.
func (b *blob) ReadTo(ctx context.Context, w io.Writer, off, n uint64) (uint64, error) {
	end, ok := backend.StreamEnd(ctx)
	if !ok || n == 0 || off >= end || end-off < n || !backend.IsPrefetch(ctx) || backend.WantsOrigin(ctx) || backend.IsForPeers(ctx) ||
		!b.mu.TryLock() {
		return backend.ReadTo(ctx, b.Blob, w, off, n)
	}
	defer b.mu.Unlock()
	if q := b.cur; q != nil && q.ctx.Err() == nil && off < q.pos {
		return backend.ReadTo(ctx, b.Blob, w, off, n)
	}
	for {
		switch {
		case b.ctx.Err() != nil:
			return 0, errClosed
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		}
		fresh := b.reach(off, n, end)
		done, err := b.cur.read(ctx, w, off, n, b.opt)
		b.opt.Count.Bytes.Add(done)
		ended := b.cur.ended()
		b.settle()
		if err == nil || fresh || done > 0 || !ended || ctx.Err() != nil {
			return done, b.name(err)
		}
		// It ended while nobody read, which is no failure of this read.
	}
}

// name puts the blob's id into an error of this package.
func (b *blob) name(err error) error {
	if errors.Is(err, errLate) {
		return &backend.Error{Blob: b.id, Cause: err}
	}
	return err
}

// reach has a request under way that can give n bytes from off, and reports whether it is
// a new one. Preconditions: mu is held.
func (b *blob) reach(off, n, end uint64) (fresh bool) {
	if q := b.cur; q != nil {
		q.idle.Stop()
		if q.ctx.Err() == nil && off-q.pos <= b.opt.Skip && off+n <= q.end {
			return false
		}
		b.drop()
	}
	b.opt.Count.Requests.Add(1)
	if b.begun {
		b.opt.Count.Resumed.Add(1)
	}
	b.begun = true
	b.cur = b.request(off, end)
	return true
}

// settle lets the request wait for the next read, unless it has ended or nothing more is
// to come. Preconditions: mu is held.
func (b *blob) settle() {
	q := b.cur
	switch {
	case q.pos == q.end:
		b.cur, b.begun = nil, false // the answer ends by itself, so that its connection can be used again
	case q.ended():
		b.drop()
		return
	}
	q.idle.Reset(b.opt.Idle)
}

// drop ends the request. Preconditions: mu is held.
func (b *blob) drop() {
	b.cur.fail(errIdle)
	b.cur = nil
}

func (b *blob) Close() error {
	b.cancel(errClosed)
	b.mu.Lock()
	if b.cur != nil {
		b.cur.fail(errClosed)
	}
	b.mu.Unlock()
	b.wg.Wait()
	return b.Blob.Close()
}

const (
	errIdle = backend.Timeout("nothing more was read of it")
	errLate = backend.Timeout("a stream has stopped, and somebody waits for it")
)

// A request is one that several reads take their bytes from.
type request struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	pipe   *io.PipeReader
	buf    *bufio.Reader // of it
	idle   *time.Timer
	over   atomic.Bool // no more comes than is in buf

	pos, end uint64        // of the next byte, and after the last; for who holds blob.mu
	came     atomic.Uint64 // bytes that were handed on
}

// request begins one. Preconditions: mu is held.
func (b *blob) request(off, end uint64) *request {
	q := &request{pos: off, end: end}
	q.ctx, q.cancel = context.WithCancelCause(b.ctx)
	r, w := io.Pipe()
	q.pipe, q.buf = r, bufio.NewReaderSize(r, bufBytes)
	q.idle = time.AfterFunc(b.opt.Idle, func() {
		if !q.over.Load() {
			b.opt.Count.Expired.Add(1)
		}
		q.fail(errIdle)
	})
	q.idle.Stop()
	b.wg.Go(func() {
		_, err := backend.ReadTo(q.ctx, b.Blob, w, off, end-off)
		q.over.Store(true)
		_ = w.CloseWithError(err) // nil stands for the end
	})
	return q
}

// fail ends the request, and the read that waits for it.
func (q *request) fail(cause error) {
	q.cancel(cause)
	_ = q.pipe.CloseWithError(cause)
}

// ended reports whether no more bytes will come.
func (q *request) ended() bool { return q.ctx.Err() != nil || q.over.Load() && q.buf.Buffered() == 0 }

// read hands n bytes from off to w.
func (q *request) read(ctx context.Context, w io.Writer, off, n uint64, o *Options) (done uint64, err error) {
	defer context.AfterFunc(ctx, func() { q.fail(context.Cause(ctx)) })()
	if wanted := backend.Wanted(ctx); wanted != nil {
		ended := make(chan struct{})
		defer close(ended)
		go q.watch(wanted, ended, o.Late)
	}
	for done < n {
		p, err := q.next()
		if err != nil {
			return done, err
		}
		if q.pos < off {
			q.took(int(min(uint64(len(p)), off-q.pos)))
			continue
		}
		k, err := w.Write(p[:min(uint64(len(p)), n-done)])
		q.took(k)
		done += uint64(k)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// next gives bytes that have come, at least one.
func (q *request) next() ([]byte, error) {
	if _, err := q.buf.Peek(1); err != nil {
		if q.ctx.Err() != nil {
			return nil, context.Cause(q.ctx)
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return q.buf.Peek(q.buf.Buffered())
}

func (q *request) took(n int) {
	_, _ = q.buf.Discard(n)
	q.pos += uint64(n)
	q.came.Add(uint64(n))
}

// watch ends the request if nothing comes while somebody waits: a stream is of low
// priority, and nobody asks a second time for what is late of it.
func (q *request) watch(wanted, ended <-chan struct{}, late time.Duration) {
	select {
	case <-wanted:
	case <-ended:
		return
	}
	tick := time.NewTicker(late)
	defer tick.Stop()
	for last := q.came.Load(); ; {
		select {
		case <-tick.C:
		case <-ended:
			return
		}
		came := q.came.Load()
		if came == last {
			q.fail(errLate)
			return
		}
		last = came
	}
}
