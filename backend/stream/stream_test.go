package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vrafs/backend"
	"vrafs/backend/backendtest"
)

// passes has every read of a back end be one of a pass to the end of its blob.
type passes struct{ backend.Opener }

func (p passes) Open(ctx context.Context, id string) (backend.Blob, error) {
	b, err := p.Opener.Open(ctx, id)
	return passBlob{b}, err
}

type passBlob struct{ backend.Blob }

func (b passBlob) ReadTo(ctx context.Context, w io.Writer, off, n uint64) (uint64, error) {
	size, err := b.Size(ctx)
	if err != nil {
		return 0, err
	}
	return backend.ReadTo(backend.InStream(backend.ForPrefetch(ctx), size), b.Blob, w, off, n)
}

func (b passBlob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	n, err := b.ReadTo(ctx, backend.Fill(p), off, uint64(len(p)))
	return int(n), err
}

func TestConformance(t *testing.T) {
	for _, skip := range []uint64{1, 1 << 20} {
		backendtest.Run(t, func(_ *testing.T, blobs map[string][]byte) backend.Opener {
			return passes{New(backendtest.Memory(blobs), Options{Skip: skip})}
		})
	}
}

const size = 1 << 20

// A source is a blob whose bytes come in parcels, and the requests for it.
type source struct {
	data []byte

	mu       sync.Mutex
	parcel   func(ctx context.Context, off uint64) error
	requests []string
	ended    int
	closed   bool
}

const parcelBytes = 10_000

func (s *source) Open(context.Context, string) (backend.Blob, error) { return s, nil }

func (s *source) ReadTo(ctx context.Context, w io.Writer, off, n uint64) (done uint64, err error) {
	s.mu.Lock()
	s.requests = append(s.requests, fmt.Sprintf("%d-%d", off, off+n))
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ended++
	}()
	for done < n {
		s.mu.Lock()
		parcel := s.parcel
		s.mu.Unlock()
		if parcel != nil {
			if err := parcel(ctx, off+done); err != nil {
				return done, err
			}
		}
		p := s.data[off+done:]
		k, err := w.Write(p[:min(uint64(len(p)), n-done, parcelBytes)])
		done += uint64(k)
		if err != nil {
			return done, err
		}
		if len(p) < parcelBytes && done < n {
			return done, io.ErrUnexpectedEOF
		}
	}
	return done, nil
}

func (s *source) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	n, err := s.ReadTo(ctx, backend.Fill(p), off, uint64(len(p)))
	return int(n), err
}

func (s *source) Size(context.Context) (uint64, error) { return uint64(len(s.data)), nil }

func (s *source) Close() error {
	s.closed = true
	return nil
}

// before has f called before each parcel from a byte on; its error ends the request.
func (s *source) before(f func(ctx context.Context, off uint64) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parcel = f
}

// take gives the requests since the last call.
func (s *source) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.requests
	s.requests = nil
	return list
}

// sourced runs a test of a source in the time of synctest. No request outlives the blob.
func sourced(t *testing.T, o Options, f func(t *testing.T, s *source, b backend.Blob, c *Counters)) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{data: make([]byte, size)}
		for i := range s.data {
			s.data[i] = byte(i*7 + i>>9)
		}
		o.Count = &Counters{}
		b, err := New(s, o).Open(t.Context(), "id")
		if err != nil {
			t.Fatal(err)
		}
		f(t, s, b, o.Count)
		if err := b.Close(); err != nil || !s.closed {
			t.Errorf("close: %v", err)
		}
		if n := o.Count.Requests.Load(); n == 0 || s.ended < int(n) {
			t.Errorf("%d of %d requests have ended", s.ended, n)
		}
	})
}

// pass reads as a part of a pass.
func (s *source) pass(t *testing.T, ctx context.Context, b backend.Blob, off, n uint64) (uint64, error) {
	t.Helper()
	var got bytes.Buffer
	done, err := backend.ReadTo(backend.InStream(ctx, size), b, &got, off, n)
	if !bytes.Equal(got.Bytes(), s.data[off:off+done]) {
		t.Errorf("%d bytes at %d: wrong ones", n, off)
	}
	return done, err
}

func (s *source) must(t *testing.T, b backend.Blob, off, n uint64) {
	t.Helper()
	if done, err := s.pass(t, backend.ForPrefetch(t.Context()), b, off, n); done != n || err != nil {
		t.Errorf("%d bytes at %d: got %d, %v", n, off, done, err)
	}
}

func (s *source) asked(t *testing.T, when string, want ...string) {
	t.Helper()
	if got := s.take(); !slices.Equal(got, want) {
		t.Errorf("%s: asked for %q, want %q", when, got, want)
	}
}

func TestAPassIsOneRequest(t *testing.T) {
	sourced(t, Options{Skip: 100_000}, func(t *testing.T, s *source, b backend.Blob, c *Counters) {
		for off := uint64(0); off < size; off += size / 8 {
			s.must(t, b, off, size/8)
			<-time.After(9 * time.Second)
		}
		s.asked(t, "in order", fmt.Sprintf("0-%d", size))
		s.must(t, b, 50, 100)
		s.must(t, b, 100_150, 10)
		s.asked(t, "a hole that is read along", fmt.Sprintf("50-%d", size))
		s.must(t, b, 200_261, 10)
		s.asked(t, "a hole that is too large", fmt.Sprintf("200261-%d", size))
		s.must(t, b, 200_270, 10)
		s.asked(t, "a byte that was read", "200270-200280")
		s.must(t, b, 200_271, 10)
		s.asked(t, "after one that went back")
		if got := [...]uint64{c.Requests.Load(), c.Resumed.Load(), c.Expired.Load(), c.Bytes.Load()}; got != [...]uint64{3, 1, 0, size + 130} {
			t.Errorf("counted %d", got)
		}
	})
}

// TestOtherReadsPassBy: those that somebody waits for, those for the origin or for peers,
// and those of no pass, beside one.
func TestOtherReadsPassBy(t *testing.T) {
	sourced(t, Options{}, func(t *testing.T, s *source, b backend.Blob, _ *Counters) {
		s.must(t, b, 0, 10)
		s.asked(t, "a pass", fmt.Sprintf("0-%d", size))
		prefetch, wanted := backend.ForPrefetch(t.Context()), make(chan struct{})
		close(wanted)
		for name, ctx := range map[string]context.Context{
			"a demand":            t.Context(),
			"a prefetch's second": backend.ForPrefetchUntil(t.Context(), wanted),
			"the origin":          backend.FromOrigin(prefetch),
			"peers":               backend.ForPeers(prefetch),
		} {
			if done, err := s.pass(t, ctx, b, 10, 10); done != 10 || err != nil {
				t.Errorf("%s: %d, %v", name, done, err)
			}
			s.asked(t, name, "10-20")
		}
		if done, err := backend.ReadTo(prefetch, b, io.Discard, 10, 10); done != 10 || err != nil {
			t.Errorf("got %d, %v", done, err)
		}
		s.asked(t, "no pass", "10-20")
		s.must(t, b, 10, 10)
		s.asked(t, "the pass goes on")
	})
}

var errStop = fmt.Errorf("%w: enough", backend.ErrPermanent)

// A stopper takes n bytes.
type stopper struct {
	bytes.Buffer
	n int
}

func (w *stopper) Write(p []byte) (int, error) {
	n, _ := w.Buffer.Write(p[:min(len(p), w.n-w.Len())])
	if n < len(p) {
		return n, errStop
	}
	return n, nil
}

// TestAReadThatStopsLeavesTheRest to the next one.
func TestAReadThatStopsLeavesTheRest(t *testing.T) {
	sourced(t, Options{}, func(t *testing.T, s *source, b backend.Blob, _ *Counters) {
		w := &stopper{n: 123_456}
		done, err := backend.ReadTo(backend.InStream(backend.ForPrefetch(t.Context()), size), b, w, 0, 200_000)
		if done != 123_456 || err != errStop || !bytes.Equal(w.Bytes(), s.data[:123_456]) {
			t.Errorf("got %d, %v, or wrong bytes", done, err)
		}
		s.must(t, b, 123_456, 100_000)
		s.asked(t, "both", fmt.Sprintf("0-%d", size))
	})
}

// TestIdleRequestsEnd before a server loses its patience, and the next read goes on.
func TestIdleRequestsEnd(t *testing.T) {
	sourced(t, Options{}, func(t *testing.T, s *source, b backend.Blob, c *Counters) {
		s.must(t, b, 0, 300_000)
		<-time.After(11 * time.Second)
		synctest.Wait()
		if s.ended != 1 || c.Expired.Load() != 1 {
			t.Errorf("%d requests have ended, %d are counted", s.ended, c.Expired.Load())
		}
		s.must(t, b, 300_000, size-300_000)
		s.asked(t, "both", fmt.Sprintf("0-%d", size), fmt.Sprintf("300000-%d", size))
		<-time.After(time.Minute)
		if c.Expired.Load() != 1 {
			t.Error("a request that came to its end is counted as idle")
		}
	})
}

// TestBrokenStreamsAreResumedWhereTheyStopped: in a read its reader is told, and between
// two nobody.
func TestBrokenStreamsAreResumedWhereTheyStopped(t *testing.T) {
	errBroken := errors.New("connection reset")
	sourced(t, Options{}, func(t *testing.T, s *source, b backend.Blob, c *Counters) {
		var at atomic.Uint64 // once
		at.Store(500_000)
		s.before(func(_ context.Context, off uint64) error {
			if off >= at.Load() {
				at.Store(size)
				return errBroken
			}
			return nil
		})
		done, err := s.pass(t, backend.ForPrefetch(t.Context()), b, 0, 600_000)
		if done != 500_000 || err != errBroken {
			t.Errorf("got %d, %v", done, err)
		}
		at.Store(700_000)
		s.must(t, b, 500_000, 200_000)
		s.must(t, b, 700_000, 10)
		s.asked(t, "all", fmt.Sprintf("0-%d", size), fmt.Sprintf("500000-%d", size), fmt.Sprintf("700000-%d", size))
		if c.Requests.Load() != 3 || c.Resumed.Load() != 2 {
			t.Errorf("counted %d, %d", c.Requests.Load(), c.Resumed.Load())
		}
		s.must(t, b, 700_010, size-700_010)
		s.asked(t, "the rest")
		// One that can't be begun at all is the reader's to know, at once.
		s.before(func(context.Context, uint64) error { return errBroken })
		if done, err := s.pass(t, backend.ForPrefetch(t.Context()), b, 0, 10); done != 0 || err != errBroken {
			t.Errorf("got %d, %v", done, err)
		}
		s.asked(t, "once", fmt.Sprintf("0-%d", size))
	})
}

// TestAStreamThatStopsIsLeftForWhoWaits, soon; who doesn't wait has time.
func TestAStreamThatStopsIsLeftForWhoWaits(t *testing.T) {
	sourced(t, Options{}, func(t *testing.T, s *source, b backend.Blob, _ *Counters) {
		s.before(func(ctx context.Context, off uint64) error {
			if off < 100_000 {
				return nil
			}
			<-ctx.Done()
			return context.Cause(ctx)
		})
		wanted := make(chan struct{})
		ended := make(chan error)
		begin := time.Now()
		go func() {
			_, err := s.pass(t, backend.ForPrefetchUntil(t.Context(), wanted), b, 0, 200_000)
			ended <- err
		}()
		select {
		case err := <-ended:
			t.Fatalf("ended with %v", err)
		case <-time.After(time.Hour):
		}
		close(wanted)
		e := (*backend.Error)(nil)
		if err := <-ended; !errors.As(err, &e) || e.Blob != "id" || errors.Is(err, backend.ErrPermanent) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(begin) - time.Hour; took > time.Second {
			t.Errorf("after %v", took)
		}
	})
}

// TestReadersMayLeave: the end of a reader's context ends its read, and the end of the
// blob does.
func TestReadersMayLeave(t *testing.T) {
	sourced(t, Options{}, func(t *testing.T, s *source, b backend.Blob, _ *Counters) {
		s.before(func(ctx context.Context, _ uint64) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		left := errors.New("left")
		ctx, cancel := context.WithCancelCause(backend.ForPrefetch(t.Context()))
		time.AfterFunc(time.Second, func() { cancel(left) })
		if _, err := s.pass(t, ctx, b, 0, 10); err != left {
			t.Errorf("got %v", err)
		}
		ended := make(chan error)
		go func() {
			_, err := s.pass(t, backend.ForPrefetch(t.Context()), b, 0, 10)
			ended <- err
		}()
		synctest.Wait()
		// A second pass at the same time is on its own.
		ctx, cancel = context.WithCancelCause(backend.ForPrefetch(t.Context()))
		cancel(left)
		if _, err := s.pass(t, ctx, b, 20, 10); err != left {
			t.Errorf("got %v", err)
		}
		s.asked(t, "all", fmt.Sprintf("0-%d", size), fmt.Sprintf("0-%d", size), "20-30")
		go func() { _ = b.Close() }()
		if err := <-ended; !errors.Is(err, backend.ErrPermanent) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if _, err := s.pass(t, backend.ForPrefetch(t.Context()), b, 0, 10); !errors.Is(err, errClosed) {
			t.Errorf("got %v", err)
		}
	})
}
