package fusesrv

import (
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// statShards is how many sets of counters there are, so that workers on
	// different CPUs rarely share a cache line.
	statShards = 8
	// timeEvery is of how many requests one is timed, where not all are: reading
	// the clock twice would cost a tenth of a warm 4 KiB read.
	timeEvery = 32
)

// Stats count requests. The zero value is ready; it must not be copied.
type Stats struct {
	shards    [statShards]atomic.Pointer[shard]
	malformed atomic.Uint64 // requests without a whole header
	dropped   atomic.Uint64 // pending requests whose buffers went away

	// Observe is called for each request that ended, if it is set before the first:
	// from the serving goroutine, so it must be quick and must not allocate.
	Observe func(op Opcode, node uint64, e syscall.Errno, bytes int)
}

// Buckets of Totals: sizes and times are counted by the limits of nydusd's
// metrics.
const NumBuckets = 8

var (
	sizeLimits    = [NumBuckets - 1]uint64{1 << 10, 4 << 10, 16 << 10, 64 << 10, 128 << 10, 512 << 10, 1 << 20}
	latencyLimits = [NumBuckets - 1]uint64{201, 1001, 20_001, 50_001, 500_001, 1_000_001, 2_000_001} // µs
)

// Totals is what Stats have counted. Times are estimates where only some requests
// are timed.
type Totals struct {
	Hits, Errors  [NumOpcodes]uint64
	Latency       [NumOpcodes]time.Duration // summed
	BytesRead     uint64
	BytesWritten  uint64
	ReadSizes     [NumBuckets]uint64
	ReadLatencies [NumBuckets]uint64
	Malformed     uint64
	Dropped       uint64
}

// A shard is one set of counters.
type shard struct {
	hits, errors, nanos      [NumOpcodes]atomic.Uint64
	read, written            atomic.Uint64
	readSizes, readLatencies [NumBuckets]atomic.Uint64
}

// of returns a worker's shard.
func (st *Stats) of(w *Worker) *shard {
	p := &st.shards[w.shard]
	if s := p.Load(); s != nil {
		return s
	}
	p.CompareAndSwap(nil, new(shard))
	return p.Load()
}

// count books a request that ended in e.
func (st *Stats) count(w *Worker, r *Request, e syscall.Errno) {
	s, o := st.of(w), r.Header.Opcode
	if o >= NumOpcodes {
		o = 0
	}
	s.hits[o].Add(1)
	n := 0
	switch {
	case e != 0:
		s.errors[o].Add(1)
	case o == OpRead:
		n = w.reply.n
		s.read.Add(uint64(n))
		s.readSizes[bucket(uint64(n), &sizeLimits)].Add(1)
	case o == OpWrite:
		n = int(w.reply.Written)
		s.written.Add(uint64(n))
	}
	if !r.start.IsZero() {
		s.time(o, time.Since(r.start), w.weight(r))
	}
	if st.Observe != nil {
		st.Observe(r.Header.Opcode, r.Node, e, n)
	}
}

// weight is of how many requests r was timed for.
func (w *Worker) weight(r *Request) uint64 {
	if w.s.o.Track || r.task != nil {
		return 1
	}
	return timeEvery
}

func (s *shard) time(o Opcode, d time.Duration, weight uint64) {
	s.nanos[o].Add(uint64(max(0, d)) * weight)
	if o == OpRead {
		s.readLatencies[bucket(uint64(d.Microseconds()), &latencyLimits)].Add(weight)
	}
}

// Totals sums up what was counted.
func (st *Stats) Totals() Totals {
	t := Totals{Malformed: st.malformed.Load(), Dropped: st.dropped.Load()}
	for i := range st.shards {
		s := st.shards[i].Load()
		if s == nil {
			continue
		}
		for o := range t.Hits {
			t.Hits[o] += s.hits[o].Load()
			t.Errors[o] += s.errors[o].Load()
			t.Latency[o] += time.Duration(s.nanos[o].Load())
		}
		t.BytesRead += s.read.Load()
		t.BytesWritten += s.written.Load()
		for b := range t.ReadSizes {
			t.ReadSizes[b] += s.readSizes[b].Load()
			t.ReadLatencies[b] += s.readLatencies[b].Load()
		}
	}
	return t
}

func bucket(n uint64, below *[NumBuckets - 1]uint64) int {
	for i, b := range below {
		if n < b {
			return i
		}
	}
	return NumBuckets - 1
}
