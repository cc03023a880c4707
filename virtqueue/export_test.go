package virtqueue

// A CrashPoint is where FlushUntil stops: the stores before it were made.
type CrashPoint int

// The steps of a Flush with an in-flight region.
const (
	CrashLinked    CrashPoint = iota // n of the batch linked
	CrashPublished                   // and used.idx published
	CrashCleared                     // and n entries cleared
	CrashDone                        // and used_idx stored
)

// FlushUntil does what Flush does to memory up to a crash, and abandons q.
func (q *Queue) FlushUntil(at CrashPoint, n int) error {
	v, err := q.cfg.resolve(q.pin.space.Memory())
	if err != nil {
		return err
	}
	f := q.cfg.Inflight
	n = min(n, len(q.batch))
	if at == CrashLinked {
		f.beforePublish(q.batch[:n])
		return nil
	}
	f.beforePublish(q.batch)
	q.publishSplit(&v)
	switch at {
	case CrashCleared:
		for _, b := range q.batch[:n] {
			storeRel(f.mem, f.entry(b.head)+infState, 0)
		}
	case CrashDone:
		f.afterPublish(q.batch, q.used)
	}
	return nil
}

// HeapInflight returns an in-flight part of Go memory for a queue of size.
func HeapInflight(size int) *Inflight {
	return &Inflight{mem: alignedBytes(int(InflightSize(size)))}
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
