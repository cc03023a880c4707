package virtqueuetest

import (
	"fmt"

	"vrafs/virtqueue"
)

// availFlags returns the AVAIL and USED bits of an available descriptor.
func availFlags(wrap bool) uint64 {
	if wrap {
		return virtqueue.DescAvail
	}
	return virtqueue.DescUsed
}

// addPacked writes the scratch entries into the ring; the very first one since
// the last Publish gets its flags at Publish.
func (d *Driver) addPacked(id uint16) {
	for i, e := range d.ent {
		flags := availFlags(d.wrap)
		if e.write {
			flags |= virtqueue.DescWrite
		}
		if d.isTable(id, e) {
			flags |= virtqueue.DescIndirect
		}
		if i+1 < len(d.ent) {
			flags |= virtqueue.DescNext
		}
		slot := uint32(d.idx)
		word := uint64(e.seg.Len) | uint64(id)<<32 | flags<<48
		plain64(d.desc, 16*slot, uint64(e.seg.Addr))
		if d.fresh == 0 {
			d.first, d.fword = slot, word
		} else {
			store64(d.desc, 16*slot+8, word)
		}
		d.fresh++
		d.taken++
		if d.idx++; uint32(d.idx) == d.size {
			d.idx, d.wrap = 0, !d.wrap
		}
	}
}

// publishPacked is Publish for packed rings.
func (d *Driver) publishPacked() bool {
	n := uint16(d.fresh)
	d.fresh = 0
	store64(d.desc, 16*d.first+8, d.fword)
	event := load32(d.used, 0)
	switch event >> 16 & 3 {
	case 0:
		return true
	case 1:
		return false
	}
	// Linear indices, as if the current lap began at 0.
	off := uint16(event) &^ (1 << 15)
	if (event&(1<<15) != 0) != d.wrap {
		off -= uint16(d.size)
	}
	return d.idx-off-1 < n
}

// pollPacked is Poll for packed rings.
func (d *Driver) pollPacked() (c Completion, ok bool, err error) {
	slot := uint32(d.last)
	word := load32(d.desc, 16*slot+12)
	flags := uint16(word >> 16)
	if (flags&virtqueue.DescAvail != 0) != d.uwrap || (flags&virtqueue.DescUsed != 0) != d.uwrap {
		return c, false, nil
	}
	c = Completion{uint16(word), plain32(d.desc, 16*slot+8)}
	if uint32(c.ID) >= d.size || !d.flight[c.ID] {
		return c, false, fmt.Errorf("%w: used id %d is not in flight", ErrDevice, c.ID)
	}
	if (c.Written != 0) != (flags&virtqueue.DescWrite != 0) {
		return c, false, fmt.Errorf("%w: used flags %#x with length %d", ErrDevice, flags, c.Written)
	}
	n := d.slots[c.ID]
	d.taken -= uint32(n)
	if next := slot + uint32(n); next >= d.size {
		d.last, d.uwrap = uint16(next-d.size), !d.uwrap
	} else {
		d.last = uint16(next)
	}
	d.flight[c.ID] = false
	d.free = append(d.free, c.ID)
	d.numReq--
	return c, true, nil
}

// wantCallPacked is WantCall for packed rings.
func (d *Driver) wantCallPacked() bool {
	w := uint32(0)
	if d.cfg.EventIdx {
		w = uint32(d.last) | 2<<16
		if d.uwrap {
			w |= 1 << 15
		}
	}
	store32(d.avail, 0, w)
	flags := uint16(load32(d.desc, 16*uint32(d.last)+12) >> 16)
	return (flags&virtqueue.DescAvail != 0) == d.uwrap && (flags&virtqueue.DescUsed != 0) == d.uwrap
}
