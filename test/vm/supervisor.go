package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Supervisor keeps what a daemon gives it for its successor, as nydus-snapshotter does.
type Supervisor struct {
	// Path is its socket.
	Path string

	ln    *net.UnixListener
	state []byte
	fd    int
}

// NewSupervisor listens in a directory.
func NewSupervisor(dir string) (*Supervisor, error) {
	s := &Supervisor{Path: filepath.Join(dir, "supervisor.sock"), fd: -1}
	var err error
	s.ln, err = net.ListenUnix("unix", &net.UnixAddr{Name: s.Path})
	return s, err
}

// Close forgets what is kept.
func (s *Supervisor) Close() error {
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
	}
	return s.ln.Close()
}

// Args are those of a daemon that uses the supervisor.
func (s *Supervisor) Args() []string { return []string{"--supervisor", s.Path, "--id", "vm"} }

// beside runs f with the next connection while the daemon is asked for something.
func (s *Supervisor) beside(ask func() error, f func(conn *net.UnixConn) error) error {
	done := make(chan error, 1)
	go func() {
		conn, err := s.ln.AcceptUnix()
		if err == nil {
			err = errors.Join(f(conn), conn.Close())
		}
		done <- err
	}()
	if err := ask(); err != nil {
		return err
	}
	return <-done
}

// keep takes what a daemon sends.
func (s *Supervisor) keep(conn *net.UnixConn) error {
	first, oob := make([]byte, 64<<10), make([]byte, 256)
	n, m, _, _, err := conn.ReadMsgUnix(first, oob)
	if err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:m])
	if err != nil || len(messages) != 1 {
		return fmt.Errorf("%d control messages: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return fmt.Errorf("%d descriptors: %w", len(fds), err)
	}
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
	}
	s.fd = fds[0]
	rest, err := io.ReadAll(conn)
	s.state = append(first[:n], rest...)
	return err
}

// give sends it on.
func (s *Supervisor) give(conn *net.UnixConn) error {
	_, _, err := conn.WriteMsgUnix(s.state, unix.UnixRights(s.fd), nil)
	return err
}

// Follow has another process go on for the daemon, which was started with the supervisor's
// Args, by nydus-snapshotter's sequence. It returns how long requests stood still, in seconds.
func (d *Daemon) Follow(ctx context.Context, s *Supervisor) (seconds float64, err error) {
	put := func(d *Daemon, command string) error {
		return d.API(ctx, http.MethodPut, "/api/v1/daemon/"+command, nil, nil)
	}
	if err := s.beside(func() error { return put(d, "fuse/sendfd") }, s.keep); err != nil {
		return 0, err
	}
	next := &Daemon{Dir: d.Dir, Socket: d.Socket, opts: d.opts, former: d.former + 1}
	next.client.Transport = unixTransport(next.apiSocket())
	if err := next.start(ctx, "INIT", "--upgrade"); err != nil {
		return 0, err
	}
	if err := s.beside(func() error { return put(next, "fuse/takeover") }, s.give); err != nil {
		return 0, err
	}
	if err := put(d, "exit"); err != nil {
		return 0, err
	}
	<-d.exited
	d.client.CloseIdleConnections()
	d.cmd, d.exited, d.former, d.client = next.cmd, next.exited, next.former, next.client
	if err := put(d, "start"); err != nil {
		return 0, err
	}
	for {
		text, err := d.metrics(ctx)
		if err != nil {
			return 0, err
		}
		if value, ok := strings.CutPrefix(lineOf(text, "vrafs_upgrade_pause_seconds "), "vrafs_upgrade_pause_seconds "); ok && value != "0" {
			return strconv.ParseFloat(value, 64)
		}
		time.Sleep(time.Millisecond)
	}
}
