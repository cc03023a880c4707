package devfuse

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/mountinfo"
	"vrafs/internal/opener"
)

const (
	device = "/dev/fuse"

	// cloneRequest is FUSE_DEV_IOC_CLONE, _IOR(229, 0, uint32).
	cloneRequest = 0x8004e500
)

// A Conn is a connection to the kernel: one mount.
type Conn struct {
	o      opener.Opener
	fd     int
	dir    string // of place
	id     uint32 // of the connection, the minor number of its st_dev
	helper bool   // mounted by fusermount3

	mu      sync.Mutex
	mounted bool
}

// Dir is the mountpoint: absolute, links on the way resolved.
func (c *Conn) Dir() string { return c.dir }

// ID is the number of the connection under /sys/fs/fuse/connections.
func (c *Conn) ID() uint32 { return c.id }

// FD is the descriptor of the connection, for handing it to another process. It
// stays the Conn's.
func (c *Conn) FD() int { return c.fd }

// Adopt takes over a connection whose mount another process has made: fd is its
// descriptor, which is the Conn's from now on, dir the mountpoint. With an error it
// stays the caller's.
func Adopt(o opener.Opener, fd int, dir string) (*Conn, error) {
	at, err := mountinfo.Place(dir)
	if err != nil {
		return nil, fmt.Errorf("mountpoint %s: %w", dir, err)
	}
	id, err := connectionID(o, at)
	if err != nil {
		return nil, err
	}
	return AdoptID(o, fd, at, id)
}

// AdoptID is Adopt for a connection whose number is known. Its mount may have been
// taken away from dir, and still be used by whoever had it open.
func AdoptID(o opener.Opener, fd int, dir string, id uint32) (*Conn, error) {
	at, err := mountinfo.Place(dir)
	if err != nil {
		at = dir // gone with its directory, so that nothing is mounted there
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("adopt a connection: %w", err)
	}
	return &Conn{o: o, fd: fd, dir: at, id: id, mounted: true}, nil
}

// connectionID finds the connection of a mountpoint without asking the file system
// behind it.
func connectionID(o opener.Opener, dir string) (uint32, error) {
	minor, err := mountinfo.Device(o, dir)
	if err != nil {
		return 0, fmt.Errorf("connection of %s: %w", dir, err)
	}
	return minor, nil
}

// clone opens one more descriptor of the connection (FUSE_DEV_IOC_CLONE).
func (c *Conn) clone() (int, error) {
	fd, err := openDevice(c.o)
	if err != nil {
		return -1, err
	}
	if err := unix.IoctlSetPointerInt(fd, cloneRequest, c.fd); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("clone %s: %w", device, err)
	}
	return fd, nil
}

// openDevice opens /dev/fuse for reads that do not block.
func openDevice(o opener.Opener) (int, error) {
	f, err := o.Open(device, os.O_RDWR, 0)
	if err != nil {
		return -1, fmt.Errorf("%w (is the fuse module loaded?)", err)
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("dup %s: %w", device, err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("%s: %w", device, err)
	}
	return fd, nil
}

// Unmount takes the mount away, lazily: files that are open stay usable as long as
// the connection is served. It does nothing once the mount is gone.
func (c *Conn) Unmount() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mounted {
		return nil
	}
	c.mounted = false
	if minor, err := mountinfo.Device(c.o, c.dir); err != nil || minor != c.id {
		return nil // somebody else has unmounted it, perhaps mounted something instead
	}
	if c.ended() && !dead(c.dir) {
		return nil // another's mount has our number now
	}
	return c.detach()
}

// detach takes away what is mounted on the mountpoint.
func (c *Conn) detach() error {
	if c.helper {
		return unmountByHelper(c.dir)
	}
	err := unix.Unmount(c.dir, unix.MNT_DETACH)
	if err == unix.EPERM { // a predecessor mounted by the helper
		return unmountByHelper(c.dir)
	}
	if err != nil && err != unix.EINVAL {
		return fmt.Errorf("unmount %s: %w", c.dir, err)
	}
	return nil
}

// ended reports whether the kernel has ended the connection. Its number may then be
// another's.
func (c *Conn) ended() bool {
	set := []unix.PollFd{{Fd: int32(c.fd)}}
	n, err := unix.Poll(set, 0)
	return err == nil && n > 0 && set[0].Revents&unix.POLLERR != 0
}

// deadLimit is how long a mount is given to answer that it is dead. One of an aborted
// connection says so at once; a living one may take its time.
const deadLimit = 200 * time.Millisecond

// dead reports whether what is mounted on dir has no connection any more.
func dead(dir string) bool {
	answer := make(chan error, 1)
	go func() { // left behind if another's mount never answers
		var st unix.Statfs_t
		answer <- unix.Statfs(dir, &st)
	}()
	limit := time.NewTimer(deadLimit)
	defer limit.Stop()
	select {
	case err := <-answer:
		return err == unix.ENOTCONN || err == unix.ECONNABORTED
	case <-limit.C:
		return false
	}
}

// Abort ends the connection at once: every request, waiting or new, fails. It
// needs the kernel's fusectl file system.
func (c *Conn) Abort() error { return c.control("abort") }

// Flush fails the requests that a predecessor had read and not answered, where the
// kernel has this control.
func (c *Conn) Flush() error { return c.control("flush") }

// control writes to a control of the connection in fusectl.
func (c *Conn) control(name string) error {
	path := filepath.Join("/sys/fs/fuse/connections", strconv.FormatUint(uint64(c.id), 10), name)
	f, err := c.o.Open(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	_, err = f.WriteString("1")
	return errors.Join(err, f.Close())
}

// Close closes the descriptor. Without another holder of it the kernel ends the
// connection; a mount that is still there then fails every access.
func (c *Conn) Close() error { return unix.Close(c.fd) }
