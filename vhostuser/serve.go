package vhostuser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"vrafs/virtqueue"
)

// Serve speaks with the front-end on conn until it goes away (nil), ctx ends
// (its cause) or the protocol is violated (ErrProtocol). conn stays the
// caller's; its file flags are left as they are. A Device is served by one
// Serve at a time.
func Serve(ctx context.Context, conn *net.UnixConn, dev Device, o Options) error {
	rc, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("connection: %w", err)
	}
	fd, derr := -1, error(nil)
	if err := rc.Control(func(c uintptr) { fd, derr = unix.FcntlInt(c, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return fmt.Errorf("connection: %w", err)
	}
	if derr != nil {
		return fmt.Errorf("connection: dup: %w", derr)
	}
	return ServeFD(ctx, fd, dev, o)
}

// ServeFD is Serve for a connected socket that was inherited. It takes fd over
// and does not touch O_NONBLOCK, which a parent may share.
func ServeFD(ctx context.Context, fd int, dev Device, o Options) error {
	c, err := newConn(fd)
	if err != nil {
		return err
	}
	return newSession(c, dev, o).run(ctx)
}

// run serves the session to its end.
func (s *session) run(ctx context.Context) error {
	c := s.conn
	s.cancelled = ctx.Done()
	s.o.Handover.serving(s.space)
	defer s.o.Handover.serving(nil)
	stop := context.AfterFunc(ctx, func() { signal(c.cancel, true) })
	result := make(chan error, 1)
	go s.control(result)
	err := <-result
	if !stop() {
		// The function has started; the descriptor may only be closed after it.
		<-ctx.Done()
		s.conn.waitCancelled()
	}
	c.close()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return context.Cause(ctx)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// waitCancelled waits until the cancel event was signalled.
func (c *conn) waitCancelled() {
	for {
		p := [1]unix.PollFd{{Fd: int32(c.cancel), Events: unix.POLLIN}}
		if _, err := unix.Ppoll(p[:], nil, nil); err != unix.EINTR {
			return
		}
	}
}

// control is the control goroutine: it looks into guest memory when a ring
// starts, so it is prepared for faults.
func (s *session) control(result chan<- error) {
	debug.SetPanicOnFault(true)
	var err error
	defer func() { result <- err }()
	defer s.end()
	defer func() {
		if r := recover(); r != nil {
			err = caught(r)
		}
	}()
	err = s.loop()
}

// caught turns what a goroutine recovered at its top into an error: the fault of
// a guest page that is gone, or a bug of ours with its stack. Either ends what
// the goroutine served, never one request.
func caught(r any) error {
	if e, ok := r.(interface {
		error
		Addr() uintptr
	}); ok {
		return fmt.Errorf("%w: fault at %#x", errFault, e.Addr())
	}
	return fmt.Errorf("%w: %v\n%s", errInternal, r, debug.Stack())
}

var (
	errFault    = errors.New("guest memory is gone")
	errInternal = errors.New("internal error")
)

// A session is the state of one connection. It belongs to the control goroutine.
type session struct {
	conn *conn
	dev  Device
	o    Options
	log  limiter
	prop Properties

	cancelled <-chan struct{} // closed when the session is to end at once

	offered, offeredProto uint64
	features, proto       uint64 // acknowledged
	haveFeatures          bool
	status                uint8
	unknown               int

	space    *virtqueue.Space
	regions  []*virtqueue.Region
	dirty    *virtqueue.DirtyLog
	inflight *virtqueue.InflightRegion
	rings    []*ring
	logFD    int
	transfer *transfer
	restored bool // from a former life
}

func newSession(c *conn, dev Device, o Options) *session {
	s := &session{conn: c, dev: dev, o: o.withDefaults(), prop: dev.Properties(), space: virtqueue.NewSpace(), logFD: -1}
	s.log.log = o.Log
	s.offer()
	for i := range s.prop.Queues {
		s.rings = append(s.rings, newRing(i))
	}
	return s
}

// maxUnknown is how many messages with unknown ids a connection may send.
const maxUnknown = 64

// loop serves messages until one can't be.
func (s *session) loop() error {
	var m message
	if s.restored {
		if err := s.startAll(); err != nil {
			return err
		}
		if s.o.Resumed != nil {
			s.o.Resumed()
		}
	}
	for {
		if asked, err := s.idle(); err != nil {
			return err
		} else if asked {
			if err := s.handOver(); err != nil {
				return err
			}
			continue
		}
		err := s.conn.recv(&m)
		if err == nil {
			s.o.Stats.Messages.Add(1)
			err = s.serve(&m)
		}
		m.closeFDs()
		if n := reap.stuck(); err == nil && n > maxStuck {
			err = fmt.Errorf("%w: %d descriptors that cannot be closed", ErrProtocol, n)
		}
		if err != nil {
			if errors.Is(err, ErrProtocol) || errors.Is(err, io.ErrUnexpectedEOF) {
				s.o.Stats.ProtocolErrors.Add(1)
				s.log.warn("connection", "err", err)
			}
			return err
		}
	}
}

// idle waits for the next message, and reports whether somebody wants the session
// instead.
func (s *session) idle() (asked bool, err error) {
	if s.o.Handover == nil {
		return false, nil
	}
	return s.conn.readableOr(s.o.Handover.asked)
}

// serve handles one message and answers it. An error ends the connection.
func (s *session) serve(m *message) error {
	h, ok := handlers[m.req]
	if !ok {
		return s.refuseUnknown(m)
	}
	if n := len(m.payload); n < h.min || n > h.max {
		if err := s.ack(m, false); err != nil {
			return err
		}
		return fmt.Errorf("%w: %v with %d bytes", ErrProtocol, m.req, n)
	}
	if h.proto != 0 && s.proto&h.proto == 0 {
		s.log.warn("message without its feature", "request", m.req)
		if h.reply && !s.acks(m) {
			return fmt.Errorf("%w: %v without its feature", ErrProtocol, m.req)
		}
		return s.ack(m, false)
	}
	err := error(nil)
	if n := len(m.fds); n < h.minFDs || n > h.maxFDs {
		err = fmt.Errorf("%w: %d descriptors", errRefused, n)
	} else {
		err = h.fn(s, m)
	}
	if err != nil {
		s.o.Stats.Refused.Add(1)
		s.log.warn(m.req.String(), "err", err)
	}
	switch {
	case m.reply != nil:
		return s.conn.send(m, m.reply, m.replyFD)
	case h.reply, err != nil && !s.acks(m):
		// Nobody would learn that it failed.
		return fmt.Errorf("%w: %v: %w", ErrProtocol, m.req, err)
	}
	return s.ack(m, err == nil)
}

// refuseUnknown answers a message that nobody handles. An error ends the connection.
func (s *session) refuseUnknown(m *message) error {
	if s.unknown++; s.unknown > maxUnknown {
		return fmt.Errorf("%w: %d unknown messages, last %v", ErrProtocol, s.unknown, m.req)
	}
	s.log.warn("unknown message", "request", m.req)
	if awaited[m.req] && !s.acks(m) {
		return fmt.Errorf("%w: %v was not offered", ErrProtocol, m.req) // its sender would wait for ever
	}
	return s.ack(m, false)
}

// acks reports whether m asks for an acknowledgement that was agreed on.
func (s *session) acks(m *message) bool {
	return m.flags&FlagNeedReply != 0 && s.proto&ProtocolReplyAck != 0
}

// ack answers a message that has no reply of its own, if it asks for that.
func (s *session) ack(m *message, ok bool) error {
	if !s.acks(m) {
		return nil
	}
	var status [8]byte
	if !ok {
		status[0] = 1
	}
	return s.conn.send(m, status[:], -1)
}

// end takes everything down: rings, transfer, mappings, descriptors.
func (s *session) end() {
	for _, r := range s.rings {
		s.stop(r, true)
		r.closeFDs()
		closeFD(r.errFD)
	}
	s.transfer.end()
	s.space.SetLog(nil)
	s.space.Replace(&virtqueue.Memory{})
	for _, r := range s.regions {
		_ = r.Unmap() // cannot fail for a mapping of our own
	}
	s.regions = nil
	if s.dirty != nil {
		_ = s.dirty.Unmap()
	}
	if s.inflight != nil {
		_ = s.inflight.Unmap()
	}
	closeFD(s.logFD)
}
