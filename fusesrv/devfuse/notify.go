package devfuse

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
)

// Notifications (enum fuse_notify_code).
const (
	notifyInvalEntry = 3
	notifyResend     = 7
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

// InvalidateEntry makes the kernel forget what it knows of a name. A name that it
// does not know is no error.
func (c *Conn) InvalidateEntry(parent uint64, name string) error {
	h := make([]byte, 16) // parent, namelen, flags
	binary.LittleEndian.PutUint64(h, parent)
	binary.LittleEndian.PutUint32(h[8:], uint32(len(name)))
	err := notify(c.fd, notifyInvalEntry, h, []byte(name), []byte{0})
	if err != nil && err != unix.ENOENT {
		return fmt.Errorf("invalidate %q: %w", name, err)
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
