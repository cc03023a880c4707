package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/tlv"
)

// A guest goes from one process to another over a passage, a pair of sockets that the
// successor makes and of which it sends one end through the invitation that a supervisor
// keeps.
//
//	supervisor        former                            successor
//	  <--invitation---  |                                   |
//	  ---------------invitation------------------------->   |      takeover
//	                    |  <---------- ask + socket ------  |
//	                    |  stands still                     |
//	                    |  ------ part: descriptors ----->  |      as often as needed
//	                    |  ------ state ----------------->  |
//	                    |                 opens everything  |
//	                    |  <------------------- taken ----  |
//	                    |  ------ yours ----------------->  |      takeover is answered
//	                    |  <------------------- begun ----  |      start
//
// Who of the two serves is the former's to say until it reads begun: before yours any
// trouble has it go on, and after that the end of the passage without begun, which says that
// the successor has died. So no two ever serve, and a successor that has sent begun
// need not wait for anybody.
const (
	passageMagic     = "VRAFSWAY"
	passageVersion   = 1
	passageReader    = 1
	maxPassage       = 4 << 10 // of a message
	maxFDsAtOnce     = 253     // the kernel's SCM_MAX_FD
	maxPassed        = 1 << 21 // descriptors
	tagPassageKind   = tlv.Required | 1
	tagPassageText   = tlv.Tag(2)
	tagPassageFDs    = tlv.Required | 3 // numbers of the descriptors with the message, 4 bytes each
	invitationMagic  = "VRAFSINV"
	tagInvitationPID = tlv.Tag(1)
)

// Kinds of message.
const (
	passAsk     = 1 + iota // with the former's end of the passage
	passPart               // with descriptors
	passState              // with a memory file
	passRefused            // with the reason
	passTaken
	passYours
	passBegun
)

// errPassage is the class of messages that make no sense.
var errPassage = errors.New("malformed message")

// A passage is one end.
type passage struct{ conn *net.UnixConn }

// A passed is a message.
type passed struct {
	kind    uint64
	text    string
	numbers []int
	fds     []int // the receiver's
}

func (m *passed) encode() []byte {
	e := tlv.Start(passageMagic, passageVersion, passageReader)
	e.Uint(tagPassageKind, m.kind)
	if m.text != "" {
		e.Text(tagPassageText, m.text[:min(len(m.text), maxPassage/2)])
	}
	if len(m.numbers) != 0 {
		var b []byte
		for _, n := range m.numbers {
			b = binary.LittleEndian.AppendUint32(b, uint32(n))
		}
		e.Bytes(tagPassageFDs, b)
	}
	return e.Finish()
}

func decodePassed(p []byte) (*passed, error) {
	records, err := tlv.Read(p, passageMagic, passageVersion, tagPassageKind, tagPassageText, tagPassageFDs)
	if err != nil {
		return nil, err
	}
	m := &passed{}
	for _, r := range records {
		switch r.Tag {
		case tagPassageKind:
			if m.kind, err = r.Uint(); err != nil {
				return nil, err
			}
		case tagPassageText:
			m.text = string(r.Value)
		case tagPassageFDs:
			if len(r.Value)%4 != 0 {
				return nil, fmt.Errorf("%w: numbers in %d bytes", errPassage, len(r.Value))
			}
			for b := r.Value; len(b) > 0; b = b[4:] {
				m.numbers = append(m.numbers, int(min(binary.LittleEndian.Uint32(b), math.MaxInt32)))
			}
		}
	}
	return m, nil
}

// passageOf makes an end of a socket, which it takes over.
func passageOf(fd int) (*passage, error) {
	f := os.NewFile(uintptr(fd), "passage")
	defer f.Close()
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_SEQPACKET {
		return nil, fmt.Errorf("%w: the descriptor is no socket of a vrafsd", errPassage)
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("passage: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("%w: the descriptor is no Unix socket", errPassage)
	}
	return &passage{u}, nil
}

// newPassage makes both ends. The second one is a descriptor, to be sent away.
func newPassage() (*passage, int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("socketpair: %w", err)
	}
	p, err := passageOf(pair[0])
	if err != nil {
		_ = unix.Close(pair[1])
		return nil, -1, err
	}
	return p, pair[1], nil
}

func (p *passage) close() { _ = p.conn.Close() }

// within bounds everything that is sent and received until the returned function is called, by
// a time, 0 for none, and by the end of ctx.
func (p *passage) within(ctx context.Context, limit time.Duration) (stop func()) {
	if limit != 0 {
		_ = p.conn.SetDeadline(time.Now().Add(limit))
	}
	done := make(chan struct{})
	unended := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = p.conn.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !unended() {
			<-done
		}
		_ = p.conn.SetDeadline(time.Time{})
	}
}

// refuse says why, if the other side still listens: it will notice the end in any case.
func (p *passage) refuse(why string) {
	_ = p.conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
	_ = p.send(&passed{kind: passRefused, text: why})
}

// send sends a message. The descriptors stay the caller's.
func (p *passage) send(m *passed) error {
	var oob []byte
	if len(m.fds) != 0 {
		oob = unix.UnixRights(m.fds...)
	}
	_, _, err := p.conn.WriteMsgUnix(m.encode(), oob, nil)
	return err
}

// receive waits for a message.
func (p *passage) receive() (*passed, error) {
	b, oob := make([]byte, maxPassage), make([]byte, unix.CmsgSpace(4*maxFDsAtOnce))
	n, k, flags, _, err := p.conn.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, err
	}
	fds, err := allFDs(oob[:k])
	var m *passed
	switch {
	case err != nil:
	case n == 0:
		err = io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = fmt.Errorf("%w: it is longer than it may be, or there is no room for its descriptors (--rlimit-nofile)", errPassage)
	default:
		if m, err = decodePassed(b[:n]); err != nil {
			err = fmt.Errorf("%w: %w", errPassage, err)
		}
	}
	if err != nil {
		closeFDs(fds)
		return nil, err
	}
	m.fds = fds
	return m, nil
}

// expect waits for a message of a kind, which has no descriptors.
func (p *passage) expect(kind uint64) error {
	m, err := p.receive()
	if err != nil {
		return err
	}
	closeFDs(m.fds)
	return m.is(kind)
}

// is reports what else a message is than one of a kind.
func (m *passed) is(kind uint64) error {
	switch m.kind {
	case kind:
		return nil
	case passRefused:
		return errors.New(m.text)
	}
	return fmt.Errorf("%w: kind %d, want %d", errPassage, m.kind, kind)
}

// allFDs gives the descriptors of a control message, which the runtime has made
// close-on-exec.
func allFDs(oob []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		some, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		fds = append(fds, some...)
	}
	return fds, nil
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// sendAll sends descriptors, then the state that names them.
func (p *passage) sendAll(state *os.File, fds []int) error {
	for len(fds) > 0 {
		n := min(len(fds), maxFDsAtOnce)
		if err := p.send(&passed{kind: passPart, numbers: fds[:n], fds: fds[:n]}); err != nil {
			return err
		}
		fds = fds[n:]
	}
	return p.send(&passed{kind: passState, fds: []int{int(state.Fd())}})
}

// A luggage is the descriptors that came through a passage, by the numbers that they have in
// the process that sent them.
type luggage map[int]int

// take gives a descriptor, once.
func (l luggage) take(number int) (int, error) {
	fd, ok := l[number]
	if !ok {
		return -1, fmt.Errorf("descriptor %d was not sent, or is named twice", number)
	}
	delete(l, number)
	return fd, nil
}

// close closes what nobody has taken.
func (l luggage) close() {
	for _, fd := range l {
		_ = unix.Close(fd)
	}
	clear(l)
}

// receiveAll receives what sendAll sends. The luggage has to be closed, also after an error.
func (p *passage) receiveAll() (*savedState, luggage, error) {
	l := luggage{}
	for {
		m, err := p.receive()
		if err != nil {
			return nil, l, err
		}
		if m.kind == passState && len(m.fds) == 1 {
			s, err := readMemory(m.fds[0])
			return s, l, err
		}
		err = m.is(passPart)
		if err == nil && (len(m.fds) == 0 || len(m.fds) != len(m.numbers) || len(l)+len(m.fds) > maxPassed) {
			err = fmt.Errorf("%w: %d descriptors, %d numbers", errPassage, len(m.fds), len(m.numbers))
		}
		if err != nil {
			closeFDs(m.fds)
			return nil, l, err
		}
		for i, n := range m.numbers {
			if old, ok := l[n]; ok {
				_ = unix.Close(old)
			}
			l[n] = m.fds[i]
		}
	}
}

// readMemory is readState for a descriptor that must be one of a memory file: to read it
// never takes long.
func readMemory(fd int) (*savedState, error) {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("state of the former program: not in a memory file: %w", err)
	}
	return readState(fd)
}

// invitation is what a supervisor keeps beside its descriptor.
func invitation() []byte {
	e := tlv.Start(invitationMagic, passageVersion, passageReader)
	e.Uint(tagInvitationPID, uint64(os.Getpid()))
	return e.Finish()
}

// checkInvitation returns the pid of who wrote an invitation, for messages.
func checkInvitation(text []byte) (pid uint64, err error) {
	records, err := tlv.Read(text, invitationMagic, passageVersion, tagInvitationPID)
	if err != nil {
		return 0, fmt.Errorf("what the supervisor keeps is of no daemon for guests: %w", err)
	}
	for _, r := range records {
		if pid, err = r.Uint(); err != nil {
			return 0, err
		}
	}
	return pid, nil
}
