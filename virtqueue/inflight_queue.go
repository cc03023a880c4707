package virtqueue

import (
	"cmp"
	"slices"
)

// A split queue's part of the in-flight region (vhost-user, "Inflight I/O
// tracking"). Every field is an aligned word or half of one that only we write.
//
//	0          8       10       12              14       16
//	| features | vers. | number | last_batch_h. | used   | entry 0 ...
//	entry: | inflight u8, 5 pad, next u16 | counter u64 |
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

// takeSplit records that head was taken.
func (f *Inflight) takeSplit(head uint16) {
	e := f.entry(head)
	store64Rel(f.mem, e+infCounter, f.counter.Add(1))
	storeRel(f.mem, e+infState, 1)
}

// beforePublish links the batch, so that a crash between publishing and clearing
// can be told from one before.
func (f *Inflight) beforePublish(batch []usedElem) {
	if f.packed {
		f.beforePublishPacked(batch)
		return
	}
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
	if f.packed {
		f.afterPublishPacked(batch, used)
		return
	}
	for _, b := range batch {
		storeRel(f.mem, f.entry(b.head)+infState, 0)
	}
	storeRel(f.mem, infLastUsed, load32(f.mem, infLastUsed)&0xffff|uint32(used)<<16)
}

// recover finds what a former life of this process left in flight and prepares
// to take it again, in its order, before anything new.
func (q *Queue) recover(v *view) error {
	f := q.cfg.Inflight
	if f == nil {
		return nil
	}
	if f.packed != q.cfg.Packed {
		return &RingError{"inflight region", 0, 0, "made for the other kind of ring"}
	}
	if f.packed {
		return q.recoverPacked(v)
	}
	w := load32(f.mem, infVersionNum)
	if version := uint16(w); version == 0 {
		storeRel(f.mem, infLastUsed, uint32(q.used)<<16)
		storeRel(f.mem, infVersionNum, inflightVersion|q.size<<16)
		return nil
	} else if version != inflightVersion || w>>16 != q.size {
		return &RingError{"inflight version and size", uint64(w), uint64(q.size), "not version 1 of"}
	}
	lu := load32(f.mem, infLastUsed)
	last, used := uint16(lu), uint16(lu>>16)
	// The last batch was published and not cleared.
	if n := q.used - used; uint32(n) > q.size {
		return &RingError{"inflight used_idx", uint64(used), uint64(q.used), "more than the ring size behind"}
	} else if n != 0 {
		for ; n > 0; n-- {
			if uint32(last) >= q.size {
				return &RingError{"inflight head", uint64(last), uint64(q.size), "not below"}
			}
			e := f.entry(last)
			storeRel(f.mem, e+infState, 0)
			last = uint16(load32(f.mem, e+infNext) >> 16)
		}
		storeRel(f.mem, infLastUsed, lu&0xffff|uint32(q.used)<<16)
	}
	type taken struct {
		head    uint16
		counter uint64
	}
	var again []taken
	for h := range q.size {
		e := f.entry(uint16(h))
		if load32(f.mem, e+infState)&0xff != 0 {
			again = append(again, taken{uint16(h), load64(f.mem, e+infCounter)})
		}
	}
	slices.SortFunc(again, func(a, b taken) int { return cmp.Compare(a.counter, b.counter) })
	for _, t := range again {
		q.resubmit = append(q.resubmit, t.head)
		f.counter.Store(max(f.counter.Load(), t.counter))
	}
	// The front-end's base is not to be trusted after a crash.
	q.next = q.used + uint16(len(again))
	q.seen = q.next
	return nil
}

// popAgain is Pop for requests found in flight.
func (q *Queue) popAgain(c *Chain) (bool, error) {
	head := q.resubmit[0]
	if q.cfg.Packed {
		if err := q.walkInflight(c, head); err != nil {
			return false, err
		}
	} else if err := q.walkSplit(c, head); err != nil {
		return false, err
	}
	if err := q.finish(c); err != nil {
		return false, err
	}
	q.resubmit = q.resubmit[1:]
	return true, nil
}
