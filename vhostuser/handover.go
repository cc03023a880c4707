package vhostuser

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"vrafs/virtqueue"
)

// ErrHandover is the class of sessions that can't be taken away from Serve now. They
// go on.
var ErrHandover = errors.New("session can't be handed over")

const (
	// settleLimit is how long a suspension waits for requests that may be served once
	// only, and repeatWait for the others: these a successor serves anew.
	settleLimit = 2 * time.Second
	repeatWait  = 3 * time.Millisecond
	settleTick  = 200 * time.Microsecond
)

// A Handover lets a session be taken away from Serve, in between two messages, for a
// successor that goes on with Resume. It may be given to one Serve after the other.
//
//	Suspend --ask--> Serve: rings halt, requests end or are given up --Suspended-->
//	       Resume: the rings start again  |  the process becomes its successor
type Handover struct {
	asked int // eventfd

	mu    sync.Mutex
	cur   *suspension
	space *virtqueue.Space // of the session that is served
}

// A suspension is one Suspend on its way.
type suspension struct {
	ready  chan struct{} // closed when state and err are set
	state  *Suspended
	err    error
	resume chan struct{} // closed by Resume
	once   sync.Once
}

// A Suspended is a session that stands still.
type Suspended struct {
	// State is what Resume needs, in the same process image or another: it names
	// FDs by their numbers.
	State []byte
	// FDs are the descriptors in State. They stay the session's.
	FDs []int

	s *suspension
}

// Resume lets the session go on as if nothing had been.
func (s *Suspended) Resume() { s.s.once.Do(func() { close(s.s.resume) }) }

// NewHandover returns a Handover, to be closed.
func NewHandover() (*Handover, error) {
	fd, err := newEventFD()
	if err != nil {
		return nil, err
	}
	return &Handover{asked: fd}, nil
}

// Close frees the Handover. No session may be served with it any more.
func (h *Handover) Close() { closeFD(h.asked) }

// Suspend has the session stand still. It waits until there is a session and until
// that is between two messages, at most until ctx ends, and for requests under way
// up to two seconds. Only one Suspend may run at a time.
func (h *Handover) Suspend(ctx context.Context) (*Suspended, error) {
	s := &suspension{ready: make(chan struct{}), resume: make(chan struct{})}
	h.mu.Lock()
	h.cur = s
	h.mu.Unlock()
	signal(h.asked, true)
	select {
	case <-s.ready:
	case <-ctx.Done():
		h.mu.Lock()
		mine := h.cur == s
		if mine {
			h.cur = nil
		}
		h.mu.Unlock()
		if mine {
			return nil, fmt.Errorf("%w: %w", ErrHandover, context.Cause(ctx))
		}
		<-s.ready // it is being suspended
	}
	return s.state, s.err
}

// DropPages takes the guest's memory out of the page tables, see
// virtqueue.Space.DropPages, while the session is served.
func (h *Handover) DropPages(stop func() bool) {
	h.mu.Lock()
	space := h.space
	h.mu.Unlock()
	if space != nil {
		space.DropPages(stop)
	}
}

// serving says which session is served, nil for none.
func (h *Handover) serving(s *virtqueue.Space) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.space = s
}

// take is the suspension that was asked for, if it still is.
func (h *Handover) take() *suspension {
	newCounter().drain(h.asked)
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.cur
	h.cur = nil
	return s
}

// handOver suspends the session if that is still wanted, and returns when it goes on.
func (s *session) handOver() error {
	h := s.o.Handover.take()
	if h == nil {
		return nil
	}
	state, err := s.suspend()
	h.state, h.err = state, err
	if state != nil {
		state.s = h
	}
	close(h.ready)
	if err != nil {
		return nil
	}
	select {
	case <-h.resume:
		return s.startAll()
	case <-s.cancelled:
		return context.Canceled
	}
}

// suspend stops the rings without giving anything up, and returns what a successor
// needs. After an error they run on.
func (s *session) suspend() (*Suspended, error) {
	if s.transfer != nil || s.dirty != nil && s.features&FeatureLogAll != 0 {
		return nil, fmt.Errorf("%w: the guest is being migrated", ErrHandover)
	}
	for _, r := range s.rings {
		r.halt()
	}
	err := s.settle()
	for _, r := range s.rings {
		if err == nil && r.run != nil {
			err = s.freeze(r)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrHandover, err), s.startAll())
	}
	// Waits for workers that entered before their ring was frozen.
	s.space.Replace(s.space.Memory())
	return s.save(), nil
}

// settle waits until every request that is under way may be served again.
func (s *session) settle() error {
	tick := time.NewTicker(settleTick)
	defer tick.Stop()
	for begin := time.Now(); ; {
		outstanding, once := 0, 0
		for _, r := range s.rings {
			if v := r.run; v != nil && !v.broken.Load() {
				n := v.q.Outstanding()
				outstanding += n
				if s.features&FeatureRingPacked != 0 && s.inflight == nil {
					once += n // nobody could find them again
				} else {
					once += v.handler.Unrepeatable()
				}
			}
		}
		switch waited := time.Since(begin); {
		case outstanding == 0, once == 0 && waited >= repeatWait:
			return nil
		case waited >= settleLimit:
			return fmt.Errorf("%d requests do not end", once)
		}
		select {
		case <-tick.C:
		case <-s.cancelled:
			return context.Canceled
		}
	}
}

// freeze ends a ring's life for a successor. One that was broken is only stopped.
func (s *session) freeze(r *ring) error {
	v := r.run
	if v.broken.Load() {
		s.stop(r, true)
		return nil
	}
	taken, call, err := v.q.Freeze()
	if call || v.calling.Load() != 0 {
		r.signalCall()
	}
	if err != nil {
		return fmt.Errorf("ring %d: %w", r.index, err)
	}
	r.base, r.taken, r.stopped = v.q.Base(), taken, false
	v.close()
	r.run = nil
	return nil
}

// A Resumed is a session that was suspended and is ready to go on. Its rings are not
// touched before Serve, so that whoever suspended it may still go on instead.
type Resumed struct{ s *session }

// Resume makes a session of Suspended.State, of a former life of this process or of another
// one. What it needs of the descriptors it takes over; after an error it has closed them.
// One of Serve and Close must be called, once.
func Resume(state []byte, dev Device, o Options) (*Resumed, error) {
	s, err := restore(state, dev, o)
	if err != nil {
		return nil, err
	}
	return &Resumed{s}, nil
}

// Serve serves the session as the function Serve does.
func (r *Resumed) Serve(ctx context.Context) error { return r.s.run(ctx) }

// Close gives the session up without a trace: it stays another's.
func (r *Resumed) Close() {
	r.s.end()
	r.s.conn.close()
}
