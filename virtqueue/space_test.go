package virtqueue_test

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/virtqueue"
	"vrafs/virtqueue/virtqueuetest"
)

// TestReplaceWaitsForEveryEpoch marks tables as gone once Replace has returned;
// nobody inside an epoch may ever see such a mark.
func TestReplaceWaitsForEveryEpoch(t *testing.T) {
	s := virtqueue.NewSpace()
	table := func() (*virtqueue.Memory, []byte) {
		r, err := virtqueue.HeapRegion(0x1000, 0x1000, 4096)
		if err != nil {
			t.Error(err)
		}
		m, err := virtqueue.NewMemory([]*virtqueue.Region{r})
		if err != nil {
			t.Error(err)
		}
		return m, r.Bytes()
	}
	m, bytes := table()
	s.Replace(m)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				p := s.NewPin()
				for range 50 {
					v, err := p.Enter().Translate(nil, []virtqueue.Seg{{Addr: 0x1000, Len: 16}})
					if err != nil {
						t.Error(err)
						return
					}
					for range 10 {
						if v[0][0] != 0 {
							t.Error("a table was given up inside an epoch that sees it")
							return
						}
						runtime.Gosched()
					}
					if p.Stale() && p.Enter() == nil {
						t.Error("no table")
					}
					p.Leave()
					p.Leave() // outside an epoch it does nothing
				}
				p.Close()
			}
		})
	}
	for range 2000 {
		next, nextBytes := table()
		s.Replace(next)
		bytes[0] = 1 // as an unmap would
		bytes = nextBytes
	}
	stop.Store(true)
	wg.Wait()
}

func TestQueueFollowsItsMemory(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			d, q, a, space := newPair(t, k.cfg, nil)
			add(t, d, a, 2)
			heads := drainAll(t, q)
			whole := space.Memory()
			empty, err := virtqueue.NewMemory(nil)
			if err != nil {
				t.Fatal(err)
			}
			space.Replace(empty)
			if err := q.Enter(); !errors.Is(err, virtqueue.ErrNoRing) {
				t.Fatalf("Enter without the ring: %v", err)
			}
			q.Push(heads[0], nil, 0)
			if q.Flush() {
				t.Error("a call for what could not be published")
			}
			if more, err := q.Idle(); more || err != nil {
				t.Errorf("idle: %v, %v", more, err)
			}
			q.Busy()
			space.Replace(whole)
			q.Flush()
			if _, ok, err := d.Poll(); !ok || err != nil {
				t.Errorf("not published: %v, %v", ok, err)
			}
			// A table that comes in mid-drain is picked up by Pop.
			add(t, d, a, 2)
			if err := q.Enter(); err != nil {
				t.Fatal(err)
			}
			changed := make(chan struct{})
			go func() {
				defer close(changed)
				space.Replace(whole)
			}()
			var c virtqueue.Chain
			for got := 0; got < 2; {
				ok, err := q.Pop(&c)
				if err != nil {
					t.Fatal(err)
				}
				if ok {
					got++
				}
			}
			for done := false; !done; { // an epoch that goes on pops on
				select {
				case <-changed:
					done = true
				default:
					if _, err := q.Pop(&c); err != nil {
						t.Fatal(err)
					}
				}
			}
			q.Leave()
		})
	}
}

func TestPushOutsideItsTimeDoesNothing(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			d, q, a, _ := newPair(t, k.cfg, nil)
			q.Push(0, nil, 0) // never taken
			q.Push(65535, nil, 0)
			add(t, d, a, 3)
			heads := drainAll(t, q)
			q.Push(heads[1], nil, 0)
			q.Push(heads[1], nil, 0) // twice
			q.Flush()
			if _, ok, err := d.Poll(); !ok || err != nil {
				t.Fatal(ok, err)
			}
			if _, ok, err := d.Poll(); ok || err != nil {
				t.Fatal("completed twice", err)
			}
			if n := q.Outstanding(); n != 2 {
				t.Errorf("%d outstanding, want 2", n)
			}
			drained := q.Drained()
			q.Push(heads[0], nil, 0)
			q.Break()
			q.Break()
			if n := q.Outstanding(); n != 1 {
				t.Errorf("%d outstanding, want 1", n)
			}
			q.Push(heads[2], nil, 0)
			<-drained
			if q.Flush() {
				t.Error("a broken queue calls")
			}
			q.Close()
			q.Close()
			q.Push(heads[2], nil, 0)
			q.MarkDirty(nil, 8)
			q.Flush()
			if _, ok, err := d.Poll(); ok || err != nil {
				t.Error("a broken queue publishes", err)
			}
		})
	}
}

func TestDirtyLogMarksPages(t *testing.T) {
	for _, tt := range []struct {
		name   string
		addr   virtqueue.GPA
		n      uint64
		pages  []int
		beyond uint64
	}{
		{"nothing", 5, 0, nil, 0},
		{"one_byte", 4096, 1, []int{1}, 0},
		{"to_the_end_of_a_page", 0, 4096, []int{0}, 0},
		{"one_byte_more", 0, 4097, []int{0, 1}, 0},
		{"across_a_word", 31*4096 + 5, 8192, []int{31, 32, 33}, 0},
		{"last_page", 255 * 4096, 4096, []int{255}, 0},
		{"across_the_end", 255 * 4096, 8193, []int{255}, 2},
		{"far_beyond", ^virtqueue.GPA(4095), 10, nil, 1},
		{"wrapping_around", ^virtqueue.GPA(0), 10, nil, 0},
	} {
		l := virtqueue.NewDirtyLog(32)
		l.Mark(tt.addr, tt.n)
		var got []int
		for p := range 256 {
			if l.Bytes()[p/8]>>(p%8)&1 != 0 {
				got = append(got, p)
			}
		}
		if len(got) != len(tt.pages) || l.Beyond() != tt.beyond {
			t.Errorf("%s: pages %v, %d beyond; want %v, %d", tt.name, got, l.Beyond(), tt.pages, tt.beyond)
		}
		for i := range got {
			if got[i] != tt.pages[i] {
				t.Errorf("%s: pages %v, want %v", tt.name, got, tt.pages)
			}
		}
	}
}

func TestMappedRegionsStartAnywhere(t *testing.T) {
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	content := make([]byte, 5*4096)
	for i := range content {
		content[i] = byte(i / 16)
	}
	if _, err := unix.Write(fd, content); err != nil {
		t.Fatal(err)
	}
	for _, off := range []uint64{0, 16, 4096, 4100, 8192 + 4095} {
		r, err := virtqueue.MapRegion(fd, virtqueue.RegionSpec{GPA: 0x1000, UVA: 0x2000, Size: 5000, MmapOffset: off})
		if err != nil {
			t.Fatal(err)
		}
		if string(r.Bytes()) != string(content[off:off+5000]) {
			t.Errorf("offset %d: other bytes", off)
		}
		if err := r.Unmap(); err != nil {
			t.Error(err)
		}
		if err := r.Unmap(); err != nil { // twice does nothing
			t.Error(err)
		}
	}
}

func TestPopAndPushDoNotAllocate(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			d, q, a, space := newPair(t, k.cfg, func(c *virtqueue.Config) {
				c.Inflight = virtqueue.HeapInflight(c.Size, c.Packed)
				c.LogUsed = true
			})
			space.SetLog(virtqueue.NewDirtyLog(1 << 20))
			in, out := fourBuffers(t, a)
			var c virtqueue.Chain
			round := func() {
				for range 16 {
					if _, ok, err := d.Add(in, out); !ok {
						t.Fatal("ring full", err)
					}
				}
				d.Publish()
				if err := q.Enter(); err != nil {
					t.Fatal(err)
				}
				q.Busy()
				for ok := true; ok; {
					var err error
					if ok, err = q.Pop(&c); err != nil {
						t.Fatal(err)
					}
					if ok {
						q.Push(c.Head, c.Writable, 4112)
					}
				}
				q.Flush()
				if _, err := q.Idle(); err != nil {
					t.Fatal(err)
				}
				q.Leave()
				for ok := true; ok; {
					var err error
					if _, ok, err = d.Poll(); err != nil {
						t.Fatal(err)
					}
				}
			}
			for range 16 { // the driver's tables come first
				round()
			}
			if n := testing.AllocsPerRun(100, round); n != 0 {
				t.Errorf("%v allocations in 16 requests", n)
			}
		})
	}
}

// fourBuffers is a READ as Linux lays it out: two readable, two writable.
func fourBuffers(t testing.TB, a *virtqueuetest.Arena) (in, out []virtqueue.Seg) {
	t.Helper()
	base, err := a.Alloc(8192, 4096)
	if err != nil {
		t.Fatal(err)
	}
	return []virtqueue.Seg{{Addr: base, Len: 40}, {Addr: base + 64, Len: 40}},
		[]virtqueue.Seg{{Addr: base + 128, Len: 16}, {Addr: base + 4096, Len: 4096}}
}
