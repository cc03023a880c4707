package blobcache

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/backend/backendtest"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
	"vrafs/rafs"
)

// faulted opens an image whose data reads (not those of blob.meta) go through fault.
func faulted(t *testing.T, s *sample, opt Options, fault func(backendtest.Read) backendtest.Fault) *env {
	t.Helper()
	meta := map[string]uint64{}
	for _, b := range s.im.Blobs() {
		meta[b.ID] = b.MetaOff
	}
	return newEnv(t, s, t.TempDir(), opt, backendtest.Faulty(s.blobs, func(r backendtest.Read) backendtest.Fault {
		if r.Off >= meta[r.ID] {
			return backendtest.Fault{}
		}
		return fault(r)
	}))
}

func TestWrongBytesAreFetchedOnceMoreFromTheOrigin(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(4, 9000), comp: rafs.CompressorZstd})
	var origin atomic.Int32
	e := faulted(t, s, Options{}, func(r backendtest.Read) backendtest.Fault {
		if r.Origin {
			origin.Add(1)
		}
		return backendtest.Fault{Flip: !r.Origin}
	})
	e.check(s.all())
	if st := e.cache.Stats(); origin.Load() == 0 || st.Mismatches != 4 || st.Rejected != 0 {
		t.Errorf("%d reads from the origin, %+v", origin.Load(), st)
	}
}

func TestWrongBytesAreNeverServedNorStored(t *testing.T) {
	for _, spec := range []blobSpec{
		{id: "one", sizes: sizes(4, 9000)},
		{id: "one", sizes: sizes(4, 9000), comp: rafs.CompressorLZ4},
		{id: "one", sizes: sizes(6, 9000), comp: rafs.CompressorZstd, batch: 3},
	} {
		s := makeSample(t, spec)
		broken := true
		e := faulted(t, s, Options{}, func(backendtest.Read) backendtest.Fault { return backendtest.Fault{Flip: broken} })
		err := e.cache.Fetch(t.Context(), s.all(), nil)
		if !errors.Is(err, ErrDigest) {
			t.Errorf("got %v, want class %v", err, ErrDigest)
		}
		_ = e.cache.Close() // waits for the other chunks
		data, _ := os.ReadFile(filepath.Join(e.dir, "one"+dataSuffix))
		if len(bytes.Trim(data, "\x00")) != 0 {
			t.Error("wrong bytes were stored")
		}
		broken = false
		newEnv(t, s, e.dir, Options{}, nil).check(s.all())
	}
}

func TestShortAndFailedRequestsAreErrorsOfTheirReadersOnly(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(4, 9000)})
	failed := errors.New("no route")
	for name, fault := range map[string]backendtest.Fault{
		"error": {Err: failed},
		"short": {Short: 5},
	} {
		t.Run(name, func(t *testing.T) {
			var broken atomic.Bool
			broken.Store(true)
			e := faulted(t, s, Options{}, func(backendtest.Read) backendtest.Fault {
				if broken.Load() {
					return fault
				}
				return backendtest.Fault{}
			})
			if err := e.cache.Fetch(t.Context(), s.all()[3:], nil); err == nil || fault.Err != nil && !errors.Is(err, failed) {
				t.Errorf("got %v", err)
			}
			broken.Store(false)
			e.check(s.all())
			if st := e.cache.Stats(); st.RequestErrors == 0 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

func TestWaiterThatGivesUpLeavesTheFetchToOthers(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(1, 9000)})
	gate, asked := make(chan struct{}), make(chan struct{}, 16)
	var requests atomic.Int32
	e := faulted(t, s, Options{}, func(backendtest.Read) backendtest.Fault {
		requests.Add(1)
		asked <- struct{}{}
		return backendtest.Fault{Wait: gate}
	})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- e.cache.Fetch(ctx, s.all(), nil) }()
	<-asked
	second := make(chan error, 1)
	go func() { second <- e.cache.Fetch(t.Context(), s.all(), nil) }()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled waiter: %v", err)
	}
	close(gate)
	if err := <-second; err != nil {
		t.Errorf("other waiter: %v", err)
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests for one chunk", n)
	}
}

func TestCloseEndsStalledFetches(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(8, 9000)})
	asked := make(chan struct{}, 16)
	e := faulted(t, s, Options{Requests: 2, MaxRequestBytes: 1}, func(backendtest.Read) backendtest.Fault {
		asked <- struct{}{}
		return backendtest.Fault{Wait: make(chan struct{})}
	})
	other, err := e.store.Open(s.im, s.blobs, ImageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	done := make(chan error, 1)
	go func() { done <- e.cache.Fetch(t.Context(), s.all(), nil) }()
	<-asked
	joined := make(chan error, 1)
	go func() { joined <- other.Fetch(t.Context(), s.all(), nil) }()
	if err := e.cache.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := <-joined; err != nil {
		t.Errorf("an image that shared the flights: %v", err)
	}
	if err := e.cache.Fetch(t.Context(), s.all(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestStalledRequestEndsByTimeout(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(1, 9000)})
	stall := faulted(t, s, Options{RequestTimeout: time.Millisecond}, func(backendtest.Read) backendtest.Fault {
		return backendtest.Fault{Wait: make(chan struct{})}
	})
	if err := stall.cache.Fetch(t.Context(), s.all(), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestNeighbouringMissesBecomeOneRequest(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(64, 9000), comp: rafs.CompressorLZ4})
	var mu sync.Mutex
	var reads []backendtest.Read
	gate := make(chan struct{})
	e := faulted(t, s, Options{Requests: 1}, func(r backendtest.Read) backendtest.Fault {
		mu.Lock()
		defer mu.Unlock()
		reads = append(reads, r)
		return backendtest.Fault{Wait: gate}
	})
	// While one request is under way, the misses of many readers gather.
	var wg sync.WaitGroup
	for i := range s.spans[0] {
		wg.Go(func() {
			if err := e.cache.Fetch(t.Context(), s.spans[0][i:i+1], nil); err != nil {
				t.Error(err)
			}
		})
	}
	for underWay(e.store.sched) < 64 {
		runtime.Gosched()
	}
	close(gate)
	wg.Wait()
	if len(reads) > 3 {
		t.Errorf("%d requests for 64 neighbours", len(reads))
	}
	e.check(s.all())
}

// underWay gives the number of flights.
func underWay(s *scheduler) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.flights)
}

func TestAmplifyTakesNeighboursAlong(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(64, 9000)})
	e := faulted(t, s, Options{Amplify: 100_000}, func(backendtest.Read) backendtest.Fault { return backendtest.Fault{} })
	e.check(s.all()[10:11])
	e.check(s.all()[20:21])
	if st := e.cache.Stats(); st.Requests != 1 {
		t.Errorf("%d requests", st.Requests)
	}
	e.check(s.all()[21:22])
	if st := e.cache.Stats(); st.Requests != 2 {
		t.Errorf("amplification went past its limit: %d requests", st.Requests)
	}
}

// TestUnitsAreFetchedOnceForAllTheirSlices, also where a unit is longer than what is read
// along with a miss.
func TestUnitsAreFetchedOnceForAllTheirSlices(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(16, 50_000), comp: rafs.CompressorZstd, batch: 8})
	e := faulted(t, s, Options{Amplify: 100_000}, func(backendtest.Read) backendtest.Fault { return backendtest.Fault{} })
	e.check(s.all()[5:6])
	first := e.cache.Stats().Requests // blob.meta's among them
	for _, i := range []int{0, 7, 3} {
		e.check(s.all()[i : i+1])
	}
	if n := e.cache.Stats().Requests - first; n != 0 {
		t.Errorf("%d more requests for the same unit", n)
	}
	e.check(s.all()[8:9])
	if n := e.cache.Stats().Requests - first; n != 1 {
		t.Errorf("%d requests for the next unit", n)
	}
}

func TestBytesInFlightAreBounded(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(40, 50_000)})
	var now, most atomic.Int64
	const limit = 200_000
	e := faulted(t, s, Options{MaxFetchBytes: limit, MaxRequestBytes: 50_000}, func(r backendtest.Read) backendtest.Fault {
		if n := now.Add(int64(r.Len)); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-int64(r.Len))
		runtime.Gosched()
		return backendtest.Fault{}
	})
	var wg sync.WaitGroup
	for i := range s.spans[0] {
		wg.Go(func() {
			if err := e.cache.Fetch(t.Context(), s.spans[0][i:i+1], nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() > limit {
		t.Errorf("%d bytes under way, limit %d", most.Load(), limit)
	}
	e.close() // waits for the workers, who give the bytes back
	if n := e.store.sched.inflight(); n != 0 {
		t.Errorf("%d bytes never given back", n)
	}
}

func TestOneFetchPerChunkWhoeverAsks(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(20, 5000), comp: rafs.CompressorZstd})
	var bytesRead atomic.Int64
	e := faulted(t, s, Options{}, func(r backendtest.Read) backendtest.Fault {
		bytesRead.Add(int64(r.Len))
		return backendtest.Fault{}
	})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			var r Reader
			got, err := readAll(t.Context(), e.cache, &r, s.all())
			if err != nil || !bytes.Equal(got, s.bytes(s.all())) {
				t.Errorf("%v, or wrong bytes", err)
			}
		})
	}
	wg.Wait()
	if n := bytesRead.Load(); n != int64(s.im.Blobs()[0].MetaOff) {
		t.Errorf("%d bytes were read of a blob with %d", n, s.im.Blobs()[0].MetaOff)
	}
}

func TestFullDiskServesWithoutCaching(t *testing.T) {
	testenv.Need(t, testenv.Root)
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(40, 50_000), comp: rafs.CompressorLZ4})
	e := newEnv(t, s, dir, Options{}, nil)
	defer e.close()
	e.check(s.all())
	e.check(s.all())
	if st := e.cache.Stats(); st.Unstored == 0 || st.Entries == 0 {
		t.Errorf("stats %+v", st)
	}
	var h Held
	defer h.Release()
	if err := e.cache.Fetch(t.Context(), []rafs.Span{part(s, 0, 39, 17, 100)}, &h); err != nil || h.Size() != 100 {
		t.Errorf("a read of 100 bytes holds %d, %v", h.Size(), err)
	}
}

func TestReadOnlyDirectoryIsUsedButNotChanged(t *testing.T) {
	testenv.Need(t, testenv.Root)
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(10, 5000)}, blobSpec{id: "two", sizes: sizes(3, 100)})
	dir := t.TempDir()
	writer := newEnv(t, s, dir, Options{}, nil)
	writer.check(s.spans[0][:4])
	writer.close()
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	e := newEnv(t, s, dir, Options{}, nil)
	defer e.close()
	e.check(s.all())
	e.hit(s.spans[0][:4])
	if st := e.cache.Stats(); st.Unstored != 9 || st.Entries != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestNoDirectoryMeansNoCache(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(10, 5000), comp: rafs.CompressorZstd, batch: 2})
	e := newEnv(t, s, "", Options{}, nil)
	e.check(s.all())
	e.check(s.all())
	if st := e.cache.Stats(); st.Unstored != 20 {
		t.Errorf("stats %+v", st)
	}
}

func TestWrongBytesWithoutADirectoryAreNotServed(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(4, 9000)})
	meta := s.im.Blobs()[0].MetaOff
	e := newEnv(t, s, "", Options{}, backendtest.Faulty(s.blobs, func(r backendtest.Read) backendtest.Fault {
		return backendtest.Fault{Flip: r.Off < meta}
	}))
	if err := e.cache.Fetch(t.Context(), s.all(), nil); !errors.Is(err, ErrDigest) {
		t.Errorf("got %v, want class %v", err, ErrDigest)
	}
}

func TestFileCutShortUnderLoad(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(32, 40_000), comp: rafs.CompressorLZ4})
	for range testenv.Rounds(50) {
		e := newEnv(t, s, t.TempDir(), Options{}, nil)
		e.check(s.all())
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				var r Reader
				for k := i; ; k = (k + 7) % 32 {
					select {
					case <-stop:
						return
					default:
					}
					got, err := readAll(t.Context(), e.cache, &r, s.spans[0][k:k+1])
					if err == nil && !bytes.Equal(got, s.data[0][k]) {
						t.Errorf("chunk %d: wrong bytes", k)
						return
					}
				}
			})
		}
		e.check(s.all())
		for _, size := range []int64{900_000, 123_456, 0} {
			if err := os.Truncate(filepath.Join(e.dir, "one"+dataSuffix), size); err != nil {
				t.Error(err)
			}
			if err := os.Truncate(filepath.Join(e.dir, "one"+mapSuffix), size/1000); err != nil {
				t.Error(err)
			}
			for k := range 32 {
				if got, err := readAll(t.Context(), e.cache, &e.r, s.spans[0][k:k+1]); err == nil && !bytes.Equal(got, s.data[0][k]) {
					t.Errorf("chunk %d after the cut to %d: wrong bytes", k, size)
				}
			}
		}
		close(stop)
		wg.Wait()
		e.close()
	}
}

func TestFileCutShortIsNotExtendedAgain(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(32, 40_000)})
	e := newEnv(t, s, t.TempDir(), Options{}, nil)
	e.check(s.all()[:16])
	path := filepath.Join(e.dir, "one"+dataSuffix)
	if err := os.Truncate(path, 50_000); err != nil {
		t.Fatal(err)
	}
	e.check(s.all()[30:31]) // stored past the cut it would make zeros of the rest
	if fi, err := os.Stat(path); err != nil || fi.Size() != 50_000 {
		t.Errorf("the file has %d bytes, %v", fi.Size(), err)
	}
	e.check(s.all())
	// Whoever opens the directory next extends the file and believes no proof.
	newEnv(t, s, e.dir, Options{}, nil).check(s.all())
	e.check(s.all())
}

func TestDeletedFilesKeepWorking(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(10, 5000)})
	e := newEnv(t, s, t.TempDir(), Options{}, nil)
	e.check(s.all()[:5])
	if err := os.RemoveAll(e.dir); err != nil {
		t.Fatal(err)
	}
	e.check(s.all())
	e.hit(s.all())
}

func TestPrefetchFillsTheCacheAndYields(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(200, 5000), comp: rafs.CompressorZstd}, blobSpec{id: "two", sizes: sizes(30, 3000)})
	e := newEnv(t, s, t.TempDir(), Options{}, nil)
	if err := e.prefetch(t.Context(), s.spans[1]); err != nil {
		t.Fatal(err)
	}
	e.hit(s.spans[1])
	if err := e.prefetchBlob(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	e.hit(s.all())
	st := e.cache.Stats()
	if !st.Ready || st.PrefetchChunks != 230 || st.PrefetchBytes == 0 || st.PrefetchBegin.IsZero() || st.PrefetchEnd.IsZero() {
		t.Errorf("stats %+v", st)
	}
	if st.PrefetchMerged > 20 {
		t.Errorf("%d requests for 230 chunks", st.PrefetchMerged)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.prefetch(ended, s.all()); !errors.Is(err, context.Canceled) {
		t.Errorf("ended prefetch: %v", err)
	}
}

func TestBrokenMetaFileIsReplaced(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(9, 5000), comp: rafs.CompressorZstd, batch: 3})
	dir := t.TempDir()
	first := newEnv(t, s, dir, Options{}, nil)
	first.check(s.all()[:3])
	first.close()
	path := filepath.Join(dir, "one"+metaSuffix)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(b []byte) []byte{
		"header":         func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"size":           func(b []byte) []byte { return b[:4096] },
		"zeros":          func(b []byte) []byte { clear(b); return b },
		"array of zeros": func(b []byte) []byte { clear(b[:len(b)-4096]); return b },
		"places":         func(b []byte) []byte { b[8+24*4] ^= 3; return b },
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, spoil(bytes.Clone(good)), 0o644); err != nil {
				t.Fatal(err)
			}
			for _, suffix := range []string{dataSuffix, mapSuffix, sidecarSuffix} {
				_ = os.Remove(filepath.Join(dir, "one"+suffix))
			}
			newEnv(t, s, dir, Options{}, nil).check(s.all())
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, good) {
				t.Errorf("the file was not replaced: %v", err)
			}
		})
	}
}

func TestOtherBootVoidsProofs(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(9, 5000)})
	e := newEnv(t, s, t.TempDir(), Options{}, nil)
	e.check(s.all())
	e.close()
	path := filepath.Join(e.dir, "one"+dataSuffix)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 5000), int64(s.spans[0][4].Off)); err != nil { // lost in a power cut
		t.Fatal(err)
	}
	f.Close()
	store, err := NewStore(opener.Local(), Options{Dir: e.dir})
	if err != nil {
		t.Fatal(err)
	}
	store.boot[0] ^= 1
	c, err := store.Open(s.im, s.blobs, ImageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	after := &env{sample: s, t: t, dir: e.dir, store: store, cache: c}
	defer after.close()
	after.check(s.all())
	if st := c.Stats(); st.Mismatches != 1 || st.Entries != 1 {
		t.Errorf("stats %+v", st)
	}
}

// TestPrefetchThatIsWantedIsLetGo: what holds prefetches back learns when somebody
// begins to wait for one.
func TestPrefetchThatIsWantedIsLetGo(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(4, 9000)})
	held := make(chan struct{}, 1)
	e := faulted(t, s, Options{}, func(r backendtest.Read) backendtest.Fault {
		if !r.Prefetch {
			t.Errorf("%d bytes at %d are asked for again", r.Len, r.Off)
		}
		held <- struct{}{}
		return backendtest.Fault{Wait: r.Wanted}
	})
	ended := make(chan error, 1)
	go func() { ended <- e.prefetch(t.Context(), s.all()) }()
	<-held
	if err := e.cache.Fetch(t.Context(), s.all()[3:4], nil); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
