package virtqueue_test

import (
	"testing"

	"vrafs/virtqueue"
	"vrafs/virtqueue/virtqueuetest"
)

// newPair returns a driver and the device's queue of one ring on Go memory.
func newPair(t testing.TB, cfg virtqueuetest.Config, change func(*virtqueue.Config)) (*virtqueuetest.Driver, *virtqueue.Queue, *virtqueuetest.Arena, *virtqueue.Space) {
	t.Helper()
	return newPairIn(t, 16<<20, cfg, change)
}

// newPairIn is newPair with so many bytes of guest memory.
func newPairIn(t testing.TB, size int, cfg virtqueuetest.Config, change func(*virtqueue.Config)) (*virtqueuetest.Driver, *virtqueue.Queue, *virtqueuetest.Arena, *virtqueue.Space) {
	t.Helper()
	arena, space, err := virtqueuetest.NewHeapArena(size)
	if err != nil {
		t.Fatal(err)
	}
	d, q := pair(t, arena, space, cfg, change)
	return d, q, arena, space
}

// pair returns the two sides of a ring in the arena.
func pair(t testing.TB, arena *virtqueuetest.Arena, space *virtqueue.Space, cfg virtqueuetest.Config, change func(*virtqueue.Config)) (*virtqueuetest.Driver, *virtqueue.Queue) {
	t.Helper()
	d, err := virtqueuetest.New(arena, cfg)
	if err != nil {
		t.Fatal(err)
	}
	qc := d.QueueConfig()
	if change != nil {
		change(&qc)
	}
	q, err := virtqueue.NewQueue(space, qc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	return d, q
}

var kinds = []struct {
	name string
	cfg  virtqueuetest.Config
}{
	{"split", virtqueuetest.Config{Size: 128, EventIdx: true}},
	{"split_indirect", virtqueuetest.Config{Size: 128, EventIdx: true, Indirect: true}},
	{"split_flags", virtqueuetest.Config{Size: 128}},
	{"packed", virtqueuetest.Config{Size: 128, Packed: true, EventIdx: true}},
	{"packed_indirect", virtqueuetest.Config{Size: 128, Packed: true, EventIdx: true, Indirect: true}},
	{"packed_flags", virtqueuetest.Config{Size: 128, Packed: true}},
}

// BenchmarkPopPush is the ring's share of a request: four descriptors in, one
// completion out, 32 at a time. The driver's own work is left out by measuring
// it alone (BenchmarkDriver).
func BenchmarkPopPush(b *testing.B) {
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			d, q, a, _ := newPair(b, k.cfg, nil)
			in, out := fourBuffers(b, a)
			var c virtqueue.Chain
			b.ReportAllocs()
			for n := 0; n < b.N; n += 32 {
				b.StopTimer()
				for range 32 {
					if _, ok, err := d.Add(in, out); !ok {
						b.Fatal("ring full", err)
					}
				}
				d.Publish()
				b.StartTimer()
				if err := q.Enter(); err != nil {
					b.Fatal(err)
				}
				for {
					ok, err := q.Pop(&c)
					if err != nil {
						b.Fatal(err)
					}
					if !ok {
						break
					}
					q.Push(c.Head, c.Writable, 4112)
				}
				q.Flush()
				if _, err := q.Idle(); err != nil {
					b.Fatal(err)
				}
				q.Leave()
				b.StopTimer()
				for {
					_, ok, err := d.Poll()
					if err != nil {
						b.Fatal(err)
					}
					if !ok {
						break
					}
				}
				b.StartTimer()
			}
			if d.InFlight() != 0 {
				b.Fatal("requests lost", d.InFlight())
			}
		})
	}
}
