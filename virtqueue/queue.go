package virtqueue

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
)

// A Queue is the device's side of one ring.
type Queue struct {
	cfg  Config
	size uint32

	// Owned by the popping goroutine.
	pin      *Pin
	view     view
	next     uint16 // split: free-running; packed: slot
	wrap     bool   // packed: avail wrap counter
	seen     uint16 // split: last avail.idx loaded
	table    []byte // scratch for indirect tables that cannot be read in place
	tview    [][]byte
	resubmit []uint16 // chains found in flight after a reconnect, oldest first; packed: entries
	chain    []desc   // packed, tracked: scratch for the chain being taken

	busy        []atomic.Uint32     // by head: free, taken or pushed
	outstanding atomic.Int64        // popped and not yet published
	logUsed     atomic.Pointer[GPA] // log address of the used ring, nil: not logged

	mu         sync.Mutex
	pushPin    *Pin
	pushView   view
	batch      []usedElem // pushed, not published
	used       uint16     // split: free-running used.idx; packed: slot
	usedWrap   bool
	signalled  uint16 // used index at the last decision about a call
	valid      bool   // signalled means something
	noNotify   bool   // split without event index: used.flags bit 0
	uncalled   bool   // perhaps published since the last call was asked for
	broken     bool
	closed     bool
	chainLen   []uint16      // packed: ring slots per buffer id
	idleWaiter chan struct{} // closed when outstanding reaches 0
}

// States of a head. From pushed it goes back to free just before the driver can
// see the completion, so a batch never holds more than one per head.
const (
	free = iota
	taken
	pushed
)

// A usedElem is one completion on its way to the used ring.
type usedElem struct {
	head    uint16
	written uint32
}

// NewQueue checks the whole ring and returns it, popping nothing yet. The errors
// are RingError and AddrError.
func NewQueue(s *Space, cfg Config) (*Queue, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	q := &Queue{
		cfg:     cfg,
		size:    uint32(cfg.Size),
		busy:    make([]atomic.Uint32, cfg.Size),
		batch:   make([]usedElem, 0, cfg.Size),
		pin:     s.NewPin(),
		pushPin: s.NewPin(),
	}
	q.SetLogUsed(cfg.LogUsed, cfg.UsedGPA)
	if err := q.init(); err != nil {
		q.pin.Close()
		q.pushPin.Close()
		return nil, err
	}
	return q, nil
}

// init reads the start state out of the ring.
func (q *Queue) init() error {
	defer q.pin.Leave()
	v, err := q.cfg.resolve(q.pin.Enter())
	if err != nil {
		return err
	}
	q.view = v
	base := q.cfg.Base
	if q.cfg.Packed {
		q.chainLen = make([]uint16, q.size)
		q.next, q.wrap = uint16(base&0x7fff), base&0x8000 != 0
		q.used, q.usedWrap = uint16(base>>16&0x7fff), base>>31 != 0
		if uint32(q.next) >= q.size || uint32(q.used) >= q.size {
			return &RingError{"vring base", uint64(base), uint64(q.size), "index not below"}
		}
	} else {
		q.next = uint16(base)
		q.used = load16(v.used, 2)
	}
	q.seen = q.next
	if err := q.takeOver(); err != nil {
		return err
	}
	return q.recover()
}

// Size returns the number of ring entries. Heads are below it.
func (q *Queue) Size() int { return int(q.size) }

// Enter starts an epoch of the popping goroutine: Pop and Idle are called
// inside one. It fails with ErrNoRing, outside any epoch, when the ring is not in
// the current memory table.
func (q *Queue) Enter() error {
	m := q.pin.Enter()
	if m == q.view.mem {
		return nil
	}
	v, err := q.cfg.resolve(m)
	if err != nil {
		q.pin.Leave()
		q.view = view{}
		return fmt.Errorf("%w: %w", ErrNoRing, err)
	}
	q.view = v
	return nil
}

// Leave ends the epoch, before every wait.
func (q *Queue) Leave() { q.pin.Leave() }

// Pop takes the next chain into c and reports whether there was one. An error
// is fatal for the queue, and the chain it concerns stays in the ring; only
// ErrNoRing may heal, see Enter. A long drain picks up new memory tables here, so
// views of the chain before are dead. Pop does not allocate once c has grown.
func (q *Queue) Pop(c *Chain) (bool, error) {
	if q.pin.Stale() {
		q.pin.Leave()
		if err := q.Enter(); err != nil {
			return false, err
		}
	}
	if len(q.resubmit) != 0 {
		return q.popAgain(c)
	}
	if q.cfg.Packed {
		return q.popPacked(c)
	}
	return q.popSplit(c)
}

// popAgain is Pop for requests found in flight.
func (q *Queue) popAgain(c *Chain) (bool, error) {
	if q.cfg.Packed {
		return q.popAgainPacked(c)
	}
	return q.popAgainSplit(c)
}

// finish translates the walked chain and books it as taken.
func (q *Queue) finish(c *Chain) (err error) {
	if c.In, err = q.view.mem.Translate(c.In, c.Readable); err != nil {
		return err
	}
	if c.Out, err = q.view.mem.Translate(c.Out, c.Writable); err != nil {
		return err
	}
	if !q.busy[c.Head].CompareAndSwap(free, taken) {
		return &RingError{"head", uint64(c.Head), 0, "made available while in flight, in flight already"}
	}
	q.outstanding.Add(1)
	return nil
}

// indirect walks the indirect table that d points to.
func (q *Queue) indirect(c *Chain, d *desc) error {
	if !q.cfg.Indirect {
		return &RingError{"desc.flags", uint64(d.flags), DescIndirect, "not negotiated"}
	}
	if d.flags&DescNext != 0 {
		return &RingError{"desc.flags", uint64(d.flags), DescNext, "indirect with"}
	}
	n := d.len / 16
	if d.len%16 != 0 || n == 0 || n > uint32(q.cfg.MaxDescs) {
		return &RingError{"indirect desc.len", uint64(d.len), uint64(q.cfg.MaxDescs) * 16, "not a table of up to"}
	}
	table, err := q.indirectTable(d)
	if err != nil {
		return err
	}
	i := uint32(0)
	for steps := n; ; steps-- {
		if steps == 0 {
			return &RingError{"desc.next", uint64(i), uint64(n), "chain longer than its table of"}
		}
		var e desc
		if q.cfg.Packed {
			e = loadDescPacked(table, i)
		} else {
			e = loadDesc(table, i)
		}
		if e.flags&DescIndirect != 0 {
			return &RingError{"desc.flags", uint64(e.flags), DescIndirect, "nested"}
		}
		if err := c.add(&e, q.cfg.MaxBytes); err != nil {
			return err
		}
		switch {
		case q.cfg.Packed: // all entries, in order
			if i++; i == n {
				return nil
			}
		case e.flags&DescNext == 0:
			return nil
		default:
			if i = uint32(e.next); i >= n {
				return &RingError{"desc.next", uint64(i), uint64(n), "not below table size"}
			}
		}
	}
}

// indirectTable returns the table in place when its descriptors can be loaded
// atomically there, else a private copy.
func (q *Queue) indirectTable(d *desc) ([]byte, error) {
	if d.addr > math.MaxUint64-uint64(d.len) {
		return nil, &RingError{"indirect desc.addr", d.addr, uint64(d.len), "wraps around with length"}
	}
	views, err := q.view.mem.Translate(q.tview[:0], []Seg{{GPA(d.addr), d.len}})
	if err != nil {
		return nil, fmt.Errorf("indirect table: %w", err)
	}
	q.tview = views
	if len(views) == 1 && aligned(views[0], 8) {
		return views[0], nil
	}
	if q.table == nil {
		q.table = alignedBytes(16 * q.cfg.MaxDescs)
	}
	n := 0
	for _, v := range views {
		n += copy(q.table[n:], v)
	}
	return q.table[:n], nil
}

// Base returns where to go on later, as GET_VRING_BASE replies it. The popping
// goroutine must have ended.
func (q *Queue) Base() uint32 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.cfg.Packed {
		return uint32(q.next)
	}
	b := uint32(q.next) | uint32(q.used)<<16
	if q.wrap {
		b |= 1 << 15
	}
	if q.usedWrap {
		b |= 1 << 31
	}
	return b
}

// Outstanding returns the number of chains popped and not yet published.
func (q *Queue) Outstanding() int { return int(q.outstanding.Load()) }

// Drained returns a channel that is closed once nothing is outstanding. The
// popping goroutine must have ended.
func (q *Queue) Drained() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.idleWaiter == nil {
		q.idleWaiter = make(chan struct{})
		if q.outstanding.Load() == 0 {
			close(q.idleWaiter)
		}
	}
	return q.idleWaiter
}

// Break gives a ring up that can't be trusted: nothing is published from now on.
// Chains in flight still count as outstanding until they are pushed. Break may
// be called from any goroutine.
func (q *Queue) Break() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.broken || q.closed {
		return
	}
	q.broken = true
	q.retire(len(q.batch))
	q.batch = q.batch[:0]
}

// retire takes n chains off the outstanding ones. q.mu is held.
func (q *Queue) retire(n int) {
	if q.outstanding.Add(int64(-n)) != 0 || q.idleWaiter == nil {
		return
	}
	select {
	case <-q.idleWaiter:
	default:
		close(q.idleWaiter)
	}
}

// Close ends the queue: from now on Push and Flush do nothing and guest memory
// is not touched. The popping goroutine must have ended.
func (q *Queue) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.close()
}

// close is Close with q.mu held.
func (q *Queue) close() {
	if q.closed {
		return
	}
	q.closed = true
	q.pin.Leave()
	q.pin.Close()
	q.pushPin.Close()
}
