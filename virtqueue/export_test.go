package virtqueue

// A CrashPoint is where FlushUntil stops: the stores before it were made.
type CrashPoint int

// The steps of a Flush with an in-flight region.
const (
	CrashLinked    CrashPoint = iota // n of the batch linked
	CrashIndexed                     // packed: and the new indices stored
	CrashWritten                     // packed: and all of the batch but the first published
	CrashPublished                   // and the batch published
	CrashCleared                     // and n entries cleared
	CrashHalfDone                    // packed: and old_free_head stored
	CrashDone                        // and the old indices stored
)

// FlushUntil does what Flush does to memory up to a crash, and abandons q.
func (q *Queue) FlushUntil(at CrashPoint, n int) error {
	v, err := q.cfg.resolve(q.pin.space.Memory())
	if err != nil {
		return err
	}
	n = min(n, len(q.batch))
	if q.cfg.Packed {
		q.flushPackedUntil(&v, at, n)
	} else {
		q.flushSplitUntil(&v, at, n)
	}
	return nil
}

func (q *Queue) flushSplitUntil(v *view, at CrashPoint, n int) {
	f := q.cfg.Inflight
	if at < CrashPublished {
		f.beforePublish(q.batch[:n])
		return
	}
	f.beforePublish(q.batch)
	q.publishSplit(v)
	switch at {
	case CrashCleared:
		for _, b := range q.batch[:n] {
			storeRel(f.mem, f.entry(b.head)+infState, 0)
		}
	case CrashDone:
		f.afterPublish(q.batch, q.used)
	}
}

func (q *Queue) flushPackedUntil(v *view, at CrashPoint, n int) {
	f, slots, used := q.cfg.Inflight, q.batchSlots(), q.usedPos()
	if at == CrashLinked {
		f.beforePublishPacked(q.batch[:n], used, used.add(slots, q.size))
		f.setUsed(used, used)
		return
	}
	f.beforePublishPacked(q.batch, used, used.add(slots, q.size))
	if at == CrashIndexed {
		return
	}
	word := uint32(used.slot)*16 + 12
	before := load32(v.desc, word)
	q.publishPacked(v)
	switch at {
	case CrashWritten:
		storeRel(v.desc, word, before)
	case CrashCleared:
		for _, b := range q.batch[:n] {
			f.setState(f.runs[b.head].first, 0)
		}
	case CrashHalfDone, CrashDone:
		f.afterPublishPacked(q.batch, slots, q.usedPos())
		if at == CrashHalfDone {
			f.setUsed(q.usedPos(), used)
		}
	}
}

// TakeUntil takes the next chain up to the store that books it, and abandons q.
func (q *Queue) TakeUntil(c *Chain) (bool, error) {
	f := q.cfg.Inflight
	free := f.free
	ok, err := q.Pop(c)
	f.setFree(free, free)
	return ok, err
}

// HeapInflight returns an in-flight part of Go memory for a queue of size.
func HeapInflight(size int, packed bool) *Inflight {
	return &Inflight{mem: alignedBytes(int(InflightSize(size, packed)))}
}

// Again returns the part as a new process finds it.
func (f *Inflight) Again() *Inflight { return &Inflight{mem: f.mem} }

// Bytes returns the part's memory.
func (f *Inflight) Bytes() []byte { return f.mem }

// Store16 and Load16 are the ring accessors that the litmus test checks.
func Store16(b []byte, off uint32, v uint16) { store16(b, off, v) }
func Load16(b []byte, off uint32) uint16     { return load16(b, off) }
func StoreRel(b []byte, off, v uint32)       { storeRel(b, off, v) }
func AlignedBytes(n int) []byte              { return alignedBytes(n) }
