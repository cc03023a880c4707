package blobcache

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"vrafs/backend/backendtest"
	"vrafs/backend/stream"
	"vrafs/internal/opener"
)

// streams are the requests of prefetches so far.
func (l *line) streams() (list []asked) {
	for _, a := range l.requests() {
		if a.prefetch {
			list = append(list, a)
		}
	}
	return list
}

// TestAStreamedBlobIsOneRequest, in the time that its bytes need, however small reads are.
func TestAStreamedBlobIsOneRequest(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(3000, 10_000)}, blobSpec{id: "two", sizes: sizes(100, 30_000)})
	onLine(t, s, Options{PrefetchStream: true, PrefetchBytes: 256 << 10}, func(t *testing.T, e *env, l *line) {
		took := timed(func() {
			for i := range 2 {
				if err := e.prefetchBlob(t.Context(), i); err != nil {
					t.Fatal(err)
				}
			}
		})
		if n := len(l.streams()); n != 2 {
			t.Errorf("%d requests for two blobs", n)
		}
		// The description of its chunks, which is read before it, is another request.
		if over := took - wire(l.bytes); over > 2*(2*trip+minCalm) {
			t.Errorf("%d bytes took %v longer than on the line", l.bytes, over)
		}
		e.hit(s.all())
	})
}

// TestAStreamGoesRoundWhatIsThere, and ends with what is missing.
func TestAStreamGoesRoundWhatIsThere(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(1000, 30_000)})
	onLine(t, s, Options{PrefetchStream: true}, func(t *testing.T, e *env, l *line) {
		for _, part := range [][2]int{{0, 10}, {200, 204}, {500, 700}, {990, 1000}} {
			if err := e.prefetch(t.Context(), s.spans[0][part[0]:part[1]]); err != nil {
				t.Fatal(err)
			}
		}
		before := len(l.streams())
		if err := e.prefetchBlob(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		list := l.streams()[before:]
		if len(list) != 2 || list[0].off != s.stored(10) || list[1].off != s.stored(700) || list[1].off+list[1].size != s.stored(990) {
			t.Errorf("asked for %+v", list)
		}
		e.hit(s.all())
	})
}

// TestAStreamMakesWayAndGoesOn: who reads something else has the line, and no byte of the
// stream comes twice, since its request waits.
func TestAStreamMakesWayAndGoesOn(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(1000, 30_000)})
	onLine(t, s, Options{PrefetchStream: true}, func(t *testing.T, e *env, l *line) {
		ended := make(chan error, 1)
		go func() { ended <- e.prefetchBlob(t.Context(), 0) }()
		for i := range 10 {
			<-time.After(minCalm + trip + wire(1_234_567))
			// What the connection holds is before it on the line.
			if took, most := timed(func() { e.check(s.all()[990-i:][:1]) }), trip+wire(30_000+10*parcel); took > most {
				t.Errorf("took %v, want %v", took, most)
			}
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		streams, most := l.streams(), s.stored(1000)+10*30_000+l.requests()[0].size
		if len(streams) != 1 || l.bytes > most {
			t.Errorf("%d streams, %d bytes, want %d", len(streams), l.bytes, most)
		}
		e.hit(s.all())
	})
}

// TestAStreamThatHasToWaitLongIsResumed, with a range from where it stopped.
func TestAStreamThatHasToWaitLongIsResumed(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(1000, 30_000)})
	onLine(t, s, Options{PrefetchStream: true}, func(t *testing.T, e *env, l *line) {
		ended := make(chan error, 1)
		go func() { ended <- e.prefetchBlob(t.Context(), 0) }()
		<-time.After(minCalm + trip + wire(5*mb))
		e.cache.PausePrefetch(true)
		<-time.After(time.Hour)
		came := e.cache.Stats().PrefetchBytes
		e.cache.PausePrefetch(false)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if list := l.streams(); len(list) != 2 || list[1].off != came {
			t.Errorf("after %d bytes asked for %+v", came, list)
		}
		e.hit(s.all())
	})
}

// TestFaultsOfStreams: what is cut off is resumed or left out, what is wrong is never
// kept, and is asked of the origin by itself.
func TestFaultsOfStreams(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(300, 30_000)})
	for _, tt := range []struct {
		name  string
		fault func(r backendtest.Read, n int) backendtest.Fault // of the n-th read
		kept  func(n int) bool
	}{
		{"wrong bytes on the way", func(r backendtest.Read, _ int) backendtest.Fault { return backendtest.Fault{Flip: !r.Origin} }, func(n int) bool { return n == 300 }},
		{"wrong bytes everywhere", func(backendtest.Read, int) backendtest.Fault { return backendtest.Fault{Flip: true} }, func(n int) bool { return n == 0 }},
		{"cut off once", func(_ backendtest.Read, n int) backendtest.Fault {
			if n == 3 {
				return backendtest.Fault{Short: 12_345}
			}
			return backendtest.Fault{}
		}, func(n int) bool { return n >= 300-(1<<20)/30_000-2 && n < 300 }},
		{"broken off at once", func(_ backendtest.Read, n int) backendtest.Fault {
			if n%2 == 1 {
				return backendtest.Fault{Err: errors.New("connection reset")}
			}
			return backendtest.Fault{}
		}, func(n int) bool { return n > 0 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var reads atomic.Int32
			src := stream.New(backendtest.Faulty(s.blobs, func(r backendtest.Read) backendtest.Fault {
				return tt.fault(r, int(reads.Add(1)))
			}), stream.Options{})
			store, err := NewStore(opener.Local(), Options{Dir: t.TempDir(), PrefetchStream: true})
			if err != nil {
				t.Fatal(err)
			}
			c, err := store.Open(s.im, src, ImageOptions{})
			if err != nil {
				t.Fatal(err)
			}
			e := &env{sample: s, t: t, store: store, cache: c}
			defer e.close()
			if err := e.prefetchBlob(t.Context(), 0); err != nil {
				t.Error(err)
			}
			kept := 0
			for i := range s.spans[0] {
				p, one := make([]byte, 30_000), s.spans[0][i:i+1]
				if n, err := c.TryRead(&e.r, one, [][]byte{p}); err == nil && n == len(p) {
					kept++
					if !bytes.Equal(p, e.bytes(one)) {
						t.Errorf("chunk %d is wrong", i)
					}
				}
			}
			if !tt.kept(kept) {
				t.Errorf("%d of 300 chunks are kept", kept)
			}
		})
	}
}
