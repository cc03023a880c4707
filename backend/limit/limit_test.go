package limit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"vrafs/backend"
	"vrafs/backend/backendtest"
)

func TestConformance(t *testing.T) {
	backendtest.Run(t, func(_ *testing.T, blobs map[string][]byte) backend.Opener {
		return New(100_000).Wrap(backendtest.Memory(blobs))
	})
}

// gated is a back end whose reads are noted and wait until they are let go.
func gated(t *testing.T, b *Bytes) (blob backend.Blob, begun *[]int, gate chan struct{}) {
	t.Helper()
	begun, gate = &[]int{}, make(chan struct{})
	var mu sync.Mutex
	inner := backendtest.Faulty(backendtest.Memory{"id": make([]byte, 100)}, func(r backendtest.Read) backendtest.Fault {
		mu.Lock()
		*begun = append(*begun, r.Len)
		mu.Unlock()
		return backendtest.Fault{Wait: gate}
	})
	blob, err := b.Wrap(inner).Open(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	return blob, begun, gate
}

func TestReadsBeyondTheBoundWaitInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(10)
		blob, begun, gate := gated(t, b)
		read := func(n int) {
			go func() {
				if _, err := blob.ReadAt(t.Context(), make([]byte, n), 0); err != nil {
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		read(6)
		read(8) // does not fit beside the first
		read(1) // would, but does not pass the second
		read(50)
		for _, want := range [][]int{{6}, {6, 8, 1}, {6, 8, 1}, {6, 8, 1, 50}} {
			// Those that are let in together begin in any order.
			if got := *begun; !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
				t.Fatalf("reads under way or done: %v, want %v", got, want)
			}
			gate <- struct{}{}
			synctest.Wait()
		}
		if b.busy() {
			t.Error("something is left")
		}
	})
}

func TestWhoGivesUpLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(10)
		blob, _, gate := gated(t, b)
		go func() { _, _ = blob.ReadAt(t.Context(), make([]byte, 10), 0) }()
		synctest.Wait()
		gone := errors.New("reader went away")
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error, 1)
		go func() {
			_, err := blob.ReadAt(ctx, make([]byte, 10), 0)
			result <- err
		}()
		synctest.Wait()
		cancel(gone)
		if err := <-result; !errors.Is(err, gone) {
			t.Errorf("got %v, want %v", err, gone)
		}
		close(gate)
		synctest.Wait()
		if b.busy() {
			t.Error("something is left")
		}
	})
}

// TestLeavingAfterAdmissionGivesBack is the moment between admit and select.
func TestLeavingAfterAdmissionGivesBack(t *testing.T) {
	b := New(10)
	w := &waiter{n: 7}
	b.enter(w)
	b.leave(w)
	if b.busy() {
		t.Error("something is left")
	}
}

// busy reports whether anything is under way or waits.
func (b *Bytes) busy() bool {
	return b.under != [classes]share{} || len(b.queue[demand])+len(b.queue[prefetch]) > 0
}

// A step of TestDemandGoesBeforePrefetch: a read of n bytes comes, or the first of those
// under way ends, or somebody begins to wait for the prefetch marked as hoped.
type step struct {
	what string // demand, prefetch, hoped; end, wanted
	n    int
	want []int // lengths of the reads that have begun
}

// TestDemandGoesBeforePrefetch, whoever came first and of whatever image.
func TestDemandGoesBeforePrefetch(t *testing.T) {
	for name, steps := range map[string][]step{
		"prefetches have half of the bound": {
			{"prefetch", 6, []int{6}},
			{"prefetch", 5, []int{6}},
			{"demand", 14, []int{6, 14}},
		},
		"a demand passes prefetches that wait": {
			{"demand", 20, []int{20}},
			{"prefetch", 2, []int{20}},
			{"demand", 19, []int{20}},
			{"end", 0, []int{20, 19}},
			{"end", 0, []int{20, 19, 2}},
		},
		"no prefetch begins while a demand waits": {
			{"demand", 12, []int{12}},
			{"demand", 11, []int{12}},
			{"prefetch", 1, []int{12}},
		},
		"beside a demand there is one prefetch at a time": {
			{"prefetch", 1, []int{1}},
			{"prefetch", 2, []int{1, 2}},
			{"demand", 5, []int{1, 2, 5}},
			{"prefetch", 3, []int{1, 2, 5}},
			{"end", 0, []int{1, 2, 5}}, // another one is under way
			{"end", 0, []int{1, 2, 5, 3}},
		},
		"a prefetch that is wanted is a demand": {
			{"demand", 11, []int{11}},
			{"prefetch", 5, []int{11, 5}},
			{"prefetch", 4, []int{11, 5}},
			{"hoped", 3, []int{11, 5}},
			{"wanted", 0, []int{11, 5, 3}},
		},
		"a prefetch larger than the half runs alone": {
			{"prefetch", 99, []int{99}},
			{"end", 0, []int{99}},
			{"prefetch", 1, []int{99, 1}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { (&stage{b: New(20), wanted: make(chan struct{})}).play(t, steps) })
		})
	}
}

// A stage is where steps are played.
type stage struct {
	b      *Bytes
	wanted chan struct{}

	mu    sync.Mutex
	begun []int
	ends  []func()
}

func (s *stage) play(t *testing.T, steps []step) {
	for i, st := range steps {
		switch st.what {
		case "end":
			s.end()
		case "wanted":
			close(s.wanted)
		case "demand":
			go s.take(t.Context(), st.n)
		case "prefetch":
			go s.take(backend.ForPrefetch(t.Context()), st.n)
		case "hoped":
			go s.take(backend.ForPrefetchUntil(t.Context(), s.wanted), st.n)
		}
		synctest.Wait()
		if !slices.Equal(s.begun, st.want) {
			t.Errorf("step %d: begun %v, want %v", i, s.begun, st.want)
		}
	}
	for s.b.busy() {
		s.end()
		synctest.Wait()
	}
}

func (s *stage) take(ctx context.Context, n int) {
	give, err := s.b.take(ctx, uint64(n))
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun, s.ends = append(s.begun, n), append(s.ends, give)
}

// end ends the read that began first.
func (s *stage) end() {
	s.mu.Lock()
	end := s.ends[0]
	s.ends = s.ends[1:]
	s.mu.Unlock()
	end()
}

func TestTryTakesOnlyWhatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(10)
		give, ok := b.Try(6)
		if !ok {
			t.Fatal("free bytes are refused")
		}
		if _, ok := b.Try(5); ok {
			t.Error("more than there is")
		}
		go func() {
			give, err := b.take(t.Context(), 5)
			if err != nil {
				t.Error(err)
			}
			give()
		}()
		synctest.Wait()
		if _, ok := b.Try(1); ok {
			t.Error("what another waits for is taken")
		}
		give()
		synctest.Wait()
		if b.busy() {
			t.Error("something is left")
		}
	})
}

// TestALongReadTakesOneWindow: the rest of it is not on its way.
func TestALongReadTakesOneWindow(t *testing.T) {
	const size = 3*window + 5
	b := New(2 * window)
	blob, err := b.Wrap(backendtest.Memory{"id": make([]byte, size)}).Open(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	n, err := backend.ReadTo(t.Context(), blob, writer(func() {
		if b.under[demand] != (share{window, 1}) {
			t.Errorf("the read takes %+v", b.under[demand])
		}
	}), 0, size)
	if err != nil || n != size || b.busy() {
		t.Errorf("got %d, %v, or something is left", n, err)
	}
}

// A writer is called before bytes are taken.
type writer func()

func (w writer) Write(p []byte) (int, error) {
	w()
	return len(p), nil
}
