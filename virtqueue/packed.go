package virtqueue

// Event suppression structures (virtio 1.2, 2.8.14): {off_wrap, flags}, one
// 32-bit word each.
const (
	eventEnable  = 0
	eventDisable = 1
	eventDesc    = 2 // only with the event index: tell when off_wrap is passed

	wrapBit = 1 << 15 // of off_wrap
)

// available reports whether descriptor flags say "ours to take" for wrap.
func available(flags uint16, wrap bool) bool {
	avail, used := flags&DescAvail != 0, flags&DescUsed != 0
	return avail == wrap && used != wrap
}

// popPacked is Pop for packed rings.
func (q *Queue) popPacked(c *Chain) (bool, error) {
	// Acquires the rest of the chain, whose head flags the driver writes last.
	if !available(uint16(load64(q.view.desc, uint32(q.next)*16+8)>>48), q.wrap) {
		return false, nil
	}
	slots, err := q.walkPacked(c)
	if err != nil {
		return false, err
	}
	if err := q.finish(c); err != nil {
		return false, err
	}
	q.chainLen[c.Head] = uint16(slots)
	n := uint32(q.next) + slots
	if n >= q.size {
		n -= q.size
		q.wrap = !q.wrap
	}
	q.next = uint16(n)
	return true, nil
}

// walkPacked copies the chain at q.next into c and returns how many ring entries
// it takes: at most all of them.
func (q *Queue) walkPacked(c *Chain) (uint32, error) {
	c.reset(0)
	i := uint32(q.next)
	for n := uint32(1); ; n++ {
		d := loadDescPacked(q.view.desc, i)
		if d.flags&DescIndirect != 0 {
			if n > 1 {
				return 0, &RingError{"desc.flags", uint64(d.flags), uint64(n), "indirect descriptor in a chain at place"}
			}
			if err := q.indirect(c, &d); err != nil {
				return 0, err
			}
		} else if err := c.add(&d, q.cfg.MaxBytes); err != nil {
			return 0, err
		}
		if d.flags&DescNext == 0 {
			// The buffer id stands in the chain's last descriptor.
			if uint32(d.next) >= q.size {
				return 0, &RingError{"desc.id", uint64(d.next), uint64(q.size), "not below"}
			}
			c.Head = d.next
			return n, nil
		}
		if n == q.size {
			return 0, &RingError{"desc.flags", uint64(d.flags), uint64(q.size), "chain longer than the ring of"}
		}
		if i++; i == q.size {
			i = 0
		}
	}
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
		n := slot + uint32(q.chainLen[e.head])
		q.busy[e.head].Store(free)
		store32(v.desc, slot*16+8, e.written)
		if k == 0 {
			first, firstWord = slot, word
		} else {
			storeRel(v.desc, slot*16+12, word)
		}
		q.markDesc(v.mem.log, slot)
		if n >= q.size {
			n -= q.size
			q.usedWrap = !q.usedWrap
		}
		q.used = uint16(n)
	}
	storeRel(v.desc, first*16+12, firstWord)
	q.markDesc(v.mem.log, first)
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
	return available(uint16(load64(q.view.desc, uint32(q.next)*16+8)>>48), q.wrap), nil
}

// busyPacked tells the driver not to kick.
func (q *Queue) busyPacked() {
	storeRel(q.view.used, 0, eventDisable<<16)
	q.markUsed(q.view.mem.log, 0, 4)
}

// markDesc marks descriptor slot, which a completion was written to. Packed
// rings have no used ring: SET_VRING_ADDR's log address is that of the
// descriptor ring's user address seen as guest memory, so it is looked up.
func (q *Queue) markDesc(l *DirtyLog, slot uint32) {
	if l == nil || q.logUsed.Load() == nil {
		return
	}
	if gpa, ok := q.pushView.mem.guest(q.cfg.Desc + UVA(slot*16)); ok {
		l.Mark(gpa, 16)
	}
}
