package build

import (
	"math/bits"

	"vrafs/rafs"
)

// A roomList remembers free 32-byte slots at the ends of blocks, by how many
// there are.
type roomList struct {
	bySlots [129][]uint64 // offsets in the metadata area
	have    [3]uint64     // bit set of non-empty entries
}

func (r *roomList) add(off, end uint64) {
	off = alignUp(off, rafs.V6SlotSize)
	if off >= end {
		return
	}
	n := (end - off) / rafs.V6SlotSize
	if n == 0 || n > 128 {
		return
	}
	r.bySlots[n] = append(r.bySlots[n], off)
	r.have[n/64] |= 1 << (n % 64)
}

// take finds size bytes in the smallest free place that has them.
func (r *roomList) take(size uint64) (uint64, bool) {
	want := (size + rafs.V6SlotSize - 1) / rafs.V6SlotSize
	if want > 128 {
		return 0, false
	}
	for w := want / 64; w < 3; w++ {
		have := r.have[w]
		if w == want/64 {
			have &= ^uint64(0) << (want % 64)
		}
		if have == 0 {
			continue
		}
		n := w*64 + uint64(bits.TrailingZeros64(have))
		list := r.bySlots[n]
		off := list[len(list)-1]
		r.bySlots[n] = list[:len(list)-1]
		if len(list) == 1 {
			r.have[w] &^= 1 << (n % 64)
		}
		r.add(off+want*rafs.V6SlotSize, off+n*rafs.V6SlotSize)
		return off, true
	}
	return 0, false
}
