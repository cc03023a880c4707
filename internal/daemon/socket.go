package daemon

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/opener"
)

// A socket is a listening Unix socket at a path.
type socket struct {
	*net.UnixListener
	path string
	dev  uint64
	ino  uint64
	o    opener.Opener
}

// listen makes a socket at path in place of whatever is there. The old name goes
// over to the new socket in one step, so a client that tries again and again
// never finds the name missing, and the name may be longer than an address. A
// directory of another user's gives the socket to that user.
func listen(o opener.Opener, path string) (*socket, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	dir, err := o.Open(filepath.Dir(abs), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	defer dir.Close()
	name := fmt.Sprintf(".vrafsd-%d", os.Getpid())
	temp := filepath.Join(filepath.Dir(abs), name)
	_ = o.Remove(temp) // of a dead process with our pid
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false)
	s := &socket{UnixListener: ln, path: abs, o: o}
	if err := s.place(dir, temp); err != nil {
		_ = o.Remove(temp)
		_ = ln.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return s, nil
}

// place gives the socket at temp to the owner of its directory and moves it to
// its name.
func (s *socket) place(dir *os.File, temp string) error {
	var d, st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &d); err != nil {
		return err
	}
	if d.Uid != uint32(os.Geteuid()) {
		_ = os.Lchown(temp, int(d.Uid), int(d.Gid)) // without the right to, it stays ours
	}
	if err := unix.Lstat(temp, &st); err != nil {
		return err
	}
	s.dev, s.ino = st.Dev, st.Ino
	return s.o.Rename(temp, s.path)
}

// identity tells the socket's name from another's at the same path.
func (s *socket) identity() []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, s.dev), s.ino)
}

// inheritSocket goes on with a predecessor's socket: its descriptor, path and
// identity.
func inheritSocket(o opener.Opener, f *os.File, path string, identity []byte) (*socket, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("inherited socket %s: %w", abs, err)
	}
	u, ok := ln.(*net.UnixListener)
	if !ok || len(identity) != 16 {
		_ = ln.Close()
		return nil, fmt.Errorf("inherited socket %s: not what a control socket is", abs)
	}
	u.SetUnlinkOnClose(false)
	return &socket{UnixListener: u, path: abs, o: o,
		dev: binary.LittleEndian.Uint64(identity), ino: binary.LittleEndian.Uint64(identity[8:])}, nil
}

// withFD calls f with the descriptor, which stays the socket's.
func (s *socket) withFD(f func(fd int) error) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// saved names the socket and its descriptor for a successor.
func (s *socket) saved() (savedSocket, error) {
	to := savedSocket{identity: s.identity()}
	err := s.withFD(func(fd int) error { to.fd = fd; return nil })
	return to, err
}

// isNamed is an error if something else, or nothing, is at the socket's path.
func (s *socket) isNamed() error {
	var st unix.Stat_t
	if err := unix.Lstat(s.path, &st); err != nil {
		return fmt.Errorf("socket of the former daemon: %s: %w", s.path, err)
	}
	if st.Dev != s.dev || st.Ino != s.ino {
		return fmt.Errorf("%s is not the socket of the former daemon", s.path)
	}
	return nil
}

// unlink deletes the socket's name unless another socket has taken it.
func (s *socket) unlink() {
	var st unix.Stat_t
	if unix.Lstat(s.path, &st) == nil && st.Dev == s.dev && st.Ino == s.ino {
		_ = s.o.Remove(s.path)
	}
}

// remove is unlink and Close.
func (s *socket) remove() {
	s.unlink()
	_ = s.Close()
}

// A leftover says what is at the path of a socket before we take it.
type leftover uint8

const (
	leftNothing leftover = iota
	leftDead             // a socket that nobody listens on: its owner was killed
	leftAlive            // somebody listens
)

// probe looks at the path of a socket.
func probe(path string) leftover {
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = c.Close()
		return leftAlive
	case errors.Is(err, unix.ECONNREFUSED):
		return leftDead
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTSOCK):
		return leftNothing
	}
	return leftAlive // a full backlog, or no permission: not ours to judge dead
}
