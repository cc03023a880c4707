package virtqueue_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"vrafs/virtqueue"
	"vrafs/virtqueue/virtqueuetest"
)

// TestChainIsDeliveredAsLaidOut cuts one request into descriptors in many ways
// and checks that the device sees the same bytes.
func TestChainIsDeliveredAsLaidOut(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			d, q, a, _ := newPair(t, k.cfg, nil)
			r := rand.New(rand.NewPCG(5, 6))
			var c virtqueue.Chain
			for range 500 {
				in, inBytes := pieces(t, a, r, 1+r.IntN(6))
				out, outBytes := pieces(t, a, r, r.IntN(6))
				id, ok, err := d.Add(in, out)
				if !ok || err != nil {
					t.Fatal("ring full", err)
				}
				d.Publish()
				if !popOne(t, q, &c) || c.Head != id {
					t.Fatalf("head %d, want %d", c.Head, id)
				}
				if got := bytes.Join(c.In, nil); !bytes.Equal(got, inBytes) || c.ReadableBytes != uint64(len(got)) {
					t.Fatalf("readable: %d of %d bytes, or others", len(got), len(inBytes))
				}
				if got := bytes.Join(c.Out, nil); !bytes.Equal(got, outBytes) || c.WritableBytes != uint64(len(got)) {
					t.Fatalf("writable: %d of %d bytes, or others", len(got), len(outBytes))
				}
				q.Push(c.Head, c.Writable, uint32(c.WritableBytes))
				q.Flush()
				if done, ok, err := d.Poll(); !ok || err != nil || done.ID != id || uint64(done.Written) != c.WritableBytes {
					t.Fatalf("completion %v, %v, %v", done, ok, err)
				}
			}
		})
	}
}

// pieces returns up to n buffers in a fresh piece of memory, some empty, some
// neighbours, and their bytes.
func pieces(t testing.TB, a *virtqueuetest.Arena, r *rand.Rand, n int) (segs []virtqueue.Seg, all []byte) {
	t.Helper()
	base, err := a.Alloc(4096, 1)
	if err != nil {
		t.Fatal(err)
	}
	b := a.Bytes(base, 4096)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	at := 0
	for range n {
		if r.IntN(2) == 0 {
			at += r.IntN(64) // a gap
		}
		k := r.IntN(500)
		segs = append(segs, virtqueue.Seg{Addr: base + virtqueue.GPA(at), Len: uint32(k)})
		all = append(all, b[at:at+k]...)
		at += k
	}
	return segs, all
}

func TestBuffersAcrossRegionsAreSplit(t *testing.T) {
	const size = 1 << 16
	var regions []*virtqueue.Region
	for i := range 20 { // more than eight are searched by halving
		r, err := virtqueue.HeapRegion(virtqueue.GPA(0x10000+i*size), virtqueue.UVA(0x900000-i*2*size), size)
		if err != nil {
			t.Fatal(err)
		}
		copy(r.Bytes(), fmt.Sprintf("region %2d", i))
		copy(r.Bytes()[size-9:], fmt.Sprintf("end of %2d", i))
		regions = append(regions, r)
		m, err := virtqueue.NewMemory(regions)
		if err != nil {
			t.Fatal(err)
		}
		for j := range i {
			seg := virtqueue.Seg{Addr: virtqueue.GPA(0x10000 + (j+1)*size - 9), Len: 18}
			views, err := m.Translate(nil, []virtqueue.Seg{seg})
			want := fmt.Sprintf("end of %2dregion %2d", j, j+1)
			if err != nil || len(views) != 2 || string(bytes.Join(views, nil)) != want {
				t.Fatalf("%d regions: %q, %v, want %q", i+1, views, err, want)
			}
		}
		whole := virtqueue.Seg{Addr: 0x10000, Len: uint32((i + 1) * size)}
		if v, err := m.Translate(nil, []virtqueue.Seg{whole}); err != nil || len(v) != i+1 {
			t.Fatalf("%d views, %v", len(v), err)
		}
		for _, bad := range []virtqueue.Seg{{Addr: 0xffff, Len: 2}, {Addr: 0x10000, Len: whole.Len + 1},
			{Addr: virtqueue.GPA(0x10000 + (i+1)*size), Len: 1}, {Addr: ^virtqueue.GPA(0), Len: 2}, {Addr: 0, Len: 1}} {
			if _, err := m.Translate(nil, []virtqueue.Seg{bad}); !errors.Is(err, virtqueue.ErrUnmapped) {
				t.Errorf("%d regions, %+v: %v", i+1, bad, err)
			}
		}
	}
}

func TestRegionUpToTheEndOfTheAddressSpace(t *testing.T) {
	if _, err := virtqueue.HeapRegion(^virtqueue.GPA(4094), 0x1000, 4096); !errors.Is(err, virtqueue.ErrRegion) {
		t.Errorf("wrapping region: %v", err)
	}
	r, err := virtqueue.HeapRegion(^virtqueue.GPA(4096), 0x1000, 4096)
	if err != nil {
		t.Fatal(err)
	}
	m, err := virtqueue.NewMemory([]*virtqueue.Region{r})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Translate(nil, []virtqueue.Seg{{Addr: ^virtqueue.GPA(1), Len: 8}}); !errors.Is(err, virtqueue.ErrUnmapped) {
		t.Errorf("buffer that wraps around: %v", err)
	}
}

// A raw ring: what a driver that obeys nothing writes. Only for split and packed
// rings of eight entries in newPair's arena.
type raw struct {
	d    *virtqueuetest.Driver
	a    *virtqueuetest.Arena
	desc []byte
	av   []byte
	buf  virtqueue.GPA
}

func newRaw(t testing.TB, d *virtqueuetest.Driver, a *virtqueuetest.Arena) *raw {
	t.Helper()
	buf, err := a.Alloc(1<<16, 4096)
	if err != nil {
		t.Fatal(err)
	}
	desc, avail, _ := d.Layout()
	at := func(u virtqueue.UVA, n uint64) []byte { return a.Bytes(a.GPA+virtqueue.GPA(u-a.UVA), n) }
	return &raw{d, a, at(desc, 128), at(avail, 24), buf}
}

// put writes descriptor i of a split table.
func put(table []byte, i int, addr virtqueue.GPA, n uint32, flags, next uint16) {
	le := binary.LittleEndian
	le.PutUint64(table[16*i:], uint64(addr))
	le.PutUint32(table[16*i+8:], n)
	le.PutUint16(table[16*i+12:], flags)
	le.PutUint16(table[16*i+14:], next)
}

// avail makes head available as the next of a split ring.
func (r *raw) avail(head uint16) {
	le := binary.LittleEndian
	idx := le.Uint16(r.av[2:])
	le.PutUint16(r.av[4+2*(idx%8):], head)
	le.PutUint16(r.av[2:], idx+1)
}

const (
	fNext, fWrite, fIndirect = virtqueue.DescNext, virtqueue.DescWrite, virtqueue.DescIndirect
	fAvail                   = virtqueue.DescAvail
)

func TestCorruptSplitChainsAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		build func(r *raw)
		field string // of the RingError; empty: an unmapped address
	}{
		{"head_is_the_ring_size", func(r *raw) { r.avail(8) }, "avail.ring"},
		{"head_is_65535", func(r *raw) { r.avail(65535) }, "avail.ring"},
		{"avail_index_jumps", func(r *raw) { binary.LittleEndian.PutUint16(r.av[2:], 9) }, "avail.idx"},
		{"avail_index_goes_back", func(r *raw) { binary.LittleEndian.PutUint16(r.av[2:], 65535) }, "avail.idx"},
		{"next_is_the_ring_size", func(r *raw) { put(r.desc, 0, r.buf, 8, fNext, 8); r.avail(0) }, "desc.next"},
		{"chain_of_one_loops", func(r *raw) { put(r.desc, 0, r.buf, 8, fNext, 0); r.avail(0) }, "desc.next"},
		{"chain_of_two_loops", func(r *raw) {
			put(r.desc, 0, r.buf, 8, fNext, 1)
			put(r.desc, 1, r.buf, 0, fNext, 0)
			r.avail(0)
		}, "desc.next"},
		{"readable_after_writable", func(r *raw) {
			put(r.desc, 0, r.buf, 8, fNext|fWrite, 1)
			put(r.desc, 1, r.buf, 8, 0, 0)
			r.avail(0)
		}, "desc.flags"},
		{"address_wraps_around", func(r *raw) { put(r.desc, 0, ^virtqueue.GPA(3), 8, 0, 0); r.avail(0) }, "desc.addr"},
		{"address_outside_memory", func(r *raw) { put(r.desc, 0, 64, 8, 0, 0); r.avail(0) }, ""},
		{"length_leaves_memory", func(r *raw) { put(r.desc, 0, r.buf, 60<<20, 0, 0); r.avail(0) }, ""},
		{"longer_than_64_MiB", func(r *raw) { put(r.desc, 0, r.buf, 1<<31, 0, 0); r.avail(0) }, "desc.len"},
		{"same_head_twice", func(r *raw) { put(r.desc, 0, r.buf, 8, 0, 0); r.avail(0); r.avail(0) }, "head"},
		{"indirect_with_next", func(r *raw) { put(r.desc, 0, r.buf, 16, fIndirect|fNext, 1); r.avail(0) }, "desc.flags"},
		{"indirect_of_0_bytes", func(r *raw) { put(r.desc, 0, r.buf, 0, fIndirect, 0); r.avail(0) }, "indirect desc.len"},
		{"indirect_of_17_bytes", func(r *raw) { put(r.desc, 0, r.buf, 17, fIndirect, 0); r.avail(0) }, "indirect desc.len"},
		{"indirect_too_long", func(r *raw) { put(r.desc, 0, r.buf, 16*1153, fIndirect, 0); r.avail(0) }, "indirect desc.len"},
		{"indirect_outside_memory", func(r *raw) { put(r.desc, 0, 64, 16, fIndirect, 0); r.avail(0) }, ""},
		{"indirect_wraps_around", func(r *raw) { put(r.desc, 0, ^virtqueue.GPA(3), 16, fIndirect, 0); r.avail(0) }, "indirect desc.addr"},
		{"indirect_of_indirect", func(r *raw) {
			put(r.a.Bytes(r.buf, 4096), 0, r.buf, 16, fIndirect, 0)
			put(r.desc, 0, r.buf, 16, fIndirect, 0)
			r.avail(0)
		}, "desc.flags"},
		{"indirect_next_past_its_table", func(r *raw) {
			put(r.a.Bytes(r.buf, 4096), 0, r.buf, 8, fNext, 2)
			put(r.desc, 0, r.buf, 32, fIndirect, 0)
			r.avail(0)
		}, "desc.next"},
		{"indirect_loops", func(r *raw) {
			put(r.a.Bytes(r.buf, 4096), 0, r.buf, 8, fNext, 1)
			put(r.a.Bytes(r.buf, 4096), 1, r.buf, 8, fNext, 0)
			put(r.desc, 0, r.buf, 32, fIndirect, 0)
			r.avail(0)
		}, "desc.next"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, q, a, _ := newPair(t, virtqueuetest.Config{Size: 8, EventIdx: true}, nil)
			tt.build(newRaw(t, d, a))
			refused(t, q, tt.field)
		})
	}
}

// refused pops until an error comes, which must name the field.
func refused(t *testing.T, q *virtqueue.Queue, field string) {
	t.Helper()
	var c virtqueue.Chain
	if err := q.Enter(); err != nil {
		t.Fatal(err)
	}
	defer q.Leave()
	for range 3 {
		ok, err := q.Pop(&c)
		var re *virtqueue.RingError
		switch {
		case err == nil && ok:
			continue
		case field == "" && errors.Is(err, virtqueue.ErrUnmapped), errors.As(err, &re) && re.Field == field && errors.Is(err, virtqueue.ErrCorrupt):
			return
		}
		t.Fatalf("got %v, %v, want an error about %q", ok, err, field)
	}
	t.Fatal("nothing was refused")
}

func TestIndirectIsRefusedUnlessNegotiated(t *testing.T) {
	d, q, a, _ := newPair(t, virtqueuetest.Config{Size: 8}, func(c *virtqueue.Config) { c.Indirect = false })
	r := newRaw(t, d, a)
	put(r.a.Bytes(r.buf, 4096), 0, r.buf, 8, 0, 0)
	put(r.desc, 0, r.buf, 16, fIndirect, 0)
	r.avail(0)
	refused(t, q, "desc.flags")
}

func TestIndirectAfterDirectDescriptors(t *testing.T) {
	d, q, a, _ := newPair(t, virtqueuetest.Config{Size: 8}, nil)
	r := newRaw(t, d, a)
	put(r.desc, 3, r.buf+100, 10, fNext, 5)
	// The table is unaligned and its own WRITE flag means nothing.
	put(r.desc, 5, r.buf+4, 32, fIndirect|fWrite, 0)
	table := a.Bytes(r.buf+4, 32)
	put(table, 0, r.buf+200, 20, fNext, 1)
	put(table, 1, r.buf+300, 30, fWrite, 0)
	r.avail(3)
	var c virtqueue.Chain
	if !popOne(t, q, &c) || c.Head != 3 || c.ReadableBytes != 30 || c.WritableBytes != 30 || len(c.Readable) != 2 {
		t.Errorf("chain %+v", c)
	}
}

// putPacked writes entry i of a packed ring.
func putPacked(table []byte, i int, addr virtqueue.GPA, n uint32, id, flags uint16) {
	put(table, i, addr, n, id, flags)
}

func TestCorruptPackedChainsAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		build func(r *raw)
		field string
	}{
		{"id_is_the_ring_size", func(r *raw) { putPacked(r.desc, 0, r.buf, 8, 8, fAvail) }, "desc.id"},
		{"chain_of_the_whole_ring_goes_on", func(r *raw) {
			for i := range 8 {
				putPacked(r.desc, i, r.buf, 8, 0, fAvail|fNext)
			}
		}, "desc.flags"},
		{"same_id_twice", func(r *raw) {
			putPacked(r.desc, 0, r.buf, 8, 3, fAvail)
			putPacked(r.desc, 1, r.buf, 8, 3, fAvail)
		}, "head"},
		{"readable_after_writable", func(r *raw) {
			putPacked(r.desc, 0, r.buf, 8, 0, fAvail|fNext|fWrite)
			putPacked(r.desc, 1, r.buf, 8, 0, fAvail)
		}, "desc.flags"},
		{"address_outside_memory", func(r *raw) { putPacked(r.desc, 0, 64, 8, 0, fAvail) }, ""},
		{"indirect_in_a_chain", func(r *raw) {
			putPacked(r.desc, 0, r.buf, 8, 0, fAvail|fNext)
			putPacked(r.desc, 1, r.buf, 16, 0, fAvail|fIndirect)
		}, "desc.flags"},
		{"indirect_with_next", func(r *raw) { putPacked(r.desc, 0, r.buf, 16, 0, fAvail|fIndirect|fNext) }, "desc.flags"},
		{"indirect_of_indirect", func(r *raw) {
			putPacked(r.a.Bytes(r.buf, 4096), 0, r.buf, 16, 0, fIndirect)
			putPacked(r.desc, 0, r.buf, 16, 0, fAvail|fIndirect)
		}, "desc.flags"},
		{"indirect_of_8_bytes", func(r *raw) { putPacked(r.desc, 0, r.buf, 8, 0, fAvail|fIndirect) }, "indirect desc.len"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, q, a, _ := newPair(t, virtqueuetest.Config{Size: 8, Packed: true, EventIdx: true}, nil)
			tt.build(newRaw(t, d, a))
			refused(t, q, tt.field)
		})
	}
}

func TestBadConfigsAreRefused(t *testing.T) {
	d, _, _, space := newPair(t, virtqueuetest.Config{Size: 8}, nil)
	good := d.QueueConfig()
	for _, tt := range []struct {
		name   string
		change func(c *virtqueue.Config)
	}{
		{"size_0", func(c *virtqueue.Config) { c.Size = 0 }},
		{"size_7", func(c *virtqueue.Config) { c.Size = 7 }},
		{"size_65536", func(c *virtqueue.Config) { c.Size = 65536 }},
		{"negative_size", func(c *virtqueue.Config) { c.Size = -8 }},
		{"packed_size_32769", func(c *virtqueue.Config) { c.Packed, c.Size = true, 32769 }},
		{"packed_base_past_the_ring", func(c *virtqueue.Config) { c.Packed, c.Base = true, 8 }},
		{"packed_used_base_past_the_ring", func(c *virtqueue.Config) { c.Packed, c.Base = true, 8<<16 }},
		{"unaligned_descriptors", func(c *virtqueue.Config) { c.Desc += 8 }},
		{"unaligned_available_ring", func(c *virtqueue.Config) { c.Avail += 2 }},
		{"unaligned_used_ring", func(c *virtqueue.Config) { c.Used += 2 }},
		{"overlap", func(c *virtqueue.Config) { c.Used = c.Avail + 4 }},
		{"same_place", func(c *virtqueue.Config) { c.Avail = c.Desc }},
		{"outside_memory", func(c *virtqueue.Config) { c.Used = 0x1000 }},
		{"across_the_end_of_memory", func(c *virtqueue.Config) { c.Used = 0x7f00_0000_0000 + 16<<20 - 16 }},
		{"packed_with_the_region_of_a_split_ring", func(c *virtqueue.Config) { c.Packed, c.Inflight = true, virtqueue.HeapInflight(8, false) }},
	} {
		cfg := good
		tt.change(&cfg)
		if q, err := virtqueue.NewQueue(space, cfg); err == nil || !errors.Is(err, virtqueue.ErrCorrupt) && !errors.Is(err, virtqueue.ErrUnmapped) {
			t.Errorf("%s: %v, %v", tt.name, q, err)
		}
	}
}
