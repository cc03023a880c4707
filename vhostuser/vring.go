package vhostuser

import (
	"errors"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/turn"
	"vrafs/virtqueue"
)

const (
	// A drain publishes what it has completed after so many chains or bytes, so
	// that the driver does not wait for the end of a long one.
	flushChains = 32
	flushBytes  = 1 << 20

	// pollInterval is how often a ring without kick descriptor is looked at.
	pollInterval = 200 * time.Microsecond

	// hangupWait is how long the end of a connection waits for requests, and
	// cancelWait that of the process for those that were told to abort.
	hangupWait = 20 * time.Millisecond
	cancelWait = 100 * time.Millisecond
)

// A Vring is one ring from its start to its stop. Push, Flush and Complete stay
// harmless after that, so that a worker may come late.
type Vring struct {
	ring    *ring
	space   *virtqueue.Space
	q       *virtqueue.Queue
	handler QueueHandler
	stats   *Stats
	log     *limiter

	mu       sync.Mutex // held to close the ring and to break it
	wake     int        // eventfd: stopping was set, or the memory table changed
	stopping atomic.Bool
	calling  atomic.Int32  // how many are between publishing and calling
	done     chan struct{} // the goroutine's end; nil when it does not run
	broken   atomic.Bool
	closed   atomic.Bool

	chain    virtqueue.Chain // the goroutine's
	handling bool            // chain is with the handler
	counter  counter         // the goroutine's
	turn     turn.Turn       // the goroutine's
}

// newVring returns a ring over q, without a goroutine yet.
func newVring(s *session, r *ring, q *virtqueue.Queue) (*Vring, error) {
	wake, err := newEventFD()
	if err != nil {
		return nil, err
	}
	return &Vring{ring: r, space: s.space, q: q, stats: s.o.Stats, log: &s.log, wake: wake, counter: newCounter()}, nil
}

// Index returns the ring's number; for virtio-fs 0 is the hiprio queue.
func (v *Vring) Index() int { return v.ring.index }

// Size returns the number of ring entries: heads are below it.
func (v *Vring) Size() int { return v.q.Size() }

// Space returns the device's guest memory. A worker makes itself a Pin there.
func (v *Vring) Space() *virtqueue.Space { return v.space }

// ErrStopped is returned by Enter for a ring that has stopped: guest memory is
// the guest's own again.
var ErrStopped = errors.New("ring has stopped")

// Enter is p.Enter for a worker that serves a chain of this ring. Once the ring
// has stopped without waiting for that chain, it fails with ErrStopped, outside
// any epoch, and the chain must not be written to.
func (v *Vring) Enter(p *virtqueue.Pin) (*virtqueue.Memory, error) {
	m := p.Enter()
	if v.closed.Load() {
		p.Leave()
		return nil, ErrStopped
	}
	return m, nil
}

// Push completes the chain at head, see virtqueue.Queue.Push; the driver sees it
// when the ring's goroutine has drained the ring, or at Flush.
func (v *Vring) Push(head uint16, writable []virtqueue.Seg, written uint32) {
	v.q.Push(head, writable, written)
}

// MarkDirty marks guest memory that was written without being reported to Push.
func (v *Vring) MarkDirty(segs []virtqueue.Seg, n uint64) { v.q.MarkDirty(segs, n) }

// Flush publishes what was pushed and calls the driver if it wants that.
func (v *Vring) Flush() {
	v.calling.Add(1)
	defer v.calling.Add(-1)
	if v.q.Flush() {
		v.stats.Calls.Add(1)
		v.ring.signalCall()
	}
}

// Fault is for the recover at the top of a worker that serves chains of this
// ring: r is what it recovered. The ring is broken then, as it is when its own
// goroutine faults. The worker still has to push its chain.
func (v *Vring) Fault(r any) { v.fail(caught(r)) }

// Complete is Push and Flush: how a worker completes a chain. It may be called
// from any goroutine that is prepared for faults (see package virtqueue),
// outside epochs.
func (v *Vring) Complete(head uint16, writable []virtqueue.Seg, written uint32) {
	v.Push(head, writable, written)
	v.Flush()
}

// start starts the goroutine unless it runs or the ring is broken.
func (v *Vring) start() {
	if v.done != nil || v.broken.Load() {
		return
	}
	v.stopping.Store(false)
	v.done = make(chan struct{})
	go v.serve(v.ring.kick, v.done)
}

// halt ends the goroutine.
func (v *Vring) halt() {
	if v.done == nil {
		return
	}
	v.stopping.Store(true)
	signal(v.wake, true)
	<-v.done
	v.done = nil
}

// drain waits until everything taken is completed and published, and returns how
// much was given up. The goroutine has ended. With an in-flight region a
// front-end that hung up finds unfinished requests there when it comes back, so
// they are not answered with errors. Once the session is cancelled all waits are
// short.
func (v *Vring) drain(o Options, hangup, tracked bool, cancelled <-chan struct{}) (lost int) {
	grace, abort := o.StopGrace, o.AbortWait
	if hangup {
		grace = min(grace, hangupWait)
	}
	drained := v.q.Drained()
	if waitFor(drained, grace, cancelled) || hangup && tracked {
		return 0
	}
	v.handler.Abort()
	if waitFor(drained, abort, cancelled) || waitFor(drained, cancelWait, nil) {
		return 0
	}
	return v.q.Outstanding()
}

// waitFor waits for c, at most d and until cancelled, and reports whether it came.
func waitFor(c <-chan struct{}, d time.Duration, cancelled <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
		return true
	case <-t.C:
	case <-cancelled:
	}
	return false
}

// close frees the ring. The goroutine has ended.
func (v *Vring) close() {
	v.q.Close()
	v.handler.Close()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed.Store(true)
	closeFD(v.wake)
}

// serve is the ring's goroutine.
func (v *Vring) serve(kick int, done chan struct{}) {
	debug.SetPanicOnFault(true)
	defer close(done)
	defer func() {
		if r := recover(); r != nil {
			v.q.Leave()
			v.fail(caught(r))
			if v.handling {
				v.handling = false
				v.Push(v.chain.Head, nil, 0) // nobody else will
			}
		}
	}()
	if err := v.loop(kick); err != nil {
		v.fail(err)
	}
}

// fail marks the ring broken: it is not served again until it was stopped.
func (v *Vring) fail(err error) {
	v.q.Break()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed.Load() || v.broken.Swap(true) {
		return
	}
	signal(v.wake, true)
	v.stats.BrokenRings.Add(1)
	if errors.Is(err, errFault) {
		v.stats.Faults.Add(1)
	}
	v.log.warn("broken ring", "ring", v.ring.index, "err", err)
	v.ring.signalErr()
}

// loop serves until the ring is to stop (nil) or is broken.
func (v *Vring) loop(kick int) error {
	for !v.stopping.Load() && !v.broken.Load() {
		err := v.q.Enter()
		if err == nil {
			v.Flush() // what was completed while the ring was not mapped
			err = v.drainRing(&v.chain)
			v.q.Leave()
		}
		if err != nil && !errors.Is(err, virtqueue.ErrNoRing) {
			return err
		}
		if v.stopping.Load() {
			break
		}
		if kick, err = v.wait(kick); err != nil {
			return err
		}
	}
	return nil
}

// drainRing serves chains until there are none, kicks asked for. It runs inside
// an epoch and ends in one, but on ErrNoRing.
func (v *Vring) drainRing(c *virtqueue.Chain) error {
	v.q.Busy()
	chains, bytes := 0, uint64(0)
	for !v.stopping.Load() {
		ok, err := v.q.Pop(c)
		if err != nil {
			v.Flush()
			return err
		}
		if ok {
			v.handling = true
			v.handler.Handle(c)
			v.handling = false
			v.turn.Step()
			chains++
			if bytes += c.WritableBytes + c.ReadableBytes; chains >= flushChains || bytes >= flushBytes {
				v.Flush()
				chains, bytes = 0, 0
			}
			continue
		}
		v.Flush()
		more, err := v.q.Idle()
		if !more {
			return err
		}
		v.q.Busy()
	}
	v.Flush()
	return nil
}

// wait blocks until a kick or a wake. It returns the kick descriptor to use from
// now on: -1 once that broke.
func (v *Vring) wait(kick int) (int, error) {
	p := [2]unix.PollFd{{Fd: int32(v.wake), Events: unix.POLLIN}, {Fd: int32(kick), Events: unix.POLLIN}}
	var timeout *unix.Timespec
	if kick < 0 { // ignored by ppoll
		t := unix.NsecToTimespec(int64(pollInterval))
		timeout = &t
	}
	for {
		_, err := unix.Ppoll(p[:], timeout, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return kick, err
		}
		if p[0].Revents != 0 {
			v.counter.drain(v.wake)
		}
		switch {
		case p[1].Revents&unix.POLLIN != 0 && v.counter.drain(kick):
			v.stats.Kicks.Add(1)
		case p[1].Revents != 0: // in error, or no eventfd: nothing will come
			kick = -1
		}
		return kick, nil
	}
}
