package virtqueue

// A split queue's part of the in-flight region (vhost-user, "Inflight I/O
// tracking"). Every field is an aligned word or half of one that only we write.
//
//	0          8       10       12              14       16
//	| features | vers. | number | last_batch_h. | used   | entry 0 ...
//	entry: | inflight u8, 5 pad, next u16 | counter u64 |
//
// A crash may come between any two stores. Taking a chain is one store: before
// it the chain is still in the available ring. Completing a batch is
//
//	link the batch | publish used.idx | clear the entries | used = used.idx
//	   not published: taken again     |  published: recover clears the rest
const (
	inflightVersion = 1

	infVersionNum = 8  // {version, desc_num}
	infLastUsed   = 12 // {last_batch_head, used_idx}
	infEntries    = 16
	infEntrySize  = 16
	infState      = 0 // {inflight, 0, 0, 0}
	infNext       = 4 // {0, next}
	infCounter    = 8
)

// entry returns the offset of head's entry.
func (f *Inflight) entry(head uint16) uint32 { return infEntries + infEntrySize*uint32(head) }

// take records that head was taken.
func (f *Inflight) take(head uint16) {
	e := f.entry(head)
	f.counter++
	store64Rel(f.mem, e+infCounter, f.counter)
	storeRel(f.mem, e+infState, 1)
}

// beforePublish links the batch, so that a crash between publishing and clearing
// can be told from one before.
func (f *Inflight) beforePublish(batch []usedElem) {
	w := load32(f.mem, infLastUsed)
	last, used := uint16(w), uint16(w>>16)
	for _, b := range batch {
		store32(f.mem, f.entry(b.head)+infNext, uint32(last)<<16)
		last = b.head
		storeRel(f.mem, infLastUsed, uint32(last)|uint32(used)<<16)
	}
}

// afterPublish clears the batch; used is the ring's used index.
func (f *Inflight) afterPublish(batch []usedElem, used uint16) {
	for _, b := range batch {
		storeRel(f.mem, f.entry(b.head)+infState, 0)
	}
	storeRel(f.mem, infLastUsed, load32(f.mem, infLastUsed)&0xffff|uint32(used)<<16)
}

// recoverSplit is recover for split rings.
func (q *Queue) recoverSplit() error {
	f := q.cfg.Inflight
	w := load32(f.mem, infVersionNum)
	if version := uint16(w); version == 0 {
		f.begin(q.size, q.used)
		return nil
	} else if version != inflightVersion || w>>16 != q.size {
		return &RingError{"inflight version and size", uint64(w), uint64(q.size), "not version 1 of"}
	}
	if err := f.clearPublished(q.size, q.used); err != nil {
		return err
	}
	q.resubmit = f.inOrder(q.size)
	q.uncalled = true // that life may have ended between the used ring and the call
	// The front-end's base is not to be trusted after a crash.
	q.next = q.used + uint16(len(q.resubmit))
	q.seen = q.next
	return nil
}

// begin initializes the region of a queue with size entries, nothing in flight.
func (f *Inflight) begin(size uint32, used uint16) {
	for h := range size {
		storeRel(f.mem, f.entry(uint16(h))+infState, 0)
	}
	storeRel(f.mem, infLastUsed, uint32(used)<<16)
	storeRel(f.mem, infVersionNum, inflightVersion|size<<16)
}

// clearPublished clears the entries of the last batch if that was published, up
// to used, and a crash kept them.
func (f *Inflight) clearPublished(size uint32, used uint16) error {
	w := load32(f.mem, infLastUsed)
	last, known := uint16(w), uint16(w>>16)
	n := used - known
	if uint32(n) > size {
		return &RingError{"inflight used_idx", uint64(known), uint64(used), "more than the ring size behind"}
	}
	for ; n > 0; n-- {
		if uint32(last) >= size {
			return &RingError{"inflight head", uint64(last), uint64(size), "not below"}
		}
		e := f.entry(last)
		storeRel(f.mem, e+infState, 0)
		last = uint16(load32(f.mem, e+infNext) >> 16)
	}
	storeRel(f.mem, infLastUsed, w&0xffff|uint32(used)<<16)
	return nil
}

// inOrder returns the heads in flight, oldest first.
func (f *Inflight) inOrder(size uint32) []uint16 {
	var found []aged
	for h := range size {
		e := f.entry(uint16(h))
		if load32(f.mem, e+infState)&0xff != 0 {
			found = append(found, aged{uint16(h), load64(f.mem, e+infCounter)})
		}
	}
	return f.sorted(found)
}

// popAgainSplit is popAgain for split rings.
func (q *Queue) popAgainSplit(c *Chain) (bool, error) {
	if err := q.walkSplit(c, q.resubmit[0]); err != nil {
		return false, err
	}
	if err := q.finish(c); err != nil {
		return false, err
	}
	q.resubmit = q.resubmit[1:]
	return true, nil
}
