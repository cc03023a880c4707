package virtqueue

// Event suppression structures (virtio 1.2, 2.8.14): {off_wrap, flags}, one
// 32-bit word each.
const (
	eventEnable  = 0
	eventDisable = 1
	eventDesc    = 2 // only with the event index: tell when off_wrap is passed

	wrapBit = 1 << 15 // of off_wrap
)

// A ringPos is a place in a packed ring: slot and wrap counter.
type ringPos struct {
	slot uint16
	wrap bool
}

// add returns the place n slots on, at most one lap.
func (p ringPos) add(n, size uint32) ringPos {
	at := uint32(p.slot) + n
	if at >= size {
		return ringPos{uint16(at - size), !p.wrap}
	}
	return ringPos{uint16(at), p.wrap}
}

// available reports whether the descriptor there is ours to take. It acquires
// the rest of its chain, whose head flags the driver writes last.
func (p ringPos) available(ring []byte) bool {
	flags := load64(ring, uint32(p.slot)*16+8) >> 48
	avail, used := flags&DescAvail != 0, flags&DescUsed != 0
	return avail == p.wrap && used != p.wrap
}

// nextPos is where the next chain is taken.
func (q *Queue) nextPos() ringPos { return ringPos{q.next, q.wrap} }

// usedPos is where the next completion goes.
func (q *Queue) usedPos() ringPos { return ringPos{q.used, q.usedWrap} }

// popPacked is Pop for packed rings.
func (q *Queue) popPacked(c *Chain) (bool, error) {
	if !q.nextPos().available(q.view.desc) {
		return false, nil
	}
	slots, err := q.walkPacked(c)
	if err != nil {
		return false, err
	}
	if err := q.finish(c); err != nil {
		return false, err
	}
	if q.cfg.Inflight != nil {
		if err := q.trackPacked(c); err != nil {
			return false, err
		}
	}
	q.chainLen[c.Head] = uint16(slots)
	next := q.nextPos().add(slots, q.size)
	q.next, q.wrap = next.slot, next.wrap
	return true, nil
}

// trackPacked records the chain, whose descriptors are in q.chain, as taken. It is
// under the lock for the reason that popSplit has.
func (q *Queue) trackPacked(c *Chain) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	err := q.cfg.Inflight.takePacked(c.Head, q.chain)
	if err != nil {
		q.busy[c.Head].Store(free)
		q.retire(1)
	}
	return err
}

// walkPacked copies the chain at q.next into c and returns how many ring entries
// it takes: at most all of them.
func (q *Queue) walkPacked(c *Chain) (uint32, error) {
	c.reset(0)
	q.chain = q.chain[:0]
	i := uint32(q.next)
	for n := uint32(1); ; n++ {
		d := loadDescPacked(q.view.desc, i)
		if q.cfg.Inflight != nil {
			q.chain = append(q.chain, d)
		}
		if last, err := q.addPacked(c, &d, n); last || err != nil {
			return n, err
		}
		if n == q.size {
			return 0, &RingError{"desc.flags", uint64(d.flags), uint64(q.size), "chain longer than the ring of"}
		}
		if i++; i == q.size {
			i = 0
		}
	}
}

// addPacked adds the n-th descriptor of a chain to c and reports whether it was
// the last.
func (q *Queue) addPacked(c *Chain, d *desc, n uint32) (last bool, err error) {
	switch {
	case d.flags&DescIndirect == 0:
		err = c.add(d, q.cfg.MaxBytes)
	case n > 1:
		err = &RingError{"desc.flags", uint64(d.flags), uint64(n), "indirect descriptor in a chain at place"}
	default:
		err = q.indirect(c, d)
	}
	if err != nil || d.flags&DescNext != 0 {
		return false, err
	}
	// The buffer id stands in the chain's last descriptor.
	if uint32(d.next) >= q.size {
		return false, &RingError{"desc.id", uint64(d.next), uint64(q.size), "not below"}
	}
	c.Head = d.next
	return true, nil
}

// publishPacked writes the batch into the descriptor ring. The first entry's
// flags come last: the driver, which looks at entries in order, then sees the
// whole batch or none of it.
func (q *Queue) publishPacked(v *view) {
	var first, firstWord uint32
	for k, e := range q.batch {
		slot := uint32(q.used)
		flags := uint32(0)
		if q.usedWrap {
			flags = DescAvail | DescUsed
		}
		if e.written != 0 {
			flags |= DescWrite
		}
		// id and flags are both ours now, and one aligned word.
		word := uint32(e.head) | flags<<16
		next := q.usedPos().add(uint32(q.chainLen[e.head]), q.size)
		q.busy[e.head].Store(free)
		store32(v.desc, slot*16+8, e.written)
		if k == 0 {
			first, firstWord = slot, word
		} else {
			storeRel(v.desc, slot*16+12, word)
		}
		q.markDesc(v, slot)
		q.used, q.usedWrap = next.slot, next.wrap
	}
	storeRel(v.desc, first*16+12, firstWord)
	q.markDesc(v, first)
}

// wantsCallPacked decides whether the driver wants to hear of what was just
// published up to q.used.
func (q *Queue) wantsCallPacked(v *view) bool {
	event := load32(v.avail, 0)
	offWrap, flags := uint16(event), uint16(event>>16)&3
	old, valid := q.signalled, q.valid
	q.signalled, q.valid = q.used, true
	switch {
	case flags == eventDisable:
		return false
	case flags == eventEnable || !q.cfg.EventIdx || !valid:
		return true
	}
	// Make the three indices linear, as if this lap began at 0.
	if q.used <= old {
		old -= uint16(q.size)
	}
	off := offWrap &^ wrapBit
	if (offWrap&wrapBit != 0) != q.usedWrap {
		off -= uint16(q.size)
	}
	return needEvent(off, q.used, old)
}

// idlePacked asks for a kick and reports whether something came in meanwhile.
func (q *Queue) idlePacked() (bool, error) {
	w := uint32(eventEnable) << 16
	if q.cfg.EventIdx {
		w = uint32(q.next) | eventDesc<<16
		if q.wrap {
			w |= wrapBit
		}
	}
	storeRel(q.view.used, 0, w)
	q.markUsed(q.view.mem.log, 0, 4)
	return q.nextPos().available(q.view.desc), nil
}

// busyPacked tells the driver not to kick.
func (q *Queue) busyPacked() {
	storeRel(q.view.used, 0, eventDisable<<16)
	q.markUsed(q.view.mem.log, 0, 4)
}

// markDesc marks descriptor slot, which a completion was written to. Packed
// rings have no used ring: SET_VRING_ADDR's log address is that of the
// descriptor ring's user address seen as guest memory, so it is looked up.
func (q *Queue) markDesc(v *view, slot uint32) {
	l := v.mem.log
	if l == nil || q.logUsed.Load() == nil {
		return
	}
	if gpa, ok := v.mem.guest(q.cfg.Desc + UVA(slot*16)); ok {
		l.Mark(gpa, 16)
	}
}
