package devfuse

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
)

// Notifications (enum fuse_notify_code).
const (
	notifyInvalInode = 2
	notifyInvalEntry = 3
	notifyResend     = 7
	notifyIncEpoch   = 8
)

// notify sends a notification: an out header without unique, its error being the
// code, and the rest.
func notify(fd int, code uint32, parts ...[]byte) error {
	b := make([]byte, fusesrv.OutHeaderSize, 128)
	for _, p := range parts {
		b = append(b, p...)
	}
	binary.LittleEndian.PutUint32(b[0:], uint32(len(b)))
	binary.LittleEndian.PutUint32(b[4:], code)
	for {
		if _, err := unix.Write(fd, b); err != unix.EINTR {
			return err
		}
	}
}

// Invalidate makes the kernel forget what it knows of a name in the directory of a
// node, and the list of that directory; "" is every name. Every name at once takes
// Linux 6.16: an older kernel shows names that are gone until they are opened. What
// the kernel does not know is no error.
func (c *Conn) Invalidate(parent uint64, name string) error {
	err := c.invalidateNames(parent, name)
	inode := make([]byte, 24) // ino, off, len; 0 and 0 are the whole
	binary.LittleEndian.PutUint64(inode, parent)
	if e := notify(c.fd, notifyInvalInode, inode); e != unix.ENOENT {
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("invalidate %q in node %#x: %w", name, parent, err)
	}
	return nil
}

func (c *Conn) invalidateNames(parent uint64, name string) error {
	if name == "" {
		return notify(c.fd, notifyIncEpoch)
	}
	h := make([]byte, 16) // parent, namelen, flags
	binary.LittleEndian.PutUint64(h, parent)
	binary.LittleEndian.PutUint32(h[8:], uint32(len(name)))
	if err := notify(c.fd, notifyInvalEntry, h, []byte(name), []byte{0}); err != unix.ENOENT {
		return err
	}
	return nil
}

// Resend asks the kernel to send requests again that were read and not answered,
// by a predecessor that has died (Linux 6.9).
func (c *Conn) Resend() error {
	if err := notify(c.fd, notifyResend); err != nil {
		// Some older kernels have it as a control.
		if c.control("resend") == nil {
			return nil
		}
		return fmt.Errorf("resend: %w", err)
	}
	return nil
}
