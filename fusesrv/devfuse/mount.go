package devfuse

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"vrafs/internal/mountinfo"
	"vrafs/internal/opener"
)

const (
	source = "rafs" // first field of the line in /proc/mounts
	fstype = "fuse"

	// maxRead is the longest READ that the kernel sends: 1 MiB and a page, as nydusd
	// has it.
	maxRead = 1<<20 + 4096
)

// MountOptions choose how a directory is mounted.
type MountOptions struct {
	Writable bool // without it nothing can be opened for writing
	Opener   opener.Opener
}

// Mount mounts a connection on the directory dir. Nothing answers before Serve:
// whoever looks into the mount waits. Without privileges fusermount3 mounts, and
// only the user of the process can see the files.
func Mount(dir string, o MountOptions) (*Conn, error) {
	at, err := mountinfo.Place(dir)
	if err != nil {
		return nil, fmt.Errorf("mountpoint %s: %w", dir, err)
	}
	// A dead mount must not be asked for anything.
	if st, err := os.Lstat(at); err != nil && !errors.Is(err, unix.ENOTCONN) {
		return nil, fmt.Errorf("mountpoint: %w", err)
	} else if err == nil && !st.IsDir() {
		return nil, fmt.Errorf("mountpoint %s: %w", at, unix.ENOTDIR)
	}
	c := &Conn{o: o.Opener, dir: at, mounted: true}
	c.fd, err = mountDirectly(at, o)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		c.helper = true
		var byHelper error
		if c.fd, byHelper = mountByHelper(at, o.Writable); byHelper != nil {
			return nil, errors.Join(err, byHelper)
		}
	} else if err != nil {
		return nil, err
	}
	if c.id, err = connectionID(c.o, at); err != nil {
		err = errors.Join(err, c.detach(), c.Close())
		return nil, err
	}
	return c, nil
}

// mountDirectly mounts a new connection and gives its descriptor.
func mountDirectly(dir string, o MountOptions) (int, error) {
	fd, err := openDevice(o.Opener)
	if err != nil {
		return -1, fmt.Errorf("mount on %s: %w", dir, err)
	}
	if err := unix.Mount(source, dir, fstype, mountFlags(o.Writable), mountData(fd)); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("mount on %s: %w", dir, err)
	}
	return fd, nil
}

func mountFlags(writable bool) uintptr {
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOATIME)
	if !writable {
		flags |= unix.MS_RDONLY
	}
	return flags
}

// mountData is the option string of mount(2).
func mountData(fd int) string {
	return fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d,default_permissions,allow_other,max_read=%d",
		fd, os.Geteuid(), os.Getegid(), maxRead)
}

// Mounted reports whether a FUSE file system is mounted on dir. It doesn't touch it.
func Mounted(o opener.Opener, dir string) bool {
	at, err := mountinfo.Place(dir)
	if err == nil {
		_, err = mountinfo.Device(o, at)
	}
	return err == nil
}
