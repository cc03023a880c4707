package vhostusertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/vhostuser"
	"vrafs/virtqueue"
	"vrafs/virtqueue/virtqueuetest"
)

// ErrNoCompletion is returned when the back-end gave nothing back in time.
var ErrNoCompletion = errors.New("no completion from the back-end")

// A Ring is the driver's side of one ring with its event descriptors.
type Ring struct {
	// Driver adds chains and takes completions. Kick and Wait do the notifications.
	Driver *virtqueuetest.Driver

	g               *Guest
	index           int
	kick, call, err int
	// Patience is how long Wait waits; it starts at 30 s.
	Patience time.Duration
}

func newRing(g *Guest, index int) (*Ring, error) {
	cfg := g.cfg
	d, err := virtqueuetest.New(g.arena, virtqueuetest.Config{Size: cfg.QueueSize, Packed: cfg.Packed,
		EventIdx: cfg.EventIdx, Indirect: cfg.Indirect, Base: cfg.Base})
	if err != nil {
		return nil, err
	}
	r := &Ring{Driver: d, g: g, index: index, kick: -1, call: -1, err: -1, Patience: patience}
	for _, fd := range []*int{&r.kick, &r.call, &r.err} {
		if *fd, err = newEventFD(cfg.BlockingFDs); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Index returns the ring's number.
func (r *Ring) Index() int { return r.index }

// CallFD returns the eventfd by which the back-end calls, ErrFD the one by which
// it tells that the ring is broken, and KickFD the one that it waits for.
func (r *Ring) CallFD() int { return r.call }

// ErrFD returns the ring's error descriptor, see CallFD.
func (r *Ring) ErrFD() int { return r.err }

// KickFD returns the ring's kick descriptor, see CallFD.
func (r *Ring) KickFD() int { return r.kick }

// Kick publishes what was added and kicks the back-end if it wants that.
func (r *Ring) Kick() error {
	if !r.Driver.Publish() {
		return nil
	}
	return Signal(r.kick)
}

// Signal adds one to an eventfd.
func Signal(fd int) error {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	if _, err := unix.Write(fd, one[:]); err != nil && err != unix.EAGAIN {
		return fmt.Errorf("eventfd: %w", err)
	}
	return nil
}

// Wait returns the next completion, sleeping until the back-end calls. It fails
// with ErrNoCompletion after Patience; if a completion was there without a call,
// the error says so.
func (r *Ring) Wait() (virtqueuetest.Completion, error) {
	var deadline time.Time
	c, ok, err := r.Driver.Poll()
	for ; !ok && err == nil; c, ok, err = r.Driver.Poll() {
		if r.Driver.WantCall() {
			continue
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(r.Patience)
		}
		if !Readable(r.call, time.Until(deadline)) {
			if _, ok, _ := r.Driver.Poll(); ok {
				return c, fmt.Errorf("%w: ring %d: completed without a call", ErrBackEnd, r.index)
			}
			return c, fmt.Errorf("ring %d: %w with %d chains in flight", r.index, ErrNoCompletion, r.Driver.InFlight())
		}
		var b [8]byte
		_, _ = unix.Read(r.call, b[:]) // readable: at worst another reader was first
	}
	return c, err
}

// Readable waits until fd has something to read, at most d.
func Readable(fd int, d time.Duration) bool {
	for deadline := time.Now().Add(d); ; {
		p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		ts := unix.NsecToTimespec(int64(max(0, time.Until(deadline))))
		n, err := unix.Ppoll(p[:], &ts, nil)
		if err != unix.EINTR {
			return n == 1 && p[0].Revents&unix.POLLIN != 0
		}
	}
}

func (r *Ring) sendNum(c *Conn) error {
	return c.Call(vhostuser.SetVringNum, State(r.index, uint32(r.g.cfg.QueueSize)))
}

func (r *Ring) sendBase(c *Conn) error {
	return c.Call(vhostuser.SetVringBase, State(r.index, r.g.base[r.index]))
}

// AddrBytes is the ring's SET_VRING_ADDR payload.
func (r *Ring) AddrBytes() []byte {
	var flags uint32
	if r.g.log != nil {
		flags = 1
	}
	desc, avail, used := r.Driver.Layout()
	return Addr(r.index, flags, desc, used, avail, virtqueue.GPA(r.Driver.UsedGPA()))
}

func (r *Ring) sendAddr(c *Conn) error { return c.Call(vhostuser.SetVringAddr, r.AddrBytes()) }

func (r *Ring) sendKick(c *Conn) error {
	return c.setVringFD(vhostuser.SetVringKick, r.index, r.kick)
}

func (r *Ring) sendCall(c *Conn) error {
	return c.setVringFD(vhostuser.SetVringCall, r.index, r.call)
}
