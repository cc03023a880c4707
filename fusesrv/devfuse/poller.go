package devfuse

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A poller is where one thread sleeps.
type poller struct {
	ep     int
	events [2]unix.EpollEvent
}

// newPoller returns a poller that wakes for a request on fd, alone among those
// that wait for the same connection, and for wake.
func newPoller(fd, wake int) (*poller, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	p := &poller{ep: ep}
	for _, e := range []unix.EpollEvent{
		{Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, Fd: int32(fd)},
		{Events: unix.EPOLLIN, Fd: int32(wake)},
	} {
		if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, int(e.Fd), &e); err != nil {
			p.close()
			return nil, fmt.Errorf("epoll: %w", err)
		}
	}
	return p, nil
}

// wait returns when there may be something to do.
func (p *poller) wait() error {
	_, err := unix.EpollWait(p.ep, p.events[:], -1)
	if err != nil && err != unix.EINTR {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

func (p *poller) close() { _ = unix.Close(p.ep) }
