package virtqueue

// Push queues the completion of the chain at head: written is the number of
// bytes stored at the beginning of its writable buffers, which are given again
// for the dirty log (they may be nil when written is 0). The driver sees it at
// the next Flush. Push may be called from any goroutine, in any order, inside or
// outside an epoch; it does not touch the ring. After Close, and for a head that
// is not in flight, it does nothing.
func (q *Queue) Push(head uint16, writable []Seg, written uint32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || uint32(head) >= q.size || !q.busy[head].CompareAndSwap(taken, pushed) {
		return
	}
	if q.broken {
		q.retire(1)
		return
	}
	if q.pushPin.space.cur.Load().log != nil && written != 0 {
		if l := q.pushPin.Enter().log; l != nil {
			l.markSegs(writable, uint64(written))
		}
		q.pushPin.Leave()
	}
	q.batch = append(q.batch, usedElem{head, written})
}

// MarkDirty marks the first n bytes of segs in the dirty log, for a device that
// wrote more than it reports to Push. It does nothing when no log is active.
func (q *Queue) MarkDirty(segs []Seg, n uint64) {
	if q.pushPin.space.cur.Load().log == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	defer q.pushPin.Leave()
	if l := q.pushPin.Enter().log; l != nil {
		l.markSegs(segs, n)
	}
}

// Flush publishes everything pushed and reports whether the driver wants a
// call. It may be called from any goroutine. While the ring is not in the memory
// table, completions are kept for a later Flush.
func (q *Queue) Flush() (call bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.flush()
}

// flush is Flush with q.mu held.
func (q *Queue) flush() (call bool) {
	if len(q.batch) == 0 || q.closed {
		return false
	}
	defer q.pushPin.Leave()
	v := &q.pushView
	if m := q.pushPin.Enter(); m != v.mem {
		nv, err := q.cfg.resolve(m)
		if err != nil {
			q.pushView = view{}
			return false
		}
		*v = nv
	}
	if q.cfg.Packed {
		q.flushPacked(v)
		call = q.wantsCallPacked(v)
	} else {
		q.flushSplit(v)
		call = q.wantsCallSplit(v)
	}
	q.uncalled = !call
	q.retire(len(q.batch))
	q.batch = q.batch[:0]
	return call
}

// flushSplit publishes the batch, and records it.
func (q *Queue) flushSplit(v *view) {
	f := q.cfg.Inflight
	if f == nil {
		q.publishSplit(v)
		return
	}
	f.beforePublish(q.batch)
	q.publishSplit(v)
	f.afterPublish(q.batch, q.used)
}

// flushPacked is flushSplit for packed rings.
func (q *Queue) flushPacked(v *view) {
	f := q.cfg.Inflight
	if f == nil {
		q.publishPacked(v)
		return
	}
	slots := q.batchSlots()
	f.beforePublishPacked(q.batch, q.usedPos(), q.usedPos().add(slots, q.size))
	q.publishPacked(v)
	f.afterPublishPacked(q.batch, slots, q.usedPos())
}

// batchSlots returns how many ring entries the batch's chains take: with tracking
// at most all of them.
func (q *Queue) batchSlots() (n uint32) {
	for _, b := range q.batch {
		n += uint32(q.chainLen[b.head])
	}
	return n
}

// Idle is called in the epoch when Pop found nothing, before waiting for a kick:
// it asks the driver for one, and reports whether a chain came in meanwhile, in
// which case there is no need to wait.
func (q *Queue) Idle() (more bool, err error) {
	if q.view.mem == nil {
		return false, nil
	}
	if q.cfg.Packed {
		return q.idlePacked()
	}
	return q.idleSplit()
}

// Busy is called in the epoch after a kick: it tells the driver that kicks are
// not needed for now. With the split ring's event index that is so anyway.
func (q *Queue) Busy() {
	switch {
	case q.view.mem == nil:
	case q.cfg.Packed:
		q.busyPacked()
	case !q.cfg.EventIdx:
		q.setNoNotify(true)
	}
}

// CallReplaced is called when the queue starts and when the front-end gave a new
// call descriptor. It reports whether to signal that at once, since completions
// were published, perhaps by a former life, since the last call was asked for.
func (q *Queue) CallReplaced() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.valid = false
	return q.uncalled
}

// SetLogUsed changes whether and where the used ring is marked in the dirty log.
// It may be called while the queue runs.
func (q *Queue) SetLogUsed(on bool, used GPA) {
	if !on {
		q.logUsed.Store(nil)
		return
	}
	q.logUsed.Store(&used)
}

// markUsed marks n bytes at off of the used ring.
func (q *Queue) markUsed(l *DirtyLog, off, n uint64) {
	if l == nil {
		return
	}
	if base := q.logUsed.Load(); base != nil {
		l.Mark(*base+GPA(off), n)
	}
}
