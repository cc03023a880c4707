package blobcache

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vrafs/backend"
	"vrafs/backend/backendtest"
	"vrafs/backend/stream"
	"vrafs/internal/opener"
)

// A line is a back end at the end of a long, narrow line, in the time of synctest: what
// is asked for begins to come a round trip later, and all that comes shares the rate.
type line struct {
	blobs backendtest.Memory
	trip  time.Duration
	rate  float64 // bytes a second

	mu    sync.Mutex
	free  time.Time // when the line has carried all that was put on it
	asked []asked
	bytes uint64 // that were carried
	begin time.Time
}

// An asked is one request that came to the other end.
type asked struct {
	off, size uint64
	prefetch  bool
	after     time.Duration // since the line was made
}

func newLine(s *sample, trip time.Duration, rate float64) *line {
	return &line{blobs: s.blobs, trip: trip, rate: rate, begin: time.Now()}
}

func (l *line) Open(ctx context.Context, id string) (backend.Blob, error) {
	b, err := l.blobs.Open(ctx, id)
	return &lineBlob{b, l}, err
}

type lineBlob struct {
	backend.Blob
	l *line
}

func (b *lineBlob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	n, err := b.ReadTo(ctx, &into{p}, off, uint64(len(p)))
	return int(n), err
}

// An into fills p.
type into struct{ p []byte }

func (w *into) Write(p []byte) (int, error) {
	n := copy(w.p, p)
	w.p = w.p[n:]
	return n, nil
}

// parcel is what shares the line at once, in bytes.
const parcel = 16 << 10

func (b *lineBlob) ReadTo(ctx context.Context, w io.Writer, off, n uint64) (done uint64, err error) {
	l := b.l
	l.mu.Lock()
	l.asked = append(l.asked, asked{off, n, backend.IsPrefetch(ctx), time.Since(l.begin)})
	l.mu.Unlock()
	if err := pass(ctx, l.trip); err != nil {
		return 0, err
	}
	for p := make([]byte, parcel); done < n; {
		part := p[:min(parcel, n-done)]
		got, err := b.Blob.ReadAt(ctx, part, off+done)
		if err := pass(ctx, l.carry(got)); err != nil {
			return done, err
		}
		wrote, werr := w.Write(part[:got])
		done += uint64(wrote)
		if werr != nil {
			return done, werr
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// carry puts n bytes on the line and gives the time until they arrive.
func (l *line) carry(n int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.free.Before(now) {
		l.free = now
	}
	l.bytes += uint64(n)
	l.free = l.free.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
	return time.Until(l.free)
}

func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// carried is how many bytes were put on the line so far.
func (l *line) carried() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

// requests are those so far.
func (l *line) requests() []asked {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]asked{}, l.asked...)
}

func (l *line) String() (s string) {
	for _, a := range l.requests() {
		s += fmt.Sprintf("%6d ms %9d +%7d prefetch %v\n", a.after.Milliseconds(), a.off, a.size, a.prefetch)
	}
	return s
}

const (
	trip = 20 * time.Millisecond
	mb   = 1_000_000
	rate = 10 * mb
)

// onLine runs f with an image behind a line of 10 MB/s and 20 ms.
func onLine(t *testing.T, s *sample, opt Options, f func(t *testing.T, e *env, l *line)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := newLine(s, trip, rate)
		opt.Dir = dir
		store, err := NewStore(opener.Local(), opt)
		if err != nil {
			t.Fatal(err)
		}
		var src backend.Opener = l
		if opt.PrefetchStream {
			src = stream.New(l, stream.Options{})
		}
		c, err := store.Open(s.im, src, ImageOptions{})
		if err != nil {
			t.Fatal(err)
		}
		e := &env{sample: s, t: t, dir: dir, store: store, cache: c}
		defer e.close()
		f(t, e, l)
		if t.Failed() {
			t.Logf("requests:\n%s", l)
		}
	})
}

// wire is the time that n bytes take on the line.
func wire(n uint64) time.Duration { return time.Duration(float64(n) / rate * float64(time.Second)) }

// timed gives how long f took, on the clock of the line.
func timed(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin)
}
