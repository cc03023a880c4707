package virtqueue

// A packed queue's part of the in-flight region (vhost-user, "Inflight I/O
// tracking"). Completions overwrite the ring's descriptors, so those of a chain
// are copied to entries of their own, linked from the chain's head entry on. The
// other entries are the free list.
//
//	0          8       10       12     14       16     18       20     21
//	| features | vers. | number | free | old f. | used | old u. | wrap | old w. | 0 ... 32 entries
//	entry: | inflight u8, 0 | next | last | num | counter u64 | id | flags | len u32 | addr u64 |
//
// The four fields from 8 on are stored with one store, and so are those from 16
// on. The old ones are where a restart begins. A crash may come between any two
// stores:
//
//	take:     copy, set the head's entry | free = old free = the rest
//	complete: link the batch, set free, set used | publish | clear entries | old f. | old u.
//	   not published: back to the old ones       |  published: forward to the new
const (
	infpFree      = 12 // {free_head, old_free_head}
	infpUsed      = 16 // {used_idx, old_used_idx, used_wrap, old_used_wrap}
	infpEntries   = 32
	infpEntrySize = 32
	infpState     = 0 // {inflight, 0, next}
	infpLast      = 4 // {last, num}
	infpCounter   = 8
	infpDesc      = 16 // {id, flags, len}
	infpAddr      = 24
)

// packedState is what an Inflight of a packed queue knows of its entries.
type packedState struct {
	size uint32
	free uint16      // head of the free list; size ends it
	room uint32      // its length
	runs []packedRun // by buffer id: the entries of a chain in flight
}

type packedRun struct{ first, last uint16 }

func packedEntry(i uint16) uint32 { return infpEntries + infpEntrySize*uint32(i) }

// next returns the entry after i in its chain or in the free list.
func (f *Inflight) next(i uint16) uint16 {
	return uint16(load32(f.mem, packedEntry(i)+infpState) >> 16)
}

// setState stores whether the chain at entry i is in flight.
func (f *Inflight) setState(i uint16, inflight uint32) {
	at := packedEntry(i) + infpState
	storeRel(f.mem, at, load32(f.mem, at)&^0xff|inflight)
}

// setFree stores the free list's head, and where a restart begins.
func (f *Inflight) setFree(free, old uint16) {
	version := load32(f.mem, infVersionNum)
	store64Rel(f.mem, infVersionNum, uint64(version)|uint64(free)<<32|uint64(old)<<48)
}

// setUsed stores where the next completion goes, and where a restart begins.
func (f *Inflight) setUsed(used, old ringPos) {
	w := uint64(used.slot) | uint64(old.slot)<<16
	if used.wrap {
		w |= 1 << 32
	}
	if old.wrap {
		w |= 1 << 40
	}
	store64Rel(f.mem, infpUsed, w)
}

// takePacked records a chain with the given buffer id.
func (f *Inflight) takePacked(id uint16, chain []desc) error {
	p := &f.packedState
	if uint32(len(chain)) > p.room {
		return &RingError{"descriptors in flight", uint64(len(chain)), uint64(p.room), "more than the ring has room for:"}
	}
	first, last, rest := p.free, p.free, p.free
	for i := range chain {
		if uint32(rest) >= p.size {
			return &RingError{"inflight next", uint64(rest), uint64(p.size), "not below"}
		}
		d, at := &chain[i], packedEntry(rest)
		store64Rel(f.mem, at+infpDesc, uint64(d.next)|uint64(d.flags)<<16|uint64(d.len)<<32)
		store64Rel(f.mem, at+infpAddr, d.addr)
		last, rest = rest, f.next(rest)
	}
	f.counter++
	store64Rel(f.mem, packedEntry(first)+infpCounter, f.counter)
	storeRel(f.mem, packedEntry(first)+infpLast, uint32(last)|uint32(len(chain))<<16)
	f.setState(first, 1)
	f.setFree(rest, rest)
	p.free, p.runs[id] = rest, packedRun{first, last}
	p.room -= uint32(len(chain))
	return nil
}

// beforePublishPacked links the batch to the free list; used moves to new with it.
func (f *Inflight) beforePublishPacked(batch []usedElem, used, new ringPos) {
	old := f.free
	for _, b := range batch {
		r := f.runs[b.head]
		at := packedEntry(r.last) + infpState
		storeRel(f.mem, at, load32(f.mem, at)&0xffff|uint32(f.free)<<16)
		f.free = r.first
	}
	f.setFree(f.free, old)
	f.setUsed(new, used)
}

// afterPublishPacked clears the batch, which took slots of the ring.
func (f *Inflight) afterPublishPacked(batch []usedElem, slots uint32, used ringPos) {
	for _, b := range batch {
		f.setState(f.runs[b.head].first, 0)
	}
	f.setFree(f.free, f.free)
	f.setUsed(used, used)
	f.room += slots
}

// recoverPacked is recover for packed rings.
func (q *Queue) recoverPacked() error {
	f := q.cfg.Inflight
	f.packedState = packedState{size: q.size, runs: make([]packedRun, q.size)}
	w := load64(f.mem, infVersionNum)
	if version := uint16(w); version == 0 {
		f.beginPacked(q.usedPos())
		return nil
	} else if version != inflightVersion || uint16(w>>16) != uint16(q.size) {
		return &RingError{"inflight version and size", w & 0xffff_ffff, uint64(q.size), "not version 1 of"}
	}
	used, err := f.settle(q.view.desc)
	if err != nil {
		return err
	}
	if q.resubmit, err = f.inOrderPacked(); err != nil {
		return err
	}
	slots := q.size - f.room
	q.unpublish(used, slots)
	q.used, q.usedWrap = used.slot, used.wrap
	next := used.add(slots, q.size)
	q.next, q.wrap = next.slot, next.wrap
	q.uncalled = true // that life may have ended between the ring and the call
	return nil
}

// beginPacked initializes the region, nothing in flight.
func (f *Inflight) beginPacked(used ringPos) {
	for i := range f.size {
		storeRel(f.mem, packedEntry(uint16(i))+infpState, (i+1)<<16)
	}
	f.free, f.room = 0, f.size
	f.setUsed(used, used)
	store64Rel(f.mem, infVersionNum, inflightVersion|uint64(f.size)<<16)
}

// settle completes or takes back what was under way at a crash, and returns where
// the next completion goes.
func (f *Inflight) settle(ring []byte) (ringPos, error) {
	w, free := load64(f.mem, infpUsed), load32(f.mem, infpFree)
	used := ringPos{uint16(w), w>>32&1 != 0}
	old := ringPos{uint16(w >> 16), w>>40&1 != 0}
	if uint32(used.slot) >= f.size || uint32(old.slot) >= f.size {
		return old, &RingError{"inflight used_idx", w, uint64(f.size), "not below"}
	}
	f.free = uint16(free >> 16)
	if used != old && !old.available(ring) { // the batch was published
		f.free, old = uint16(free), used
	}
	f.setFree(f.free, f.free)
	f.setUsed(old, old)
	f.room = 0
	for e := f.free; uint32(e) < f.size; e = f.next(e) {
		if f.room++; f.room > f.size {
			return old, &RingError{"inflight free_head", uint64(f.free), uint64(f.size), "free list longer than"}
		}
		f.setState(e, 0) // of a chain completed, or one half taken
	}
	return old, nil
}

// inOrderPacked returns the first entries of the chains in flight, oldest first.
// They and the free list must add up to all entries.
func (f *Inflight) inOrderPacked() ([]uint16, error) {
	var found []aged
	n := f.room
	for i := range f.size {
		at := packedEntry(uint16(i))
		if load32(f.mem, at+infpState)&0xff == 0 {
			continue
		}
		found = append(found, aged{uint16(i), load64(f.mem, at+infpCounter)})
		n += load32(f.mem, at+infpLast) >> 16
	}
	if n != f.size {
		return nil, &RingError{"inflight entries", uint64(n), uint64(f.size), "free and in flight, not"}
	}
	return f.sorted(found), nil
}

// unpublish takes back what a crash left of a batch whose first entry was not
// published: the driver would take the others for completions once it gets there.
func (q *Queue) unpublish(at ringPos, slots uint32) {
	for n := uint32(1); n < slots; n++ {
		if at = at.add(1, q.size); at.available(q.view.desc) {
			continue
		}
		flags := uint32(DescUsed)
		if at.wrap {
			flags = DescAvail
		}
		word := uint32(at.slot)*16 + 12
		storeRel(q.view.desc, word, load32(q.view.desc, word)&0xffff|flags<<16)
		q.markDesc(&q.view, uint32(at.slot))
	}
}

// popAgainPacked is popAgain for packed rings: the chain's descriptors are in the
// region, those in the ring may be gone.
func (q *Queue) popAgainPacked(c *Chain) (bool, error) {
	f, first := q.cfg.Inflight, q.resubmit[0]
	num := load32(f.mem, packedEntry(first)+infpLast) >> 16
	c.reset(0)
	for n, e := uint32(1), first; ; n++ {
		w := load64(f.mem, packedEntry(e)+infpDesc)
		d := desc{addr: load64(f.mem, packedEntry(e)+infpAddr), len: uint32(w >> 32), flags: uint16(w >> 16), next: uint16(w)}
		last, err := q.addPacked(c, &d, n)
		if err != nil {
			return false, err
		}
		if last != (n == num) || n > num {
			return false, &RingError{"inflight num", uint64(num), uint64(n), "chain ends at"}
		}
		if last {
			f.runs[c.Head] = packedRun{first, e}
			break
		}
		if e = f.next(e); uint32(e) >= q.size {
			return false, &RingError{"inflight next", uint64(e), uint64(q.size), "not below"}
		}
	}
	if err := q.finish(c); err != nil {
		return false, err
	}
	q.chainLen[c.Head] = uint16(num)
	q.resubmit = q.resubmit[1:]
	return true, nil
}
