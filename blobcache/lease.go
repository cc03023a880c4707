package blobcache

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/opener"
)

// ErrInUse says that a file of the cache is open or mapped elsewhere, or that its
// file system can't tell.
var ErrInUse = errors.New("in use")

// lease takes the kernel's write lease on f: there is no other open file
// description and no mapping of the file, in this process or any other, and who
// opens it waits until unlease (fcntl(2), F_SETLEASE). The kernel does not count
// copies of f's own description.
func lease(f *os.File) error {
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		return fmt.Errorf("%w: %s: write lease: %w", ErrInUse, f.Name(), err)
	}
	return nil
}

// awaited reports whether somebody waits in open(2) for the lease on f to end.
func awaited(f *os.File) bool {
	kind, err := unix.FcntlInt(f.Fd(), unix.F_GETLEASE, 0)
	return err != nil || kind != unix.F_WRLCK
}

func unlease(f *os.File) { _, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK) }

// Leases end within milliseconds, so an opening waits for one as often as this.
const (
	leaseTries = 500
	leasePause = 10 * time.Millisecond
)

// openPast opens a file of the cache, past an eviction that holds its lease.
func openPast(o opener.Opener, path string, flags int, perm uint32) (f *os.File, err error) {
	for range leaseTries {
		if f, err = o.Open(path, flags|unix.O_NONBLOCK, perm); !errors.Is(err, unix.EWOULDBLOCK) {
			return f, err
		}
		time.Sleep(leasePause)
	}
	return nil, err
}
