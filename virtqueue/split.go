package virtqueue

// Offsets in the split ring's areas (virtio 1.2, 2.7.6 and 2.7.8). The available
// ring is {flags, idx, ring[N], used_event}, the used ring {flags, idx,
// ring[N]{id, len}, avail_event}; flags and idx together are one 32-bit word.
const (
	ringFlags = 0
	ringIdx   = 2
	ringElems = 4

	availNoInterrupt = 1 // avail.flags: the driver polls
	usedNoNotify     = 1 // used.flags: the device polls
)

// usedEvent is the offset of the driver's event index in the available ring.
func (q *Queue) usedEvent() uint32 { return ringElems + 2*q.size }

// availEvent is the offset of the device's event index in the used ring.
func (q *Queue) availEvent() uint32 { return ringElems + 8*q.size }

// loadAvail refreshes q.seen and reports whether there is something to pop.
func (q *Queue) loadAvail() (bool, error) {
	// Acquires the ring entries and descriptors written before idx.
	idx := load16(q.view.avail, ringIdx)
	if n := idx - q.next; uint32(n) > q.size {
		return false, &RingError{"avail.idx", uint64(idx), uint64(q.next), "more than the ring size ahead of"}
	}
	q.seen = idx
	return idx != q.next, nil
}

// popSplit is Pop for split rings.
func (q *Queue) popSplit(c *Chain) (bool, error) {
	if q.seen == q.next {
		if more, err := q.loadAvail(); !more {
			return false, err
		}
	}
	slot := uint32(q.next) & (q.size - 1)
	head := load16(q.view.avail, ringElems+2*slot)
	if uint32(head) >= q.size {
		return false, &RingError{"avail.ring", uint64(head), uint64(q.size), "head not below"}
	}
	if err := q.walkSplit(c, head); err != nil {
		return false, err
	}
	if err := q.finish(c); err != nil {
		return false, err
	}
	if f := q.cfg.Inflight; f != nil {
		// Under the lock: a Flush that has just published the head's former
		// completion clears its entry before this sets it.
		q.mu.Lock()
		f.take(head)
		q.mu.Unlock()
	}
	q.next++
	return true, nil
}

// walkSplit copies the chain at head into c. It visits at most q.size
// descriptors, so a looping or changing chain ends in an error.
func (q *Queue) walkSplit(c *Chain, head uint16) error {
	c.reset(head)
	i := uint32(head)
	for steps := q.size; ; steps-- {
		if steps == 0 {
			return &RingError{"desc.next", uint64(i), uint64(q.size), "chain longer than the ring of"}
		}
		d := loadDesc(q.view.desc, i)
		if d.flags&DescIndirect != 0 {
			return q.indirect(c, &d)
		}
		if err := c.add(&d, q.cfg.MaxBytes); err != nil {
			return err
		}
		if d.flags&DescNext == 0 {
			return nil
		}
		if i = uint32(d.next); i >= q.size {
			return &RingError{"desc.next", uint64(i), uint64(q.size), "not below"}
		}
	}
}

// publishSplit writes the batch to the used ring and moves used.idx.
func (q *Queue) publishSplit(v *view) {
	for _, e := range q.batch {
		q.busy[e.head].Store(free)
		slot := uint32(q.used) & (q.size - 1)
		store32(v.used, ringElems+8*slot, uint32(e.head))
		store32(v.used, ringElems+8*slot+4, e.written)
		q.markUsed(v.mem.log, uint64(ringElems+8*slot), 8)
		q.used++
	}
	q.storeUsedIdx(v)
}

// storeUsedIdx stores the word {flags, idx}: both halves are the device's.
func (q *Queue) storeUsedIdx(v *view) {
	w := uint32(q.used) << 16
	if q.noNotify {
		w |= usedNoNotify
	}
	storeRel(v.used, ringFlags, w)
	q.markUsed(v.mem.log, ringFlags, 4)
}

// wantsCallSplit decides whether the driver wants to hear of used.idx = q.used.
func (q *Queue) wantsCallSplit(v *view) bool {
	if !q.cfg.EventIdx {
		return load16(v.avail, ringFlags)&availNoInterrupt == 0
	}
	event := load16(v.avail, q.usedEvent())
	call := !q.valid || needEvent(event, q.used, q.signalled)
	q.signalled, q.valid = q.used, true
	return call
}

// needEvent reports whether event lies in (old, new] - 1, modulo 2^16: moving an
// index from old to new passes the one that the peer asked to be told of.
func needEvent(event, new, old uint16) bool { return new-event-1 < new-old }

// idleSplit asks for a kick and reports whether something came in meanwhile.
func (q *Queue) idleSplit() (bool, error) {
	if q.cfg.EventIdx {
		store16(q.view.used, q.availEvent(), q.next)
		q.markUsed(q.view.mem.log, uint64(q.availEvent()), 2)
	} else {
		q.setNoNotify(false)
	}
	return q.loadAvail()
}

// setNoNotify sets or clears used.flags bit 0. The word is shared with used.idx.
func (q *Queue) setNoNotify(on bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.noNotify != on {
		q.noNotify = on
		q.storeUsedIdx(&q.view)
	}
}
