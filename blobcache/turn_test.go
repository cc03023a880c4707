package blobcache

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vrafs/backend/backendtest"
	"vrafs/rafs"
)

// TestListsKeepTheLineBusy: a list takes a round trip and the time that its bytes need,
// and comes in its order.
func TestListsKeepTheLineBusy(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(400, 20_000)})
	onLine(t, s, Options{}, func(t *testing.T, e *env, l *line) {
		took := timed(func() {
			if err := e.prefetch(t.Context(), s.all()); err != nil {
				t.Fatal(err)
			}
		})
		if over := took - wire(l.bytes); over > 2*trip {
			t.Errorf("%d bytes took %v longer than on the line", l.bytes, over)
		}
		list := l.requests()
		if !slices.IsSortedFunc(list, func(a, b asked) int { return int(a.off) - int(b.off) }) || len(list) > 10 {
			t.Errorf("%d requests, or not in order", len(list))
		}
	})
}

// TestRangesOfAListAreFew: what is scattered over a blob is asked for by few requests
// that read the smallest holes along, and the rest of the blob stays where it is.
func TestRangesOfAListAreFew(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(2000, 10_000)})
	onLine(t, s, Options{}, func(t *testing.T, e *env, l *line) {
		var list []rafs.Span
		for i := 0; i < 2000; i += 3 + i%29 {
			list = append(list, s.spans[0][i])
		}
		needed := uint64(10_000 * len(list))
		if err := e.prefetch(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		if n := len(l.requests()); n > 48 || n < 16 {
			t.Errorf("%d requests for %d chunks", n, len(list))
		}
		if l.bytes < needed || l.bytes > 10*needed || l.bytes >= s.im.Blobs()[0].MetaOff {
			t.Errorf("%d bytes for %d", l.bytes, needed)
		}
		e.check(list)
	})
}

// TestWhatIsWaitedForIsThereBeforeTheRequestEnds: what is read along comes after it and
// holds nobody up.
func TestWhatIsWaitedForIsThereBeforeTheRequestEnds(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(100, 10_000)})
	onLine(t, s, Options{Amplify: 1 << 20}, func(t *testing.T, e *env, l *line) {
		took := timed(func() { e.check(s.all()[:1]) })
		if most := trip + wire(3*parcel); took > most || l.requests()[0].size < 20*10_000 {
			t.Errorf("the first of %d bytes took %v, want %v", l.requests()[0].size, took, most)
		}
		e.check(s.all()[1:20])
		if n := len(l.requests()); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestMissesOfManyReadersBecomeOneRequest, also where none of them is in the way of the
// other: the first waits for a moment.
func TestMissesOfManyReadersBecomeOneRequest(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(64, 10_000)})
	onLine(t, s, Options{}, func(t *testing.T, e *env, l *line) {
		e.check(s.all()[:1]) // the line is known
		before := len(l.requests())
		var wg sync.WaitGroup
		for i := 10; i < 40; i++ {
			wg.Go(func() {
				if err := e.cache.Fetch(t.Context(), s.spans[0][i:i+1], nil); err != nil {
					t.Error(err)
				}
			})
		}
		took := timed(wg.Wait)
		if list := l.requests()[before:]; len(list) != 1 || list[0].off != s.stored(10) || list[0].size != 30*10_000 {
			t.Errorf("%d requests for 30 neighbours: %v", len(list), list)
		}
		if most := trip + trip/50 + wire(30*10_000+parcel); took > most {
			t.Errorf("30 neighbours took %v, want %v", took, most)
		}
	})
}

// stored is where a chunk of the first blob begins in its stored bytes: they are not
// compressed here.
func (s *sample) stored(i int) uint64 {
	n := uint64(0)
	for _, d := range s.data[0][:i] {
		n += uint64(len(d))
	}
	return n
}

// A walk is a reader that reads one chunk after the other, far from each other, with
// time to think between.
func walk(t *testing.T, e *env, chunks []int, think time.Duration) time.Duration {
	t.Helper()
	return timed(func() {
		for _, i := range chunks {
			e.check(e.spans[0][i : i+1])
			<-time.After(think)
		}
	})
}

// TestPrefetchOfAllCostsAReaderLittle: no more than a tenth of what a reader takes alone,
// however long it thinks between two reads.
func TestPrefetchOfAllCostsAReaderLittle(t *testing.T) {
	var chunks []int
	for i := range 100 {
		chunks = append(chunks, i*37%1000)
	}
	for _, think := range []time.Duration{0, 5 * time.Millisecond, 40 * time.Millisecond, 200 * time.Millisecond} {
		for _, streamed := range []bool{false, true} {
			s := makeSample(t, blobSpec{id: "one", sizes: sizes(1000, 30_000)})
			var alone time.Duration
			onLine(t, s, Options{}, func(t *testing.T, e *env, _ *line) { alone = walk(t, e, chunks, think) })
			onLine(t, s, Options{PrefetchStream: streamed}, func(t *testing.T, e *env, l *line) {
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- e.prefetchBlob(ctx, 0) }()
				beside := walk(t, e, chunks, think)
				cancel()
				<-ended
				t.Logf("thinking %v, streamed %v: %v alone, %v beside a prefetch of %d bytes", think, streamed, alone, beside, e.cache.Stats().PrefetchBytes)
				if beside > alone+alone/10 {
					t.Errorf("thinking %v: %v alone, %v beside a prefetch", think, alone, beside)
				}
				if e.cache.Stats().PrefetchBytes == 0 {
					t.Errorf("thinking %v: nothing was prefetched in %v", think, beside)
				}
			})
		}
	}
}

// TestPrefetchMakesWay: what is under way of a prefetch ends when somebody waits for
// something else, but not when it is what is waited for.
func TestPrefetchMakesWay(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(1000, 30_000)})
	for _, tt := range []struct {
		name  string
		chunk int
		most  time.Duration
	}{
		{"something else", 900, trip + wire(30_000+10*parcel)},
		{"what is under way", 20, wire(21 * 30_000)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onLine(t, s, Options{}, func(t *testing.T, e *env, l *line) {
				e.check(s.all()[:1])
				ended := make(chan error, 1)
				ctx, cancel := context.WithCancel(t.Context())
				defer func() { cancel(); <-ended }()
				go func() { ended <- e.prefetchBlob(ctx, 0) }()
				<-time.After(minCalm + trip + wire(50_000)) // it is in its first request
				if took := timed(func() { e.check(s.all()[tt.chunk:][:1]) }); took > tt.most {
					t.Errorf("took %v, want %v", took, tt.most)
				}
				before := l.carried()
				<-time.After(minCalm / 2) // too early for another prefetch
				if n := l.carried() - before; (n > 2*parcel) == (tt.chunk == 900) {
					t.Errorf("%d bytes of the prefetch came afterwards", n)
				}
			})
		})
	}
}

// TestMissesTakeNeighboursAlongBesideAPrefetch that wants them, too.
func TestMissesTakeNeighboursAlongBesideAPrefetch(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(400, 10_000)})
	onLine(t, s, Options{Amplify: 1 << 20}, func(t *testing.T, e *env, l *line) {
		e.check(s.all()[:1])
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.prefetchBlob(ctx, 0) }()
		synctest.Wait()
		e.check(s.all()[300:301])
		if !slices.ContainsFunc(l.requests(), func(a asked) bool { return a.off == s.stored(300) && a.size >= 10*10_000 }) {
			t.Error("a chunk was asked for alone")
		}
		cancel()
		<-ended
	})
}

func TestPausedPrefetchAsksForNothing(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(400, 30_000)})
	onLine(t, s, Options{}, func(t *testing.T, e *env, l *line) {
		ended := make(chan error, 1)
		go func() { ended <- e.prefetch(t.Context(), s.all()) }()
		<-time.After(trip + wire(mb))
		e.cache.PausePrefetch(true)
		<-time.After(time.Second) // what was under way has come
		before := len(l.requests())
		<-time.After(time.Hour)
		if n := len(l.requests()) - before; n != 0 || before == 0 {
			t.Errorf("%d requests, and %d while paused", before, n)
		}
		e.check(s.all()[399:]) // it waits in the prefetch, and comes all the same
		if n := len(l.requests()) - before; n != 1 {
			t.Errorf("%d requests for a read", n)
		}
		e.cache.PausePrefetch(false)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		e.hit(s.all())
	})
}

func TestPrefetchKeepsToItsRate(t *testing.T) {
	const limit = 2 * mb
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(300, 30_000)})
	onLine(t, s, Options{PrefetchRate: limit}, func(t *testing.T, e *env, l *line) {
		took := timed(func() {
			if err := e.prefetch(t.Context(), s.all()); err != nil {
				t.Error(err)
			}
		})
		// The last request is let through when those before it have had their time.
		least := time.Duration(float64(l.bytes-1<<20) / limit * float64(time.Second))
		if took < least || took > least+time.Second || len(l.requests()) > 10 {
			t.Errorf("%d bytes in %v by %d requests, want %v", l.bytes, took, len(l.requests()), least)
		}
	})
}

// TestWholeBlobsAreAskedForInFixedRanges, also by a host that has read something before:
// so hosts that share a cache on the way share what is in it.
func TestWholeBlobsAreAskedForInFixedRanges(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(1000, 30_000)})
	ranges := func(read []int) map[uint64]uint64 {
		m := map[uint64]uint64{}
		onLine(t, s, Options{}, func(t *testing.T, e *env, l *line) {
			walk(t, e, read, 0)
			before := len(l.requests())
			if err := e.prefetchBlob(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			for _, a := range l.requests()[before:] {
				m[a.off] = a.size
			}
		})
		return m
	}
	all, rest := ranges(nil), ranges([]int{500, 501})
	differ := 0
	for off, size := range rest {
		if all[off] != size {
			differ++
		}
	}
	if differ > 2 || len(all) < 25 || len(all) > 35 {
		t.Errorf("%d of %d ranges differ from those of another host", differ, len(all))
	}
}

// TestWantedPartOfAListGoesFirst, with its neighbours, and the list goes on.
func TestWantedPartOfAListGoesFirst(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(400, 30_000)})
	onLine(t, s, Options{}, func(t *testing.T, e *env, l *line) {
		ended := make(chan error, 1)
		go func() { ended <- e.prefetch(t.Context(), s.all()) }()
		<-time.After(trip + wire(100_000))
		before := len(l.requests())
		took := timed(func() { e.check(s.all()[300:301]) })
		if list := l.requests()[before:]; list[0].off != s.stored(300) || list[0].prefetch || list[0].size < 10*30_000 {
			t.Errorf("asked for %+v", list[0])
		}
		if most := trip + wire(1<<20+4*30_000); took > most {
			t.Errorf("took %v, want %v", took, most)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestFailedPrefetchIsNoErrorOfWhoWaits: somebody who joined it has it asked for again.
func TestFailedPrefetchIsNoErrorOfWhoWaits(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(4, 9000)})
	held, wanted := make(chan struct{}), make(chan struct{})
	e := faulted(t, s, Options{}, func(r backendtest.Read) backendtest.Fault {
		if !r.Prefetch {
			return backendtest.Fault{}
		}
		close(held)
		return backendtest.Fault{Wait: wanted, Err: errors.New("no route")}
	})
	ended := make(chan error, 1)
	go func() { ended <- e.prefetch(t.Context(), s.all()) }()
	<-held
	read := make(chan error, 1)
	go func() { read <- e.cache.Fetch(t.Context(), s.all()[3:4], nil) }()
	for e.store.sched.waiting() == 0 {
		<-time.After(time.Millisecond)
	}
	close(wanted)
	if err := <-read; err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// waiting is how many flights somebody waits for.
func (s *scheduler) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waited
}

// TestCloseEndsWhatWaitsForItsTurn: prefetches that others keep waiting, or that are
// paused.
func TestCloseEndsWhatWaitsForItsTurn(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(400, 30_000)})
	onLine(t, s, Options{}, func(t *testing.T, e *env, _ *line) {
		e.cache.PausePrefetch(true)
		ended := make(chan error, 1)
		go func() { ended <- e.prefetch(t.Context(), s.all()) }()
		synctest.Wait()
		if err := e.cache.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

// TestListsPassAnImageThatHangs: the lists of other images are asked for beside it.
func TestListsPassAnImageThatHangs(t *testing.T) {
	hanging := makeSample(t, blobSpec{id: "hanging", sizes: sizes(400, 30_000)})
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(40, 30_000)})
	onLine(t, s, Options{}, func(t *testing.T, e *env, l *line) {
		never := make(chan struct{})
		c, err := e.store.Open(hanging.im, backendtest.Faulty(hanging.blobs, func(r backendtest.Read) (f backendtest.Fault) {
			if r.Prefetch {
				f.Wait = never
			}
			return f
		}), ImageOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Prefetch(t.Context(), Soon, nil, func(p *Prefetch) { p.Add(hanging.all()) }) }()
		synctest.Wait()
		took := timed(func() {
			if err := e.prefetch(t.Context(), s.all()); err != nil {
				t.Error(err)
			}
		})
		if most := 3*trip + wire(l.carried()); took > most || c.Stats().Requests == 0 {
			t.Errorf("a list took %v beside an image that hangs, want %v", took, most)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
}

// TestListTakesAlongNothingThatSomebodyWaitsFor: what waits for its neighbours for a
// moment is asked for as what it is, and is the first of its request.
func TestListTakesAlongNothingThatSomebodyWaitsFor(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(40, 10_000)})
	onLine(t, s, Options{}, func(t *testing.T, e *env, l *line) {
		e.check(s.all()[:1]) // the line is known
		before := len(l.requests())
		e.cache.PausePrefetch(true)
		ended := make(chan error, 2)
		go func() { ended <- e.prefetch(t.Context(), s.all()) }()
		synctest.Wait()
		go func() { ended <- e.cache.Fetch(t.Context(), s.all()[20:21], nil) }()
		synctest.Wait()
		e.cache.PausePrefetch(false)
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if list := l.requests()[before:]; !slices.ContainsFunc(list, func(a asked) bool { return !a.prefetch && a.off == s.stored(20) }) {
			t.Errorf("asked for %+v", list)
		}
	})
}

// TestWantedJobGoesBeforeOthers, also if it was not wanted when it began to wait for a
// worker.
func TestWantedJobGoesBeforeOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScheduler(t.Context(), Options{}) // without workers
		wanted := make(chan struct{})
		go s.send(job{}, false, wanted)
		synctest.Wait()
		close(wanted)
		<-s.urgent
	})
}
