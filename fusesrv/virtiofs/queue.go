package virtiofs

import (
	"context"
	"sync"
	"sync/atomic"

	"vrafs/fusesrv"
	"vrafs/vhostuser"
	"vrafs/virtqueue"
)

// A queue serves one ring from its start until its stop.
type queue struct {
	d      *Device
	v      *vhostuser.Vring
	w      *fusesrv.Worker // of the ring's goroutine
	spare  *slot           // for the next request, of the ring's goroutine
	ctx    context.Context // ends the waits of the ring's requests
	cancel context.CancelFunc

	once atomic.Int32 // requests kept that are no reads

	mu   sync.Mutex
	free []*slot
}

// A slot is a request with where its buffers are.
type slot struct {
	req     fusesrv.Request
	q       *queue
	head    uint16
	in, out []virtqueue.Seg
	bytes   int64 // of both
}

func newQueue(d *Device, v *vhostuser.Vring) *queue {
	q := &queue{d: d, v: v, w: d.s.NewWorker()}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	q.spare = &slot{q: q}
	return q
}

// Handle serves a chain, or keeps it for a worker.
func (q *queue) Handle(c *virtqueue.Chain) {
	s := q.spare
	n, pending := q.d.s.Handle(q.w, &s.req, c.In, c.Out)
	if !pending {
		q.v.Push(c.Head, c.Writable, uint32(n))
		return
	}
	s.head = c.Head
	s.in = append(s.in[:0], c.Readable...)
	s.out = append(s.out[:0], c.Writable...)
	s.bytes = int64(c.ReadableBytes + c.WritableBytes)
	q.spare = q.take()
	if !s.repeatable() {
		q.once.Add(1)
	}
	q.d.pool.submit(s)
}

// repeatable reports whether a request may be served twice, as long as it is answered
// once.
func (s *slot) repeatable() bool { return s.req.Header.Opcode == fusesrv.OpRead }

// Unrepeatable counts the requests that may be served once only.
func (q *queue) Unrepeatable() int { return int(q.once.Load()) }

// take returns a slot that is not in use. There are never more than requests of
// the ring wait, and one.
func (q *queue) take() *slot {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.free); n > 0 {
		s := q.free[n-1]
		q.free = q.free[:n-1]
		return s
	}
	return &slot{q: q}
}

// complete gives the chain back to the driver, and the slot to the queue.
func (q *queue) complete(s *slot, n int) {
	once := !s.repeatable()
	q.v.Complete(s.head, s.out, uint32(n))
	if once {
		q.once.Add(-1)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free = append(q.free, s)
}

// Abort ends the waits of all kept chains.
func (q *queue) Abort() {
	q.cancel()
	q.d.pool.rush(q)
}

// Close ends the waits, too: their chains are not the guest's any more.
func (q *queue) Close() {
	q.Abort()
	q.w.Close()
}
