package virtqueue_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"vrafs/virtqueue"
	"vrafs/virtqueue/virtqueuetest"
)

// drainAll pops what there is and returns the heads.
func drainAll(t testing.TB, q *virtqueue.Queue) (heads []uint16) {
	t.Helper()
	if err := q.Enter(); err != nil {
		t.Fatal(err)
	}
	defer q.Leave()
	for {
		var c virtqueue.Chain
		ok, err := q.Pop(&c)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return heads
		}
		heads = append(heads, c.Head)
	}
}

// TestCrashAtEveryStepLosesAndDoublesNothing dies between any two stores of a
// Flush, and lets a new process complete what it finds. The driver complains of
// a completion that it does not wait for.
func TestCrashAtEveryStepLosesAndDoublesNothing(t *testing.T) {
	const batch = 5
	for at := virtqueue.CrashLinked; at <= virtqueue.CrashDone; at++ {
		for n := range batch + 1 {
			for _, base := range []uint16{0, 65533} {
				t.Run(fmt.Sprintf("step%d/%d/base%d", at, n, base), func(t *testing.T) {
					inflight := virtqueue.HeapInflight(16)
					d, q, a, space := newPair(t, virtqueuetest.Config{Size: 16, Base: base}, func(c *virtqueue.Config) { c.Inflight = inflight })
					add(t, d, a, 9)
					heads := drainAll(t, q)
					// The first of all stays in flight, five are on their way out.
					for _, h := range heads[1 : 1+batch] {
						q.Push(h, nil, 0)
					}
					if err := q.FlushUntil(at, n); err != nil {
						t.Fatal(err)
					}
					add(t, d, a, 3) // made available and not taken
					qc := d.QueueConfig()
					qc.Inflight = inflight.Again()
					qc.Base = 12345 // not to be trusted
					q2, err := virtqueue.NewQueue(space, qc)
					if err != nil {
						t.Fatal(err)
					}
					defer q2.Close()
					again := drainAll(t, q2)
					want := 12
					if at > virtqueue.CrashLinked {
						want -= batch
					}
					if len(again) != want || again[0] != heads[0] {
						t.Fatalf("heads %v taken again after %v, wanted %d", again, heads, want)
					}
					for _, h := range again {
						q2.Push(h, nil, 0)
					}
					q2.Flush()
					for range 12 {
						if _, ok, err := d.Poll(); !ok || err != nil {
							t.Fatal("a request was lost or doubled:", ok, err)
						}
					}
					if _, ok, err := d.Poll(); ok || err != nil {
						t.Fatal("a completion too many:", err)
					}
				})
			}
		}
	}
}

// add adds and publishes n chains of one readable and one writable buffer.
func add(t testing.TB, d *virtqueuetest.Driver, a *virtqueuetest.Arena, n int) {
	t.Helper()
	for range n {
		buf, err := a.Alloc(128, 16)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := d.Add([]virtqueue.Seg{{Addr: buf, Len: 40}}, nil); !ok || err != nil {
			t.Fatal("ring full", err)
		}
	}
	d.Publish()
}

// TestHeadTakenAgainWhileItsEntryIsCleared lets one goroutine flush while
// another takes the same head's next request: the entry must end up set.
func TestHeadTakenAgainWhileItsEntryIsCleared(t *testing.T) {
	inflight := virtqueue.HeapInflight(1)
	d, q, a, _ := newPair(t, virtqueuetest.Config{Size: 1}, func(c *virtqueue.Config) { c.Inflight = inflight })
	buf, err := a.Alloc(64, 16)
	if err != nil {
		t.Fatal(err)
	}
	pushed, next := make(chan uint16), make(chan bool)
	go func() {
		for h := range pushed {
			q.Push(h, nil, 0)
			q.Flush()
			next <- true
		}
		close(next)
	}()
	var c virtqueue.Chain
	for range 2000 {
		if _, ok, err := d.Add([]virtqueue.Seg{{Addr: buf, Len: 64}}, nil); !ok || err != nil {
			t.Fatal("ring full", err)
		}
		d.Publish()
		if ok := popOne(t, q, &c); !ok {
			t.Fatal("nothing to pop")
		}
		pushed <- c.Head
		for ok := false; !ok; { // the moment it is seen, the head is used again
			if _, ok, err = d.Poll(); err != nil {
				t.Fatal(err)
			}
		}
		if _, ok, err := d.Add([]virtqueue.Seg{{Addr: buf, Len: 64}}, nil); !ok || err != nil {
			t.Fatal("ring full", err)
		}
		d.Publish()
		if ok := popOne(t, q, &c); !ok {
			t.Fatal("nothing to pop")
		}
		<-next
		if inflight.Bytes()[16] != 1 {
			t.Fatal("a request in flight is not in the region")
		}
		pushed <- c.Head
		<-next
		if _, ok, err := d.Poll(); !ok || err != nil {
			t.Fatal("not completed", err)
		}
	}
	close(pushed)
	<-next
}

// popOne pops in an epoch of its own.
func popOne(t testing.TB, q *virtqueue.Queue, c *virtqueue.Chain) bool {
	t.Helper()
	if err := q.Enter(); err != nil {
		t.Fatal(err)
	}
	defer q.Leave()
	ok, err := q.Pop(c)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

// FuzzInflight starts a queue over any region and any used index: it ends in an
// error or in as many chains as there are entries set.
func FuzzInflight(f *testing.F) {
	good := virtqueue.HeapInflight(8).Bytes()
	binary.LittleEndian.PutUint16(good[8:], 1)
	binary.LittleEndian.PutUint16(good[10:], 8)
	f.Add(good, uint16(0), uint16(0))
	for _, at := range []int{8, 10, 12, 14, 16, 22, 24, 32, 38} {
		b := append([]byte{}, good...)
		b[at] ^= 0x11
		f.Add(b, uint16(3), uint16(9))
		f.Add(b, uint16(17), uint16(17))
	}
	f.Fuzz(func(t *testing.T, region []byte, used, avail uint16) {
		inflight := virtqueue.HeapInflight(8)
		copy(inflight.Bytes(), region)
		d, _, a, space := newPairIn(t, 16<<10, virtqueuetest.Config{Size: 8, Base: used}, nil)
		add(t, d, a, int(avail%9))
		qc := d.QueueConfig()
		qc.Inflight = inflight
		q, err := virtqueue.NewQueue(space, qc)
		if err != nil {
			if !errors.Is(err, virtqueue.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		defer q.Close()
		var c virtqueue.Chain
		for n := 0; ; n++ {
			if n > 16 {
				t.Fatal("more chains than a ring of 8 can hold twice")
			}
			if err := q.Enter(); err != nil {
				t.Fatal(err)
			}
			ok, err := q.Pop(&c)
			q.Leave()
			if err != nil && !errors.Is(err, virtqueue.ErrCorrupt) && !errors.Is(err, virtqueue.ErrUnmapped) {
				t.Fatal(err)
			}
			if !ok {
				return
			}
			q.Push(c.Head, nil, 0)
			q.Flush()
		}
	})
}
