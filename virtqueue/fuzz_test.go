package virtqueue_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/virtqueue"
	"vrafs/virtqueue/virtqueuetest"
)

// A machine runs a driver and a device as the bytes of a fuzz input say, and
// holds what the device does against what the driver asked for.
type machine struct {
	t     *testing.T
	d     *virtqueuetest.Driver
	q     *virtqueue.Queue
	a     *virtqueuetest.Arena
	space *virtqueue.Space
	whole *virtqueue.Memory
	buf   virtqueue.GPA

	inflight *virtqueue.Inflight // nil: not tracked

	chain   virtqueue.Chain
	want    map[uint16]request // published or about to be, by id
	taken   []uint16           // popped and not pushed
	written map[uint16]uint32  // pushed
	hostile bool               // the driver has scribbled: nothing is held against the device
	broken  bool
	mapped  bool
}

// A request is what the driver put into the ring.
type request struct {
	in, out []byte
}

const fuzzRing = 16

func newMachine(t *testing.T, packed bool, flags byte) *machine {
	cfg := virtqueuetest.Config{Size: fuzzRing, Packed: packed, EventIdx: flags&1 != 0, Indirect: flags&2 != 0,
		MaxIndirect: 24, Base: uint16(flags>>4) * 0x1fff}
	if packed && flags&4 != 0 {
		cfg.Size = 13 // packed rings need no power of two
	}
	m := &machine{t: t, want: map[uint16]request{}, written: map[uint16]uint32{}, mapped: true}
	m.d, m.q, m.a, m.space = newPairIn(t, 128<<10, cfg, func(c *virtqueue.Config) {
		c.MaxBytes = 1 << 20
		if flags&8 != 0 {
			m.inflight = virtqueue.HeapInflight(cfg.Size, packed)
			c.Inflight = m.inflight
		}
		c.LogUsed = flags&8 != 0
	})
	m.whole = m.space.Memory()
	var err error
	if m.buf, err = m.a.Alloc(1<<16, 16); err != nil {
		t.Fatal(err)
	}
	for i, b := 0, m.a.Bytes(m.buf, 1<<16); i < len(b); i++ {
		b[i] = byte(i * 7 >> 3)
	}
	return m
}

// add adds a chain of up to 16 buffers made from two bytes.
func (m *machine) add(x, y byte) {
	var segs [2][]virtqueue.Seg
	var all [2][]byte
	r := rand.New(rand.NewPCG(uint64(x), uint64(y)))
	for dir, n := range []int{int(x & 7), int(x >> 4 & 7)} {
		for range n {
			off, size := r.IntN(1<<15), r.IntN(int(y)*8+1)
			segs[dir] = append(segs[dir], virtqueue.Seg{Addr: m.buf + virtqueue.GPA(off), Len: uint32(size)})
			all[dir] = append(all[dir], m.a.Bytes(m.buf+virtqueue.GPA(off), uint64(size))...)
		}
	}
	if len(segs[0])+len(segs[1]) == 0 || len(segs[0])+len(segs[1]) > fuzzRing-3 {
		return
	}
	id, ok, err := m.d.Add(segs[0], segs[1])
	if err != nil && !m.hostile {
		m.t.Fatal(err)
	}
	if ok {
		m.want[id] = request{all[0], all[1]}
	}
}

// pop lets the device take up to n chains, and sees that they are as asked for.
func (m *machine) pop(n int) {
	if m.broken {
		return
	}
	if err := m.q.Enter(); err != nil {
		m.fail(err)
		return
	}
	defer m.q.Leave()
	for range n {
		ok, err := m.q.Pop(&m.chain)
		if err != nil {
			m.fail(err)
			return
		}
		if !ok {
			if _, err := m.q.Idle(); err != nil {
				m.fail(err)
			}
			return
		}
		c := &m.chain
		m.taken = append(m.taken, c.Head)
		if len(m.taken) > fuzzRing {
			m.t.Fatal("more chains in flight than the ring has entries")
		}
		w, known := m.want[c.Head]
		if !m.hostile && (!known || !bytes.Equal(bytes.Join(c.In, nil), w.in) || !bytes.Equal(bytes.Join(c.Out, nil), w.out)) {
			m.t.Fatalf("chain %d is not what the driver added", c.Head)
		}
		if c.ReadableBytes+c.WritableBytes > 1<<20 {
			m.t.Fatalf("chain of %d bytes", c.ReadableBytes+c.WritableBytes)
		}
	}
}

// fail judges an error of the device's.
func (m *machine) fail(err error) {
	switch {
	case errors.Is(err, virtqueue.ErrNoRing):
		if m.mapped {
			m.t.Fatal(err)
		}
	case errors.Is(err, virtqueue.ErrCorrupt) || errors.Is(err, virtqueue.ErrUnmapped):
		if !m.hostile && m.mapped {
			m.t.Fatal(err)
		}
		m.broken = true
		m.q.Break()
	default:
		m.t.Fatal(err)
	}
}

// push completes one of the chains taken.
func (m *machine) push(which byte) {
	if len(m.taken) == 0 {
		return
	}
	i := int(which) % len(m.taken)
	h := m.taken[i]
	m.taken = append(m.taken[:i], m.taken[i+1:]...)
	n := min(uint32(which)*16, uint32(len(m.want[h].out)))
	m.written[h] = n
	m.q.Push(h, []virtqueue.Seg{{Addr: m.buf, Len: n}}, n)
}

// poll lets the driver take what is completed.
func (m *machine) poll() {
	for {
		c, ok, err := m.d.Poll()
		if err != nil && !m.hostile {
			m.t.Fatal(err)
		}
		if err != nil || !ok {
			m.d.WantCall()
			return
		}
		if !m.hostile {
			if n, pushed := m.written[c.ID]; !pushed || n != c.Written {
				m.t.Fatalf("completion %+v, pushed %v with %d", c, pushed, n)
			}
		}
		delete(m.written, c.ID)
		delete(m.want, c.ID)
	}
}

// remap takes the memory away, or gives it back.
func (m *machine) remap() {
	m.mapped = !m.mapped
	if m.mapped {
		m.space.Replace(m.whole)
		return
	}
	empty, err := virtqueue.NewMemory(nil)
	if err != nil {
		m.t.Fatal(err)
	}
	m.space.Replace(empty)
}

// restart is a crash of the device: it finds what was in flight in the region.
func (m *machine) restart() {
	if m.inflight == nil || m.hostile || !m.mapped {
		return
	}
	m.q.Close()
	m.taken = m.taken[:0]
	m.q = again(m.t, m.d, m.space, m.inflight)
}

// run does what the input says, two or three bytes a step.
func (m *machine) run(in []byte) {
	for len(in) >= 3 {
		op, x, y := in[0], in[1], in[2]
		in = in[3:]
		switch op % 12 {
		case 0, 1, 2:
			m.add(x, y)
		case 3:
			m.d.Publish()
		case 4:
			m.pop(int(x % 8))
		case 5, 6:
			m.push(x)
		case 7:
			m.q.Flush()
		case 8:
			m.poll()
		case 9:
			m.remap()
		case 10:
			if x&2 != 0 {
				m.restart()
			} else if x&1 != 0 {
				m.space.SetLog(virtqueue.NewDirtyLog(int(y) * 1024))
			} else {
				m.space.SetLog(nil)
			}
		case 11: // a driver that obeys nothing
			m.hostile = true
			m.d.Scribble(rand.New(rand.NewPCG(uint64(x), uint64(y))))
		}
	}
}

// finish completes everything and sees that nothing is left.
func (m *machine) finish() {
	if !m.mapped {
		m.remap()
	}
	m.d.Publish()
	for range 4 * fuzzRing {
		m.pop(fuzzRing)
		for len(m.taken) > 0 {
			m.push(0)
		}
		m.q.Flush()
		m.poll()
	}
	if n := m.q.Outstanding(); n != 0 {
		m.t.Fatalf("%d chains outstanding at the end", n)
	}
	if n := m.d.InFlight(); n != 0 && !m.hostile {
		m.t.Fatalf("%d requests lost", n)
	}
}

func fuzzQueue(f *testing.F, packed bool) {
	walk := []byte{0, 0x12, 9, 3, 0, 0, 4, 7, 0, 5, 3, 0, 7, 0, 0, 8, 0, 0}
	f.Add(byte(0), walk)
	f.Add(byte(3), bytes.Repeat(walk, 40))
	f.Add(byte(0xfb), bytes.Repeat(append([]byte{0, 0x31, 9, 0, 0x11, 7, 3, 0, 0, 4, 9, 0, 5, 7, 0, 7, 0, 0, 5, 3, 0, 10, 2, 0, 8, 0, 0}, walk...), 20))
	f.Add(byte(0xf7), bytes.Repeat([]byte{0, 0x21, 50, 1, 0x33, 3, 3, 0, 0, 4, 2, 0, 6, 1, 0, 7, 0, 0, 8, 0, 0}, 20))
	f.Add(byte(0xff), bytes.Repeat([]byte{0, 0x70, 255, 3, 0, 0, 9, 0, 0, 4, 7, 0, 9, 0, 0, 4, 7, 0, 10, 1, 9, 5, 0, 0, 7, 0, 0, 8, 0, 0}, 9))
	for i := range byte(12) {
		f.Add(i, bytes.Repeat([]byte{0, 0x11, 9, 2, 0x22, 1, 3, 0, 0, 11, i, 7, 4, 7, 0, 11, 3, i, 4, 7, 0, 5, 0, 0, 7, 0, 0, 8, 0, 0}, 6))
	}
	f.Fuzz(func(t *testing.T, flags byte, in []byte) {
		if len(in) > 3000 {
			return
		}
		m := newMachine(t, packed, flags)
		m.run(in)
		m.finish()
	})
}

// FuzzQueueSplit runs a split ring as its input says, see machine.
func FuzzQueueSplit(f *testing.F) { fuzzQueue(f, false) }

// FuzzQueuePacked runs a packed ring as its input says, see machine.
func FuzzQueuePacked(f *testing.F) { fuzzQueue(f, true) }

// mappedArena is guest memory as a front-end gives it, which the race detector
// does not see: a hostile driver's stores are races by intention.
func mappedArena(t testing.TB, size int) (*virtqueuetest.Arena, *virtqueue.Space) {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		t.Fatal(err)
	}
	const gpa, uva = 0x1_0000_0000, 0x7f00_0000_0000
	r, err := virtqueue.MapRegion(fd, virtqueue.RegionSpec{GPA: gpa, UVA: uva, Size: uint64(size)})
	if err != nil {
		t.Fatal(err)
	}
	m, err := virtqueue.NewMemory([]*virtqueue.Region{r})
	if err != nil {
		t.Fatal(err)
	}
	s := virtqueue.NewSpace()
	s.Replace(m)
	t.Cleanup(func() {
		if err := r.Unmap(); err != nil {
			t.Error(err)
		}
	})
	return &virtqueuetest.Arena{Mem: r.Bytes(), GPA: gpa, UVA: uva}, s
}

// TestDriverThatNeverStopsScribbling lets a hostile driver rewrite the ring from
// another goroutine while the device works.
func TestDriverThatNeverStopsScribbling(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			for seed := range uint64(20) {
				a, space := mappedArena(t, 1<<20)
				d, q := pair(t, a, space, k.cfg, func(c *virtqueue.Config) { c.MaxBytes = 1 << 20 })
				r := rand.New(rand.NewPCG(seed, 1))
				in, out := fourBuffers(t, a)
				for range 16 {
					if _, _, err := d.Add(in, out); err != nil {
						t.Fatal(err)
					}
				}
				d.Publish()
				stop, stopped := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(stopped)
					for {
						select {
						case <-stop:
							return
						default:
							d.Scribble(r)
						}
					}
				}()
				scribbled(t, q)
				close(stop)
				<-stopped
			}
		})
	}
}

// scribbled serves a ring that changes under it until it breaks, or for a while.
func scribbled(t *testing.T, q *virtqueue.Queue) {
	t.Helper()
	var c virtqueue.Chain
	for range 2000 {
		if err := q.Enter(); err != nil {
			t.Error(err)
			return
		}
		ok, err := q.Pop(&c)
		if ok {
			q.Push(c.Head, c.Writable, uint32(c.WritableBytes))
		}
		q.Flush()
		q.Leave()
		if err != nil {
			if !errors.Is(err, virtqueue.ErrCorrupt) && !errors.Is(err, virtqueue.ErrUnmapped) {
				t.Error(err)
			}
			return
		}
	}
}
