package vhostuser

import (
	"bytes"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// pipeChunk is what a blocking pipe that polls writable takes without blocking.
const pipeChunk = 4096

// A transfer moves the device's state over the descriptor of SET_DEVICE_STATE_FD
// in a goroutine of its own, which ends when told to.
type transfer struct {
	fd     int
	cancel int // eventfd
	ready  int // eventfd: finished
	load   bool
	limit  int // bytes to load at most
	done   chan struct{}
	state  []byte // to be written, or after done what was read
	err    error  // after done
}

// setDeviceStateFD starts a transfer (vhost-user, "Migrating back-end state").
// The reply holds an error in bits 0 to 7 and, in bit 8, that no descriptor
// comes with it.
func (s *session) setDeviceStateFD(m *message) error {
	const noFD, failed = 0x100, 1
	direction, phase := u32(m.payload, 0), u32(m.payload, 4)
	err := s.startTransfer(m, direction, phase)
	if err != nil {
		m.replyU64(noFD | failed)
		return err
	}
	m.replyU64(noFD)
	return nil
}

func (s *session) startTransfer(m *message, direction, phase uint32) error {
	const save, load = 0, 1
	if direction > load || phase != 0 {
		return fmt.Errorf("%w: direction %d, phase %d", errRefused, direction, phase)
	}
	for _, r := range s.rings {
		if r.run != nil {
			return fmt.Errorf("%w: device state: %w", errRefused, errNotStopped)
		}
	}
	if err := checkStateFD(m.fds[0]); err != nil {
		return err
	}
	var state bytes.Buffer
	if direction == save {
		if err := s.dev.SaveState(&state); err != nil {
			return fmt.Errorf("save state: %w", err)
		}
	}
	s.transfer.end()
	s.transfer = nil
	cancel, err := newEventFD()
	if err != nil {
		return err
	}
	ready, err := newEventFD()
	if err != nil {
		closeFD(cancel)
		return err
	}
	s.transfer = &transfer{fd: m.take(0), cancel: cancel, ready: ready, load: direction == load, limit: s.o.MaxState,
		done: make(chan struct{}), state: state.Bytes()}
	go s.transfer.run()
	return nil
}

// checkStateFD refuses what is neither pipe nor socket: other files can't be
// waited for, and might never answer.
func checkStateFD(fd int) error {
	kind, err := fileType(fd)
	if err == nil && kind != unix.S_IFIFO && kind != unix.S_IFSOCK {
		err = fmt.Errorf("%w: device state over a descriptor of type %#o", errRefused, kind)
	}
	return err
}

// checkDeviceState waits for the end of the transfer and tells how it went.
func (s *session) checkDeviceState(m *message) error {
	t := s.transfer
	if t == nil {
		m.replyU64(1)
		return fmt.Errorf("%w: no device state was transferred", errRefused)
	}
	if !s.conn.hungUp(t.ready) {
		return io.EOF
	}
	<-t.done
	err := t.err
	s.transfer.end()
	s.transfer = nil
	if err == nil && t.load {
		err = s.dev.LoadState(bytes.NewReader(t.state))
	}
	if err != nil {
		m.replyU64(1)
		return fmt.Errorf("device state: %w", err)
	}
	m.replyU64(0)
	return nil
}

// run moves the bytes and closes the descriptor, which is the end of file for
// the other side.
func (t *transfer) run() {
	defer close(t.done)
	defer signal(t.ready, true)
	defer closeFD(t.fd)
	if t.load {
		t.state, t.err = t.readAll()
	} else {
		t.err = t.write(t.state)
	}
}

// end cancels the transfer, if there is one, and waits for its goroutine.
func (t *transfer) end() {
	if t == nil {
		return
	}
	signal(t.cancel, true)
	<-t.done
	closeFD(t.cancel)
	closeFD(t.ready)
}

// wait blocks until the descriptor is ready or the transfer is cancelled.
func (t *transfer) wait(events int16) error { return pollOr(t.cancel, t.fd, events) }

func (t *transfer) write(b []byte) error {
	for len(b) > 0 {
		if err := t.wait(unix.POLLOUT); err != nil {
			return err
		}
		n, err := unix.Write(t.fd, b[:min(len(b), pipeChunk)])
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		b = b[n:]
	}
	return nil
}

func (t *transfer) readAll() ([]byte, error) {
	var b []byte
	buf := make([]byte, 64<<10)
	for {
		if err := t.wait(unix.POLLIN); err != nil {
			return nil, err
		}
		n, err := unix.Read(t.fd, buf)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
		case err != nil:
			return nil, fmt.Errorf("read: %w", err)
		case n == 0:
			return b, nil
		case len(b)+n > t.limit:
			return nil, fmt.Errorf("state longer than %d bytes", t.limit)
		default:
			b = append(b, buf[:n]...)
		}
	}
}
