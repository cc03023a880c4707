// Package testsupervisor keeps what a daemon gives for its successor, as
// nydus-snapshotter's supervisor does.
//
//	Keep   PUT fuse/sendfd  --> the daemon connects and sends state and a descriptor
//	Give   PUT takeover     --> the successor connects and is sent both
//
// Trust: none needed. Concurrency: one call at a time. Source: nydusd.md 7.
package testsupervisor

import (
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// firstBytes is what the first message holds at most; the descriptor comes with it.
const firstBytes = 16 << 10

// A Supervisor listens for one daemon.
type Supervisor struct {
	Path  string // its socket
	State []byte // what is kept, opaque
	FD    int    // -1: none; the supervisor's to close

	ln *net.UnixListener
}

// New listens at path.
func New(path string) (*Supervisor, error) {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		return nil, err
	}
	return &Supervisor{Path: path, FD: -1, ln: ln}, nil
}

// Close forgets what is kept.
func (s *Supervisor) Close() error {
	s.keep(nil, -1)
	return s.ln.Close()
}

// Keep takes what a daemon sends while ask tells it to.
func (s *Supervisor) Keep(ask func() error) error { return s.beside(ask, s.receive) }

// Give sends what is kept to a successor that ask tells to take it.
func (s *Supervisor) Give(ask func() error) error {
	return s.beside(ask, func(conn *net.UnixConn) error { return send(conn, s.State, s.FD) })
}

// Send gives the next to connect any state and descriptor, true or not.
func (s *Supervisor) Send(state []byte, fd int) error {
	return s.serve(func(conn *net.UnixConn) error { return send(conn, state, fd) })
}

// Receive takes what the next to connect sends.
func (s *Supervisor) Receive() error { return s.serve(s.receive) }

func (s *Supervisor) beside(ask func() error, f func(*net.UnixConn) error) error {
	done := make(chan error, 1)
	go func() { done <- s.serve(f) }()
	if err := ask(); err != nil {
		return err
	}
	return <-done
}

// serve runs f with the next connection.
func (s *Supervisor) serve(f func(*net.UnixConn) error) error {
	conn, err := s.ln.AcceptUnix()
	if err != nil {
		return err
	}
	return errors.Join(f(conn), conn.Close())
}

func (s *Supervisor) receive(conn *net.UnixConn) error {
	first, oob := make([]byte, 256<<10), make([]byte, 256)
	n, m, _, _, err := conn.ReadMsgUnix(first, oob)
	if err != nil {
		return err
	}
	fd, err := only(oob[:m])
	if err != nil {
		return err
	}
	rest, err := io.ReadAll(conn)
	s.keep(append(first[:n], rest...), fd)
	return err
}

// only is the one descriptor of a message.
func only(oob []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1, err
	}
	if len(messages) != 1 {
		return -1, fmt.Errorf("%d control messages, want 1", len(messages))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return -1, err
	}
	if len(fds) != 1 {
		return -1, fmt.Errorf("%d descriptors, want 1", len(fds))
	}
	return fds[0], nil
}

func (s *Supervisor) keep(state []byte, fd int) {
	if s.FD >= 0 {
		_ = unix.Close(s.FD)
	}
	s.State, s.FD = state, fd
}

func send(conn *net.UnixConn, state []byte, fd int) error {
	n, _, err := conn.WriteMsgUnix(state[:min(len(state), firstBytes)], unix.UnixRights(fd), nil)
	if err != nil {
		return err
	}
	_, err = conn.Write(state[n:])
	return err
}
