package vhostuser

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// one is what a signal writes to an eventfd.
var one = []byte{1, 0, 0, 0, 0, 0, 0, 0}

// newEventFD returns an eventfd of our own.
func newEventFD() (int, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("eventfd: %w", err)
	}
	return fd, nil
}

// signal adds one to an eventfd, unless it would block. The front-end's
// descriptors are often non-blocking; where they are not, a full counter must
// not stop us, and their flags are not ours to change.
func signal(fd int, nonblock bool) {
	if fd < 0 {
		return
	}
	if !nonblock {
		p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if n, err := unix.Ppoll(p[:], &unix.Timespec{}, nil); err != nil || n == 0 || p[0].Revents&unix.POLLOUT == 0 {
			return // full: the reader has something to read
		}
	}
	// EAGAIN means the counter is full, so the reader is told already.
	_, _ = unix.Write(fd, one)
}

// A counter is where an eventfd's value is read to: scratch of one goroutine.
type counter [][]byte

func newCounter() counter { return counter{make([]byte, 8)} }

// drain resets an eventfd without ever waiting, whoever else reads it, and
// reports whether it is one.
func (c counter) drain(fd int) bool {
	_, err := unix.Preadv2(fd, c, -1, unix.RWF_NOWAIT)
	if err == unix.EOPNOTSUPP {
		_, err = unix.Read(fd, c[0]) // an old kernel; poll has said it is readable
	}
	return err == nil || err == unix.EAGAIN || err == unix.EINTR
}

// checkEventFD refuses what is no eventfd: a pipe or socket could block us, a
// regular file is always readable. Eventfds are anonymous inodes, without a
// file type. It also tells whether the descriptor is non-blocking.
func checkEventFD(fd int) (nonblock bool, err error) {
	kind, err := fileType(fd)
	if err != nil {
		return false, err
	}
	if kind != 0 {
		return false, fmt.Errorf("descriptor of type %#o is no eventfd", kind)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return false, fmt.Errorf("fcntl: %w", err)
	}
	return flags&unix.O_NONBLOCK != 0, nil
}

// pollOr blocks until fd is ready for events, or cancel (an eventfd) readable: then
// it gives context.Canceled.
func pollOr(cancel, fd int, events int16) error {
	for {
		p := [2]unix.PollFd{{Fd: int32(fd), Events: events}, {Fd: int32(cancel), Events: unix.POLLIN}}
		_, err := unix.Ppoll(p[:], nil, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("ppoll: %w", err)
		case p[1].Revents != 0:
			return context.Canceled
		case p[0].Revents != 0:
			return nil
		}
	}
}
