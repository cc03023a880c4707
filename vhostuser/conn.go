package vhostuser

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

var (
	// ErrProtocol is the class of what a front-end may not send. The connection
	// ends.
	ErrProtocol = errors.New("vhost-user protocol error")

	errRefused = errors.New("refused") // the message fails, the connection stays
)

// A conn frames messages on a socket whose file flags it leaves alone: every
// call is MSG_DONTWAIT, and waiting is ppoll on {socket, cancel}.
type conn struct {
	fd     int
	cancel int // eventfd, readable for good once the session is to end
	header [HeaderSize]byte
	oob    []byte
	body   [MaxPayload]byte
}

// newConn takes fd over.
func newConn(fd int) (*conn, error) {
	cancel, err := newEventFD()
	if err != nil {
		closeFD(fd)
		return nil, err
	}
	return &conn{fd: fd, cancel: cancel, oob: make([]byte, unix.CmsgSpace(4*maxFDs))}, nil
}

// close gives the descriptors back.
func (c *conn) close() {
	closeFD(c.fd)
	closeFD(c.cancel)
}

// wait blocks until the socket is ready for events or the session is cancelled.
func (c *conn) wait(events int16) error { return pollOr(c.cancel, c.fd, events) }

// readableOr waits for the socket, for other (an eventfd) or for cancellation, and
// reports whether it was other.
func (c *conn) readableOr(other int) (bool, error) {
	for {
		p := [3]unix.PollFd{
			{Fd: int32(c.fd), Events: unix.POLLIN},
			{Fd: int32(c.cancel), Events: unix.POLLIN},
			{Fd: int32(other), Events: unix.POLLIN},
		}
		_, err := unix.Ppoll(p[:], nil, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return false, fmt.Errorf("ppoll: %w", err)
		case p[1].Revents != 0:
			return false, context.Canceled
		default:
			return p[2].Revents != 0, nil
		}
	}
}

// hungUp waits for the front-end to go away, for done (an eventfd) or for
// cancellation, and reports whether it was done.
func (c *conn) hungUp(done int) bool {
	for {
		p := [3]unix.PollFd{
			{Fd: int32(c.fd), Events: unix.POLLRDHUP},
			{Fd: int32(c.cancel), Events: unix.POLLIN},
			{Fd: int32(done), Events: unix.POLLIN},
		}
		_, err := unix.Ppoll(p[:], nil, nil)
		switch {
		case err == unix.EINTR:
		case p[2].Revents != 0:
			return true
		default:
			return false
		}
	}
}

// recv reads one message into m. Its payload is valid until the next recv. The
// error is io.EOF when the front-end left between messages. Descriptors in m
// are the caller's even then.
func (c *conn) recv(m *message) error {
	m.fds, m.reply, m.replyFD = m.fds[:0], nil, -1
	if err := c.recvHeader(m); err != nil {
		return err
	}
	m.req = Request(binary.NativeEndian.Uint32(c.header[0:]))
	m.flags = binary.NativeEndian.Uint32(c.header[4:])
	size := binary.NativeEndian.Uint32(c.header[8:])
	switch {
	case m.flags&flagVersionMask != FlagVersion, m.flags&^(flagVersionMask|FlagNeedReply) != 0:
		return fmt.Errorf("%w: %v with flags %#x", ErrProtocol, m.req, m.flags)
	case size > MaxPayload:
		return fmt.Errorf("%w: %v with %d bytes", ErrProtocol, m.req, size)
	}
	m.payload = c.body[:size]
	for n := 0; n < len(m.payload); {
		k, _, err := c.read(m.payload[n:], nil)
		if err != nil {
			return fmt.Errorf("payload of %v: %w", m.req, unexpected(err))
		}
		n += k
	}
	return nil
}

// recvHeader reads the header and the descriptors that came with it. They may
// only come with its first byte, but a stream may also cut it in pieces.
func (c *conn) recvHeader(m *message) error {
	for n := 0; n < HeaderSize; {
		k, oobn, err := c.read(c.header[n:], c.oob)
		if oobn > 0 {
			if perr := m.addFDs(c.oob[:oobn]); err == nil {
				err = perr
			}
		}
		if err != nil {
			if n > 0 {
				err = unexpected(err)
			}
			return err
		}
		n += k
	}
	return nil
}

// read is one recvmsg: at least one byte, or an error.
func (c *conn) read(p, oob []byte) (n, oobn int, err error) {
	for {
		var flags int
		n, oobn, flags, _, err = unix.Recvmsg(c.fd, p, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			if err := c.wait(unix.POLLIN); err != nil {
				return 0, 0, err
			}
		case err == unix.ECONNRESET:
			return 0, 0, io.EOF
		case err != nil:
			return 0, 0, fmt.Errorf("recvmsg: %w", err)
		case oob != nil && flags&unix.MSG_CTRUNC != 0:
			return n, oobn, fmt.Errorf("%w: more than %d descriptors", ErrProtocol, maxFDs)
		case n == 0:
			return 0, oobn, io.EOF
		default:
			return n, oobn, nil
		}
	}
}

// unexpected turns the end of the stream into the end in mid-message.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// addFDs takes the descriptors in a control message over. Anything but
// SCM_RIGHTS is ignored.
func (m *message) addFDs(oob []byte) error {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("control message: %w", err)
	}
	for i := range msgs {
		if msgs[i].Header.Level != unix.SOL_SOCKET || msgs[i].Header.Type != unix.SCM_RIGHTS {
			continue
		}
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			return fmt.Errorf("descriptors: %w", err)
		}
		m.fds = append(m.fds, fds...)
	}
	return nil
}

// send writes a reply to m with payload and, unless fd is negative, fd.
func (c *conn) send(m *message, payload []byte, fd int) error {
	b := make([]byte, 0, HeaderSize+len(payload))
	b = binary.NativeEndian.AppendUint32(b, uint32(m.req))
	b = binary.NativeEndian.AppendUint32(b, FlagVersion|FlagReply)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	var oob []byte
	if fd >= 0 {
		oob = unix.UnixRights(fd)
	}
	for len(b) > 0 {
		n, err := unix.SendmsgN(c.fd, b, oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			if err := c.wait(unix.POLLOUT); err != nil {
				return err
			}
			continue
		case err == unix.EPIPE || err == unix.ECONNRESET:
			return io.EOF
		case err != nil:
			return fmt.Errorf("sendmsg: %w", err)
		}
		b, oob = b[n:], nil
	}
	return nil
}
