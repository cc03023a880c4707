package virtqueue_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vrafs/virtqueue"
	"vrafs/virtqueue/virtqueuetest"
)

// TestNotificationFence is the litmus test of shm_unsafe.go: of two sides that
// each store their word and then load the other's, at least one must see the
// other's store, or both go to sleep. Device: avail_event with its fence, or
// used.idx with storeRel; driver: an atomic store. The sides run over many pairs
// of words in step; with the fence taken out of store16Fence this fails whenever
// two processors are there to run them.
func TestNotificationFence(t *testing.T) {
	const words, line = 1 << 14, 64
	for _, tt := range []struct {
		name  string
		store func(b []byte, off uint32)
	}{
		{"avail_event", func(b []byte, off uint32) { virtqueue.Store16(b, off, 1) }},
		{"used_idx", func(b []byte, off uint32) { virtqueue.StoreRel(b, off, 1) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			device, driver := virtqueue.AlignedBytes(words*line), virtqueue.AlignedBytes(words*line)
			var sawDriver, sawDevice [words]uint16
			var at [2 * line]atomic.Uint32 // how far each side is, in lines of their own
			meet := func(me, i uint32) {
				at[me*line].Store(i + 1)
				for spins := 0; at[(1-me)*line].Load() <= i; spins++ {
					if spins > 200 { // the other side has no processor
						runtime.Gosched()
					}
				}
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := range uint32(words) {
					meet(0, i)
					tt.store(device, i*line)
					sawDriver[i] = virtqueue.Load16(driver, i*line)
				}
			})
			wg.Go(func() {
				for i := range uint32(words) {
					meet(1, i)
					virtqueue.StoreRel(driver, i*line, 1)
					sawDevice[i] = virtqueue.Load16(device, i*line)
				}
			})
			wg.Wait()
			for i := range words {
				if sawDriver[i] == 0 && sawDevice[i] == 0 {
					t.Fatalf("pair %d: both sides missed the other's store", i)
				}
			}
		})
	}
}

// An eventfd of Go: a notification is never lost, two may become one.
type event chan struct{}

func (e event) signal() {
	select {
	case e <- struct{}{}:
	default:
	}
}

// TestNoNotificationIsLost runs a driver and a device that both sleep whenever
// they may, until every index value was passed: a lost kick or call would stop
// them for good.
func TestNoNotificationIsLost(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			cfg := k.cfg
			cfg.Size = 8
			cfg.Base = 65500
			d, q, a, _ := newPair(t, cfg, nil)
			kick, call, stop := make(event, 1), make(event, 1), make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() { device(t, q, kick, call, stop) })
			defer wg.Wait()
			defer close(stop)
			driver(t, d, a, kick, call)
		})
	}
}

// device serves until stop, completing out of order.
func device(t *testing.T, q *virtqueue.Queue, kick, call event, stop chan struct{}) {
	var c virtqueue.Chain
	var held []uint16
	complete := func(h uint16) {
		q.Push(h, nil, 0)
		if q.Flush() {
			call.signal()
		}
	}
	for {
		if err := q.Enter(); err != nil {
			t.Error(err)
			return
		}
		q.Busy()
		for {
			ok, err := q.Pop(&c)
			if err != nil {
				t.Error(err)
				return
			}
			if ok {
				if held = append(held, c.Head); len(held) > 2 {
					complete(held[1])
					held = append(held[:1], held[2:]...)
				}
				continue
			}
			for _, h := range held {
				complete(h)
			}
			held = held[:0]
			more, err := q.Idle()
			if err != nil {
				t.Error(err)
				return
			}
			if !more {
				break
			}
			q.Busy()
		}
		q.Leave()
		select {
		case <-kick:
		case <-stop:
			return
		}
	}
}

// driver sends 70,000 requests, a few at a time, and sleeps for each answer.
func driver(t *testing.T, d *virtqueuetest.Driver, a *virtqueuetest.Arena, kick, call event) {
	buf, err := a.Alloc(64, 16)
	if err != nil {
		t.Fatal(err)
	}
	seg := []virtqueue.Seg{{Addr: buf, Len: 32}}
	for n := 0; n < 70000; {
		for range 1 + n%3 {
			if _, ok, err := d.Add(seg, nil); err != nil {
				t.Fatal(err)
			} else if ok {
				n++
			}
		}
		if d.Publish() {
			kick.signal()
		}
		for d.InFlight() > n%5 {
			_, ok, err := d.Poll()
			if err != nil {
				t.Fatal(err)
			}
			if ok || d.WantCall() {
				continue
			}
			select {
			case <-call:
			case <-time.After(30 * time.Second):
				t.Fatalf("asleep for good with %d in flight after %d requests", d.InFlight(), n)
			}
		}
	}
}
