package vhostusertest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/vhostuser"
)

var (
	// ErrBackEnd is the class of everything a back-end may not do.
	ErrBackEnd = errors.New("back-end broke the protocol")
	// ErrRefused is returned for a message that the back-end acknowledged with a
	// value that is not zero.
	ErrRefused = errors.New("refused by the back-end")
)

// patience is how long a Conn waits for the back-end, and a Ring for a
// completion: long enough for a loaded machine, short enough for a test.
const patience = 30 * time.Second

// A Conn is the front-end's side of one connection.
type Conn struct {
	uc *net.UnixConn
	// Features and Proto are what the back-end offered, AckedProto is what
	// SetProtocolFeatures agreed on.
	Features, Proto, AckedProto uint64
	// Ack asks for an acknowledgement of every message that has no answer of its
	// own, once REPLY_ACK is agreed on, as Cloud Hypervisor does.
	Ack bool
}

// NewConn returns the front-end's side of uc and takes it over.
func NewConn(uc *net.UnixConn) *Conn { return &Conn{uc: uc} }

// Dial connects to the back-end that listens at path.
func Dial(path string) (*Conn, error) {
	c, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	return NewConn(c.(*net.UnixConn)), nil
}

// DialWait is Dial for a back-end that is starting up: it tries until ctx ends
// or 30 s are over.
func DialWait(ctx context.Context, path string) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		c, err := Dial(path)
		if err == nil {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Millisecond):
		}
	}
}

// Close hangs up.
func (c *Conn) Close() error { return c.uc.Close() }

// Socket returns the connection below, for tests that send what no Conn would.
func (c *Conn) Socket() *net.UnixConn { return c.uc }

// Write sends raw bytes, with descriptors on the first of them.
func (c *Conn) Write(b []byte, fds ...int) error {
	var oob []byte
	if len(fds) != 0 {
		oob = unix.UnixRights(fds...)
	}
	if err := c.uc.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	n, _, err := c.uc.WriteMsgUnix(b, oob, nil)
	if err == nil && n < len(b) {
		_, err = c.uc.Write(b[n:])
	}
	return err
}

// Encode returns a message as it goes over the wire.
func Encode(req vhostuser.Request, flags uint32, payload []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(req))
	b = binary.NativeEndian.AppendUint32(b, flags)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// Send sends a message; needReply sets the flag that asks for an answer. It does
// not wait for one.
func (c *Conn) Send(req vhostuser.Request, payload []byte, needReply bool, fds ...int) error {
	flags := uint32(vhostuser.FlagVersion)
	if needReply {
		flags |= vhostuser.FlagNeedReply
	}
	if err := c.Write(Encode(req, flags, payload), fds...); err != nil {
		return fmt.Errorf("%v: %w", req, err)
	}
	return nil
}

// Receive reads the answer to req. The descriptor, -1 for none, is the caller's.
// The error is io.EOF when the back-end hung up instead.
func (c *Conn) Receive(req vhostuser.Request) (payload []byte, fd int, err error) {
	got, payload, fd, err := c.ReceiveAny()
	if err == nil && got != req {
		err = fmt.Errorf("%w: answer to %v", ErrBackEnd, got)
	}
	if err != nil {
		closeFD(fd)
		return nil, -1, fmt.Errorf("answer to %v: %w", req, err)
	}
	return payload, fd, nil
}

// ReceiveAny reads the next answer, whatever it answers; see Receive.
func (c *Conn) ReceiveAny() (req vhostuser.Request, payload []byte, fd int, err error) {
	if err := c.uc.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, nil, -1, err
	}
	header, oob := make([]byte, vhostuser.HeaderSize), make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := c.uc.ReadMsgUnix(header, oob)
	if err == nil && n == 0 || errors.Is(err, unix.ECONNRESET) {
		err = io.EOF
	}
	if err != nil {
		return 0, nil, -1, err
	}
	if fd, err = oneFD(oob[:oobn]); err != nil {
		return 0, nil, -1, err
	}
	if _, err = io.ReadFull(c.uc, header[n:]); err == nil {
		payload, err = c.body(header)
	}
	if err != nil {
		closeFD(fd)
		return 0, nil, -1, err
	}
	return vhostuser.Request(binary.NativeEndian.Uint32(header)), payload, fd, nil
}

// body checks the header of an answer and reads the rest of it.
func (c *Conn) body(header []byte) ([]byte, error) {
	flags, size := binary.NativeEndian.Uint32(header[4:]), binary.NativeEndian.Uint32(header[8:])
	if flags != vhostuser.FlagVersion|vhostuser.FlagReply || size > vhostuser.MaxPayload {
		return nil, fmt.Errorf("%w: answer with flags %#x and %d bytes", ErrBackEnd, flags, size)
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(c.uc, payload); err != nil {
		return nil, err
	}
	return payload, nil
}

// oneFD returns the descriptor in a control message, -1 for none.
func oneFD(oob []byte) (int, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(msgs) == 0 {
		return -1, err
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		return -1, err
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	if len(fds) != 1 {
		for _, fd := range fds {
			closeFD(fd)
		}
		return -1, fmt.Errorf("%w: %d descriptors", ErrBackEnd, len(fds))
	}
	return fds[0], nil
}

// Call sends a message that has no answer of its own. With Ack set and REPLY_ACK
// agreed on it waits for the acknowledgement; ErrRefused if that is not zero.
func (c *Conn) Call(req vhostuser.Request, payload []byte, fds ...int) error {
	if !c.Ack || c.AckedProto&vhostuser.ProtocolReplyAck == 0 {
		return c.Send(req, payload, false, fds...)
	}
	return c.CallAck(req, payload, fds...)
}

// CallAck is Call with an acknowledgement in any case.
func (c *Conn) CallAck(req vhostuser.Request, payload []byte, fds ...int) error {
	if err := c.Send(req, payload, true, fds...); err != nil {
		return err
	}
	v, err := c.receiveU64(req)
	if err == nil && v != 0 {
		err = fmt.Errorf("%v: %w: %d", req, ErrRefused, v)
	}
	return err
}

// Ask sends a message that is always answered and returns the answer.
func (c *Conn) Ask(req vhostuser.Request, payload []byte, fds ...int) ([]byte, int, error) {
	if err := c.Send(req, payload, false, fds...); err != nil {
		return nil, -1, err
	}
	return c.Receive(req)
}

// AskU64 is Ask for answers of one number.
func (c *Conn) AskU64(req vhostuser.Request, payload []byte, fds ...int) (uint64, error) {
	if err := c.Send(req, payload, false, fds...); err != nil {
		return 0, err
	}
	return c.receiveU64(req)
}

func (c *Conn) receiveU64(req vhostuser.Request) (uint64, error) {
	p, fd, err := c.Receive(req)
	if err != nil {
		return 0, err
	}
	if fd >= 0 || len(p) != 8 {
		closeFD(fd)
		return 0, fmt.Errorf("%w: answer to %v of %d bytes, descriptor %d", ErrBackEnd, req, len(p), fd)
	}
	return binary.NativeEndian.Uint64(p), nil
}

// closeFD closes fd unless it is negative.
func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd) // nothing can be done, and Linux frees it anyway
	}
}
