package keeper

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// linkFD is the number that a link has in the process that was started with it.
const linkFD = 3

// maxHeld bounds the descriptors that are held.
const maxHeld = 16

// Kinds of message, its first byte.
const (
	kindHold = 'h' // with descriptors: hold these instead
	kindDone = 'd' // end, the program needs no successor
	kindGoOn = 'g' // with descriptors: go on with these; restarts (4 bytes), cause
)

// maxMessage bounds a message without its descriptors.
const maxMessage = 512

// ErrLost says that the other end of a link is gone.
var ErrLost = errors.New("the keeper is gone")

// A Link is a server's connection to its keeper.
type Link struct {
	conn *net.UnixConn
	end  sync.Once
	// reap waits for a keeper that is our child. May be nil.
	reap func()
}

// Hold has the keeper hold copies of fds, at most 16, instead of what it held. They
// stay the caller's.
func (l *Link) Hold(fds ...int) error {
	if len(fds) > maxHeld {
		return fmt.Errorf("hold %d descriptors: more than %d", len(fds), maxHeld)
	}
	if _, _, err := l.conn.WriteMsgUnix([]byte{kindHold}, unix.UnixRights(fds...), nil); err != nil {
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	return nil
}

// Done tells the keeper that the program ends in order. The Link is of no use
// after it.
func (l *Link) Done() {
	l.end.Do(func() {
		_, _ = l.conn.Write([]byte{kindDone}) // to nobody, if the keeper has gone before
		_ = l.conn.Close()
	})
}

// Wait returns ErrLost when the keeper has died, nil after Done, and nil when ctx
// ends.
func (l *Link) Wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := l.conn.Read(make([]byte, 1))
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	if l.reap != nil {
		l.reap()
	}
	return ErrLost
}

// An Inheritance is what a predecessor left.
type Inheritance struct {
	FDs      []int // in the order of Hold; the receiver's
	Restarts uint32
	Cause    string // of the predecessor's end, for the log
}

// Inherit is called by a program that was told to resume.
func Inherit() (*Link, *Inheritance, error) {
	conn, err := ownLink()
	if err != nil {
		return nil, nil, err
	}
	m, err := receive(conn)
	if err == nil && (m.kind != kindGoOn || len(m.rest) < 4) {
		err = errors.New("not a message to a successor")
	}
	if err != nil {
		_ = conn.Close()
		return nil, nil, fmt.Errorf("inherit from the keeper: %w", err)
	}
	h := &Inheritance{FDs: m.fds, Restarts: binary.LittleEndian.Uint32(m.rest), Cause: string(m.rest[4:])}
	return &Link{conn: conn}, h, nil
}

// goOn sends an Inheritance. The descriptors stay the caller's.
func goOn(conn *net.UnixConn, h *Inheritance) error {
	b := binary.LittleEndian.AppendUint32([]byte{kindGoOn}, h.Restarts)
	b = append(b, h.Cause[:min(len(h.Cause), maxMessage-len(b))]...)
	_, _, err := conn.WriteMsgUnix(b, unix.UnixRights(h.FDs...), nil)
	return err
}

// ownLink is the link that this process was started with.
func ownLink() (*net.UnixConn, error) {
	kind, err := unix.GetsockoptInt(linkFD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_SEQPACKET {
		return nil, errors.New("descriptor 3 is not a link: only this program itself gives the option --" + Option)
	}
	return connOf(os.NewFile(linkFD, "link"))
}

// connOf makes a connection of a socket, which it closes.
func connOf(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

// A message is one that was received. Its descriptors are the receiver's.
type message struct {
	kind byte
	rest []byte
	fds  []int
}

// receive waits for a message.
func receive(conn *net.UnixConn) (*message, error) {
	b, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*maxHeld))
	n, m, _, _, err := conn.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, err
	}
	got := &message{}
	if m > 0 {
		if got.fds, err = rights(oob[:m]); err != nil {
			return nil, err
		}
	}
	if n == 0 {
		closeAll(got.fds)
		return nil, ErrLost // nobody sends an empty message
	}
	got.kind, got.rest = b[0], b[1:n]
	return got, nil
}

// rights gives the descriptors of a control message. The runtime has them
// close-on-exec.
func rights(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var fds []int
	for i := range messages {
		some, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, err
		}
		fds = append(fds, some...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
