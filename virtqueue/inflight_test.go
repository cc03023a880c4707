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
	for at := virtqueue.CrashLinked; at <= virtqueue.CrashDone; at++ {
		for n := range crashBatch + 1 {
			for _, base := range []uint16{0, 65533} {
				if at != virtqueue.CrashIndexed && at != virtqueue.CrashWritten && at != virtqueue.CrashHalfDone {
					t.Run(fmt.Sprintf("split/step%d/%d/base%d", at, n, base), func(t *testing.T) {
						crash(t, virtqueuetest.Config{Size: 16, Base: base}, 0, at, n)
					})
				}
			}
			for _, moved := range []int{0, 5} { // completions so far, two slots each
				t.Run(fmt.Sprintf("packed/step%d/%d/moved%d", at, n, moved), func(t *testing.T) {
					crash(t, virtqueuetest.Config{Size: 32, Packed: true}, moved, at, n)
				})
			}
		}
	}
}

const crashBatch = 5

// crash dies at a step of the Flush that comes after moved requests.
func crash(t *testing.T, cfg virtqueuetest.Config, moved int, at virtqueue.CrashPoint, n int) {
	inflight := virtqueue.HeapInflight(cfg.Size, cfg.Packed)
	d, q, a, space := newPairIn(t, 64<<10, cfg, func(c *virtqueue.Config) { c.Inflight = inflight })
	add(t, d, a, moved)
	pushAll(q, drainAll(t, q))
	pollN(t, d, moved)
	add(t, d, a, 9)
	heads := drainAll(t, q)
	// The first of all stays in flight, five are on their way out.
	for _, h := range heads[1 : 1+crashBatch] {
		q.Push(h, nil, 0)
	}
	if err := q.FlushUntil(at, n); err != nil {
		t.Fatal(err)
	}
	add(t, d, a, 3) // made available and not taken
	q2 := again(t, d, space, inflight)
	// It dies too, having completed one of them.
	taken := drainAll(t, q2)
	want, published := 12, 0
	if at >= virtqueue.CrashPublished {
		want, published = 12-crashBatch, crashBatch
	}
	if len(taken) != want || taken[0] != heads[0] {
		t.Fatalf("heads %v taken again after %v, wanted %d", taken, heads, want)
	}
	pushAll(q2, taken[1:2])
	pollN(t, d, published+1)
	q3 := again(t, d, space, inflight)
	if taken = drainAll(t, q3); len(taken) != want-1 || taken[0] != heads[0] {
		t.Fatalf("heads %v taken the third time after %v, wanted %d", taken, heads, want-1)
	}
	pushAll(q3, taken)
	pollN(t, d, want-1)
}

// again starts the queue as a new process does.
func again(t testing.TB, d *virtqueuetest.Driver, space *virtqueue.Space, inflight *virtqueue.Inflight) *virtqueue.Queue {
	t.Helper()
	qc := d.QueueConfig()
	qc.Inflight = inflight.Again()
	qc.Base = 11 // not to be trusted
	q, err := virtqueue.NewQueue(space, qc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	return q
}

// pushAll completes heads.
func pushAll(q *virtqueue.Queue, heads []uint16) {
	for _, h := range heads {
		q.Push(h, nil, 0)
	}
	q.Flush()
}

// pollN wants exactly n completions.
func pollN(t testing.TB, d *virtqueuetest.Driver, n int) {
	t.Helper()
	for range n {
		if _, ok, err := d.Poll(); !ok || err != nil {
			t.Fatal("a request was lost or doubled:", ok, err)
		}
	}
	if _, ok, err := d.Poll(); ok || err != nil {
		t.Fatal("a completion too many:", err)
	}
}

// TestCrashWhileTakingLeavesTheChainInTheRing dies before the store that books a
// packed chain as taken.
func TestCrashWhileTakingLeavesTheChainInTheRing(t *testing.T) {
	inflight := virtqueue.HeapInflight(16, true)
	d, q, a, space := newPair(t, virtqueuetest.Config{Size: 16, Packed: true}, func(c *virtqueue.Config) { c.Inflight = inflight })
	add(t, d, a, 4)
	var c virtqueue.Chain
	if !popOne(t, q, &c) {
		t.Fatal("nothing to pop")
	}
	if err := q.Enter(); err != nil {
		t.Fatal(err)
	}
	if ok, err := q.TakeUntil(&c); !ok || err != nil {
		t.Fatal(ok, err)
	}
	q.Leave()
	q2 := again(t, d, space, inflight)
	taken := drainAll(t, q2)
	if len(taken) != 4 {
		t.Fatalf("%d chains taken, want 4", len(taken))
	}
	pushAll(q2, taken)
	pollN(t, d, 4)
}

// TestTrackedRingWithMoreInFlightThanItHolds lets a hostile driver make slots
// available again that are in flight.
func TestTrackedRingWithMoreInFlightThanItHolds(t *testing.T) {
	inflight := virtqueue.HeapInflight(4, true)
	d, q, a, _ := newPair(t, virtqueuetest.Config{Size: 4, Packed: true}, func(c *virtqueue.Config) { c.Inflight = inflight })
	buf, err := a.Alloc(128, 16)
	if err != nil {
		t.Fatal(err)
	}
	seg := virtqueue.Seg{Addr: buf, Len: 40}
	if _, ok, err := d.Add([]virtqueue.Seg{seg, seg, seg}, []virtqueue.Seg{seg}); !ok || err != nil {
		t.Fatal("ring full", err)
	}
	d.Publish()
	if n := len(drainAll(t, q)); n != 1 {
		t.Fatalf("%d chains", n)
	}
	// The next lap begins with another buffer id.
	ring := a.Mem[d.QueueConfig().Desc-a.UVA:]
	binary.LittleEndian.PutUint32(ring[12:], 1|virtqueue.DescUsed<<16)
	if err := q.Enter(); err != nil {
		t.Fatal(err)
	}
	defer q.Leave()
	var c virtqueue.Chain
	if ok, err := q.Pop(&c); ok || !errors.Is(err, virtqueue.ErrCorrupt) {
		t.Errorf("got %v, %v", ok, err)
	}
	if n := q.Outstanding(); n != 1 {
		t.Errorf("%d outstanding, want 1", n)
	}
}

// add adds and publishes n chains of one readable and, in packed rings, one
// writable buffer.
func add(t testing.TB, d *virtqueuetest.Driver, a *virtqueuetest.Arena, n int) {
	t.Helper()
	for range n {
		buf, err := a.Alloc(128, 16)
		if err != nil {
			t.Fatal(err)
		}
		var writable []virtqueue.Seg
		if d.QueueConfig().Packed {
			writable = []virtqueue.Seg{{Addr: buf + 64, Len: 64}}
		}
		if _, ok, err := d.Add([]virtqueue.Seg{{Addr: buf, Len: 40}}, writable); !ok || err != nil {
			t.Fatal("ring full", err)
		}
	}
	d.Publish()
}

// TestHeadTakenAgainWhileItsEntryIsCleared lets one goroutine flush while
// another takes the same head's next request: the entry must end up set.
func TestHeadTakenAgainWhileItsEntryIsCleared(t *testing.T) {
	inflight := virtqueue.HeapInflight(1, false)
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
	good := virtqueue.HeapInflight(8, false).Bytes()
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
		startOver(t, region, virtqueuetest.Config{Size: 8, Base: used}, int(avail%9))
	})
}

// FuzzInflightPacked is FuzzInflight for packed rings.
func FuzzInflightPacked(f *testing.F) {
	// A region with three chains in flight and one completed, of two entries each.
	good := virtqueue.HeapInflight(8, true)
	d, q, a, _ := newPair(f, virtqueuetest.Config{Size: 8, Packed: true}, func(c *virtqueue.Config) { c.Inflight = good })
	add(f, d, a, 4)
	pushAll(q, drainAll(f, q)[1:2])
	f.Add(good.Bytes(), uint8(4))
	for at := 8; at < len(good.Bytes()); at += 3 {
		b := append([]byte{}, good.Bytes()...)
		b[at] ^= 0x11
		f.Add(b, uint8(4))
	}
	f.Fuzz(func(t *testing.T, region []byte, avail uint8) {
		startOver(t, region, virtqueuetest.Config{Size: 8, Packed: true}, int(avail%5))
	})
}

// startOver starts a queue over the region with n chains in its ring, and serves
// what it finds.
func startOver(t *testing.T, region []byte, cfg virtqueuetest.Config, n int) {
	inflight := virtqueue.HeapInflight(cfg.Size, cfg.Packed)
	copy(inflight.Bytes(), region)
	d, _, a, space := newPairIn(t, 16<<10, cfg, nil)
	add(t, d, a, n)
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
		if n > 2*cfg.Size {
			t.Fatal("more chains than the ring can hold twice")
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
}
