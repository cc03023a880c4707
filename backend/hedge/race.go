package hedge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"vrafs/backend"
)

// A runner is one of the two requests of a race; nobody is neither.
type runner uint8

const (
	nobody runner = iota
	first
	second
)

// errLost ends the request that the other one has overtaken.
var errLost = fmt.Errorf("%w: the other request was faster", backend.ErrPermanent)

// A race is one read. The second request takes over at most once: what the first has
// brought stays.
type race struct {
	b      *blob
	w      io.Writer
	off, n uint64
	begin  time.Time

	cancel  [2]context.CancelCauseFunc // of the requests
	results chan result
	ended   chan struct{} // the first request has, so that w is free

	mu    sync.Mutex
	leads runner    // has brought the last byte, since the second was started
	done  uint64    // bytes that w has
	waits time.Time // since when the next one is awaited; zero while w works
}

// A result is how one request ended.
type result struct {
	who runner
	err error
}

// run is the read.
func (r *race) run(ctx context.Context) (uint64, error) {
	r.results, r.ended = make(chan result, 2), make(chan struct{})
	r.mu.Lock()
	r.start(ctx, first)
	r.mu.Unlock()
	timer := time.NewTimer(r.b.o.times.late(&r.b.o.h.opt))
	defer timer.Stop()
	late, wanted := timer.C, backend.Wanted(ctx)
	if backend.IsPrefetch(ctx) {
		late = nil // until somebody waits
	}
	var failed error // of the request that ended and did not decide
	for running := 1; ; {
		select {
		case <-wanted:
			wanted, late = nil, timer.C
		case <-late:
			wait, give := r.overtake(ctx)
			if wait > 0 {
				timer.Reset(wait)
				break
			}
			late = nil
			if give != nil {
				defer give()
				running++
			}
		case res := <-r.results:
			running--
			if !r.decides(res, running > 0) {
				failed = res.err
				break
			}
			if running > 0 {
				r.stop(other(res.who))
				<-r.results
			}
			return r.total(res, failed)
		}
	}
}

func (r *race) stop(who runner) {
	r.mu.Lock()
	cancel := r.cancel[who-first]
	r.mu.Unlock()
	cancel(errLost)
}

func other(who runner) runner { return first + second - who }

// decides reports whether the read ends with a result; another request may be running.
func (r *race) decides(res result, running bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !running, r.leads == res.who:
		return true
	case r.leads == nobody: // a failure says nothing of the other one, an end does
		return res.err == nil || errors.Is(res.err, io.ErrUnexpectedEOF)
	}
	return false
}

// total is what the read has brought in the end. Where both requests failed, the first
// one's error counts.
func (r *race) total(res result, failed error) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.leads == second:
		r.b.o.h.won.Add(1)
	case res.who == second && res.err != nil && failed != nil:
		return r.done, failed
	}
	return r.done, res.err
}

// overtake sends the second request if the first is late and that may be, and then gives
// what gives its room back. Else wait is how long the first has, or 0. No byte comes
// meanwhile, so that the second asks for what is missing.
func (r *race) overtake(ctx context.Context) (wait time.Duration, give func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if wait = r.patience(); wait > 0 {
		return wait, nil
	}
	give, ok := r.b.o.h.spend(r.n)
	if !ok {
		return 0, nil
	}
	r.start(backend.Elsewhere(ctx), second)
	return 0, give
}

// start sends a request for what is missing. Preconditions: mu is held.
func (r *race) start(ctx context.Context, who runner) {
	ctx, cancel := context.WithCancelCause(ctx)
	r.cancel[who-first] = cancel
	r.leads, r.waits = nobody, time.Now()
	done := r.done
	go func() {
		var w io.Writer = &writer{r, who}
		if from, ok := r.w.(io.ReaderFrom); ok && who == first {
			w = &reader{writer{r, who}, from}
		}
		_, err := backend.ReadTo(ctx, r.b.Blob, w, r.off+done, r.n-done)
		cancel(nil)
		if who == first {
			close(r.ended)
		}
		r.results <- result{who, err}
	}()
}

// patience is how much longer the request that runs may take. It is 0 when it is late.
// Preconditions: mu is held.
func (r *race) patience() time.Duration {
	o := &r.b.o.h.opt
	limit := r.b.o.times.late(o)
	if r.done > 0 {
		limit = max(limit, o.Gap)
	}
	if r.waits.IsZero() {
		return limit
	}
	return max(0, limit-time.Since(r.waits))
}

// lead makes who the request that brings bytes from now on, unless the other one does.
func (r *race) lead(who runner) error {
	r.mu.Lock()
	if r.leads == other(who) {
		r.mu.Unlock()
		return errLost
	}
	fresh := r.leads == nobody
	if fresh && r.done == 0 {
		r.b.o.times.add(time.Since(r.begin))
	}
	r.leads, r.waits = who, time.Time{}
	loser := r.cancel[other(who)-first]
	r.mu.Unlock()
	if fresh && loser != nil {
		loser(errLost)
	}
	if fresh && who == second {
		<-r.ended
	}
	return nil
}

// took notes that w has n bytes more and waits for the next.
func (r *race) took(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += uint64(n)
	r.waits = time.Now()
}

// A writer is where a request writes.
type writer struct {
	r   *race
	who runner
}

func (w *writer) Write(p []byte) (int, error) {
	if err := w.r.lead(w.who); err != nil {
		return 0, err
	}
	n, err := w.r.w.Write(p)
	w.r.took(n)
	return n, err
}

// A reader is a writer for the first request to a w that reads itself: bytes go
// straight to it. Where the second request has overtaken, those that came meanwhile
// are not among the bytes that w is told of, and the second request writes over them.
type reader struct {
	writer
	from io.ReaderFrom
}

func (d *reader) ReadFrom(src io.Reader) (int64, error) {
	return d.from.ReadFrom(&tap{d.r, src})
}

// A tap sees what w reads of the first request.
type tap struct {
	r   *race
	src io.Reader
}

func (t *tap) Read(p []byte) (int, error) {
	t.r.took(0)
	n, err := t.src.Read(p)
	if n == 0 {
		return 0, err
	}
	if err := t.r.lead(first); err != nil {
		return 0, err
	}
	t.r.mu.Lock()
	t.r.done += uint64(n)
	t.r.mu.Unlock()
	return n, err
}
