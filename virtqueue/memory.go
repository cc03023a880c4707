package virtqueue

import (
	"fmt"
	"math"
	"slices"
)

// A GPA is a guest physical address: what descriptors hold.
type GPA uint64

// A UVA is a user address, the front-end's own virtual address: what
// SET_VRING_ADDR holds.
type UVA uint64

// A Seg is a run of guest physical memory. It stays meaningful across memory
// table changes; a host view of it does not.
type Seg struct {
	Addr GPA
	Len  uint32
}

// Memory is an immutable table of memory regions.
type Memory struct {
	byGPA []*Region // sorted by GPA, no overlap
	byUVA []*Region // sorted by UVA, no overlap
	log   *DirtyLog // set by Space; nil when nothing is logged
}

// NewMemory returns a table of regions. Regions that overlap in guest physical
// or in user addresses are refused with ErrRegion. The slice is copied.
func NewMemory(regions []*Region) (*Memory, error) {
	m := &Memory{byGPA: slices.Clone(regions), byUVA: slices.Clone(regions)}
	slices.SortFunc(m.byGPA, func(a, b *Region) int { return cmpU64(uint64(a.gpa), uint64(b.gpa)) })
	slices.SortFunc(m.byUVA, func(a, b *Region) int { return cmpU64(uint64(a.uva), uint64(b.uva)) })
	for i := 1; i < len(regions); i++ {
		if p, r := m.byGPA[i-1], m.byGPA[i]; uint64(r.gpa-p.gpa) < p.Size() {
			return nil, fmt.Errorf("%w: guest %#x+%#x overlaps %#x", ErrRegion, p.gpa, p.Size(), r.gpa)
		}
		if p, r := m.byUVA[i-1], m.byUVA[i]; uint64(r.uva-p.uva) < p.Size() {
			return nil, fmt.Errorf("%w: user %#x+%#x overlaps %#x", ErrRegion, p.uva, p.Size(), r.uva)
		}
	}
	return m, nil
}

func cmpU64(a, b uint64) int {
	if a < b {
		return -1
	}
	if a > b {
		return 1
	}
	return 0
}

// Regions returns the regions in guest physical order. The caller must not
// change the slice.
func (m *Memory) Regions() []*Region { return m.byGPA }

// find returns the region holding addr, or nil.
func (m *Memory) find(addr GPA) *Region {
	rs := m.byGPA
	if len(rs) > 8 {
		i, j := 0, len(rs) // rs[i-1].gpa <= addr < rs[j].gpa
		for i < j {
			if h := int(uint(i+j) >> 1); rs[h].gpa <= addr {
				i = h + 1
			} else {
				j = h
			}
		}
		if i == 0 {
			return nil
		}
		rs = rs[i-1 : i]
	}
	for _, r := range rs {
		if uint64(addr-r.gpa) < uint64(len(r.mem)) { // wraps high when addr < gpa
			return r
		}
	}
	return nil
}

// Translate appends host views of segs to dst, in order, split where a segment
// crosses from one region into the next. It fails with an AddrError if any byte
// is outside the table; dst is then meaningless. The views are valid only
// inside the epoch that m was obtained in.
func (m *Memory) Translate(dst [][]byte, segs []Seg) ([][]byte, error) {
	for i := range segs {
		a, n := segs[i].Addr, uint64(segs[i].Len)
		for n > 0 {
			r := m.find(a)
			if r == nil {
				return dst, &AddrError{"guest buffer", uint64(segs[i].Addr), uint64(segs[i].Len)}
			}
			v := r.mem[a-r.gpa:]
			if uint64(len(v)) > n {
				v = v[:n:n]
			}
			dst = append(dst, v)
			n -= uint64(len(v))
			if a += GPA(len(v)); a == 0 && n > 0 {
				return dst, &AddrError{"guest buffer", uint64(segs[i].Addr), uint64(segs[i].Len)}
			}
		}
	}
	return dst, nil
}

// user returns the n bytes at user address addr, which must lie in one region.
func (m *Memory) user(addr UVA, n uint64, what string) ([]byte, error) {
	for _, r := range m.byUVA {
		if off := uint64(addr - r.uva); addr >= r.uva && off < r.Size() && n <= r.Size()-off {
			return r.mem[off : off+n : off+n], nil
		}
	}
	return nil, &AddrError{what, uint64(addr), n}
}

// A Region is one run of guest memory and the host mapping behind it.
type Region struct {
	gpa  GPA
	uva  UVA
	mem  []byte // the region's bytes
	full []byte // the whole mapping, nil for heap memory
	fd   int    // of the file, with full; ours
	spec RegionSpec
}

// GPA returns the region's guest physical address.
func (r *Region) GPA() GPA { return r.gpa }

// UVA returns the region's user address.
func (r *Region) UVA() UVA { return r.uva }

// Size returns the region's length in bytes.
func (r *Region) Size() uint64 { return uint64(len(r.mem)) }

// FD returns a descriptor of the region's file, -1 for heap memory. It stays the
// region's.
func (r *Region) FD() int {
	if r.full == nil {
		return -1
	}
	return r.fd
}

// Spec returns what the region was mapped from.
func (r *Region) Spec() RegionSpec { return r.spec }

// Bytes returns the region's memory. The slice is valid until Unmap.
func (r *Region) Bytes() []byte { return r.mem }

// HeapRegion returns a region of Go memory: for tests under the race detector,
// which does not see mapped memory.
func HeapRegion(gpa GPA, uva UVA, size int) (*Region, error) {
	if err := checkRange(gpa, uva, uint64(size)); err != nil {
		return nil, err
	}
	return &Region{gpa: gpa, uva: uva, mem: alignedBytes(size)}, nil
}

// checkRange refuses empty regions and those whose end wraps around.
func checkRange(gpa GPA, uva UVA, size uint64) error {
	switch {
	case size == 0:
		return fmt.Errorf("%w: size 0", ErrRegion)
	case uint64(gpa) > math.MaxUint64-size || uint64(uva) > math.MaxUint64-size:
		return fmt.Errorf("%w: guest %#x user %#x size %#x wraps around", ErrRegion, gpa, uva, size)
	}
	return nil
}

// guest returns the guest physical address of a user address.
func (m *Memory) guest(addr UVA) (GPA, bool) {
	for _, r := range m.byUVA {
		if off := uint64(addr - r.uva); addr >= r.uva && off < r.Size() {
			return r.gpa + GPA(off), true
		}
	}
	return 0, false
}
