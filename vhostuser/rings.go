package vhostuser

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"sync"

	"vrafs/virtqueue"
)

// A ring is what the front-end has set up of one ring.
//
//	         SET_VRING_KICK, ADDR, NUM          GET_VRING_BASE
//	stopped ---------------------------> started -------------> stopped
//	disabled <--- SET_VRING_ENABLE ---> enabled
//
// A Vring exists (run) once the ring was started and enabled; its goroutine runs
// while it is.
type ring struct {
	index             int
	num               int
	desc, avail, used virtqueue.UVA
	logUsed           bool
	usedGPA           virtqueue.GPA
	haveAddr          bool
	base              uint32
	kick              int // -1 with kickSet: poll the ring
	kickSet           bool
	enabled           bool
	stopped           bool     // in order, on this connection, since the in-flight region came
	taken             []uint16 // by a former life, for the next start; see virtqueue.Queue.Freeze
	run               *Vring

	mu           sync.Mutex // guards the descriptors below
	callFD       int
	callNonblock bool
	uncalled     bool // a call was due while there was no descriptor
	errFD        int
	errNonblock  bool
}

func newRing(i int) *ring { return &ring{index: i, kick: -1, callFD: -1, errFD: -1} }

// ringAt returns ring i of a message.
func (s *session) ringAt(i uint64) (*ring, error) {
	if i >= uint64(len(s.rings)) {
		return nil, fmt.Errorf("%w: ring %d of %d", errRefused, i, len(s.rings))
	}
	return s.rings[i], nil
}

func (s *session) setVringNum(m *message) error {
	r, err := s.ringAt(uint64(u32(m.payload, 0)))
	if err != nil {
		return err
	}
	n := u32(m.payload, 4)
	if n == 0 || n > uint32(s.o.MaxQueueSize) || s.features&FeatureRingPacked == 0 && bits.OnesCount32(n) != 1 {
		return fmt.Errorf("%w: ring size %d", errRefused, n)
	}
	if r.run != nil && r.num != int(n) {
		return fmt.Errorf("%w: ring %d: %w", errRefused, r.index, errNotStopped)
	}
	r.num = int(n)
	return nil
}

// setVringAddr may come for a running ring, to switch its log flag.
func (s *session) setVringAddr(m *message) error {
	r, err := s.ringAt(uint64(u32(m.payload, 0)))
	if err != nil {
		return err
	}
	const flagLog = 1
	desc, used := virtqueue.UVA(u64(m.payload, 8)), virtqueue.UVA(u64(m.payload, 16))
	avail, log := virtqueue.UVA(u64(m.payload, 24)), virtqueue.GPA(u64(m.payload, 32))
	if r.run != nil && (desc != r.desc || used != r.used || avail != r.avail) {
		return fmt.Errorf("%w: ring %d: %w", errRefused, r.index, errNotStopped)
	}
	r.desc, r.used, r.avail, r.usedGPA = desc, used, avail, log
	r.logUsed, r.haveAddr = u32(m.payload, 4)&flagLog != 0, true
	if r.run != nil {
		r.run.q.SetLogUsed(r.logUsed, r.usedGPA)
		return nil
	}
	return s.start(r)
}

func (s *session) setVringBase(m *message) error {
	r, err := s.ringAt(uint64(u32(m.payload, 0)))
	if err != nil {
		return err
	}
	if r.run != nil {
		return fmt.Errorf("%w: ring %d: %w", errRefused, r.index, errNotStopped)
	}
	base := u32(m.payload, 4)
	if s.features&FeatureRingPacked == 0 && base > math.MaxUint16 {
		return fmt.Errorf("%w: base %#x of a split ring", errRefused, base)
	}
	r.base, r.taken = base, nil
	return nil
}

// getVringBase stops the ring.
func (s *session) getVringBase(m *message) error {
	r, err := s.ringAt(uint64(u32(m.payload, 0)))
	if err != nil {
		return err
	}
	s.stop(r, false)
	r.closeFDs()
	m.reply = make([]byte, 8)
	putU32(m.reply, 0, uint32(r.index))
	putU32(m.reply, 4, r.base)
	return nil
}

// vringFD decodes a SET_VRING_KICK, CALL or ERR message. The descriptor, -1 for
// none, is the caller's.
func (s *session) vringFD(m *message) (r *ring, fd int, nonblock bool, err error) {
	v := u64(m.payload, 0)
	if r, err = s.ringAt(v & 0xff); err != nil {
		return nil, -1, false, err
	}
	if v&^(0xff|vringNoFD) != 0 || (v&vringNoFD != 0) == (len(m.fds) == 1) {
		return nil, -1, false, fmt.Errorf("%w: %#x with %d descriptors", errRefused, v, len(m.fds))
	}
	if len(m.fds) == 0 {
		return r, -1, true, nil
	}
	if nonblock, err = checkEventFD(m.fds[0]); err != nil {
		return nil, -1, false, fmt.Errorf("%w: %w", errRefused, err)
	}
	return r, m.take(0), nonblock, nil
}

func (s *session) setVringKick(m *message) error {
	r, fd, _, err := s.vringFD(m)
	if err != nil {
		return err
	}
	r.halt()
	closeFD(r.kick)
	r.kick, r.kickSet = fd, true
	return s.start(r)
}

func (s *session) setVringCall(m *message) error {
	r, fd, nonblock, err := s.vringFD(m)
	if err != nil {
		return err
	}
	r.mu.Lock()
	closeFD(r.callFD)
	r.callFD, r.callNonblock = fd, nonblock
	due := r.uncalled
	r.mu.Unlock()
	if r.run != nil && r.run.q.CallReplaced() || due {
		r.signalCall()
	}
	return nil
}

func (s *session) setVringErr(m *message) error {
	r, fd, nonblock, err := s.vringFD(m)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	closeFD(r.errFD)
	r.errFD, r.errNonblock = fd, nonblock
	return nil
}

func (s *session) setVringEnable(m *message) error {
	r, err := s.ringAt(uint64(u32(m.payload, 0)))
	if err != nil {
		return err
	}
	switch on := u32(m.payload, 4); {
	case s.features&FeatureProtocolFeatures == 0:
		return fmt.Errorf("%w: PROTOCOL_FEATURES was not acknowledged", errRefused)
	case on > 1:
		return fmt.Errorf("%w: enable %d", errRefused, on)
	case on == 0:
		r.enabled = false
		r.halt()
		return nil
	}
	r.enabled = true
	return s.start(r)
}

// startAll starts every ring that has become ready, for instance by a memory
// table. A ring whose areas are not in the table waits for the next one.
func (s *session) startAll() error {
	for _, r := range s.rings {
		if err := s.start(r); err != nil && !errors.Is(err, virtqueue.ErrUnmapped) {
			return err
		}
	}
	return nil
}

// start lets the ring's goroutine run if the ring is started and enabled.
func (s *session) start(r *ring) error {
	if !r.enabled || !r.kickSet || !r.haveAddr || r.num == 0 || !s.haveFeatures {
		return nil
	}
	if r.run == nil {
		cfg := virtqueue.Config{
			Size: r.num, Desc: r.desc, Avail: r.avail, Used: r.used, Base: r.base,
			Packed:   s.features&FeatureRingPacked != 0,
			EventIdx: s.features&FeatureEventIdx != 0,
			Indirect: s.features&FeatureIndirectDesc != 0,
			LogUsed:  r.logUsed, UsedGPA: r.usedGPA, Taken: r.taken,
		}
		if s.inflight != nil {
			cfg.Inflight = s.inflight.Queue(r.index, r.num, cfg.Packed)
			switch {
			case cfg.Inflight == nil:
				return fmt.Errorf("%w: ring %d of %d entries is not in the in-flight region", errRefused, r.index, r.num)
			case r.stopped:
				cfg.Inflight.Reset()
			}
		}
		q, err := virtqueue.NewQueue(s.space, cfg)
		if err != nil {
			return fmt.Errorf("%w: ring %d: %w", errRefused, r.index, err)
		}
		v, err := newVring(s, r, q)
		if err != nil {
			q.Close()
			return err
		}
		r.run, r.taken = v, nil
		v.handler = s.dev.StartQueue(v)
		if q.CallReplaced() {
			r.signalCall()
		}
	}
	r.run.start()
	return nil
}

// halt lets the ring's goroutine end. Requests in flight go on.
func (r *ring) halt() {
	if r.run != nil {
		r.run.halt()
	}
}

// memoryChanged wakes the ring's goroutine: it may wait for its ring to be
// mapped, or have completions to publish that could not be when they came.
func (r *ring) memoryChanged() {
	if r.run != nil {
		signal(r.run.wake, true)
	}
}

// stop ends the ring's life: nothing is fetched, then everything fetched is
// completed, then guest memory is left alone. At the end of a connection the
// waits are short, since nobody waits for the guest's answers there.
func (s *session) stop(r *ring, hangup bool) {
	v := r.run
	if v == nil {
		return
	}
	v.halt()
	lost := v.drain(s.o, hangup, s.inflight != nil, s.cancelled)
	if lost != 0 {
		s.o.Stats.Lost.Add(uint64(lost))
		s.log.warn("requests lost at a stop", "ring", r.index, "requests", lost)
	}
	if v.calling.Load() != 0 {
		// A worker has published what the driver wants to hear of, and may come too
		// late with its call.
		r.signalCall()
	}
	r.base = v.q.Base()
	r.stopped = !hangup
	v.close()
	if lost != 0 {
		// Waits for workers that entered before the ring was closed.
		s.space.Replace(s.space.Memory())
	}
	r.run = nil
}

// signalCall calls the driver.
func (r *ring) signalCall() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.uncalled = r.callFD < 0
	signal(r.callFD, r.callNonblock)
}

// signalErr tells the front-end that the ring is broken.
func (r *ring) signalErr() {
	r.mu.Lock()
	defer r.mu.Unlock()
	signal(r.errFD, r.errNonblock)
}

// closeFDs forgets the kick and call descriptors.
func (r *ring) closeFDs() {
	closeFD(r.kick)
	r.kick, r.kickSet = -1, false
	r.mu.Lock()
	defer r.mu.Unlock()
	closeFD(r.callFD)
	r.callFD = -1
}
