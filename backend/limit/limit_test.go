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
		if b.used != 0 || len(b.queue) != 0 {
			t.Errorf("%d bytes and %d waiters are left", b.used, len(b.queue))
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
		if b.used != 0 || len(b.queue) != 0 {
			t.Errorf("%d bytes and %d waiters are left", b.used, len(b.queue))
		}
	})
}

// TestLeavingAfterAdmissionGivesBack is the moment between admit and select.
func TestLeavingAfterAdmissionGivesBack(t *testing.T) {
	b := New(10)
	b.used = 7
	b.leave(&waiter{n: 7})
	if b.used != 0 {
		t.Errorf("%d bytes are left", b.used)
	}
}
