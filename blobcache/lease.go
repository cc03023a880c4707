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
	if err := leasable(f); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrInUse, f.Name(), err)
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		return fmt.Errorf("%w: %s: write lease: %w", ErrInUse, f.Name(), err)
	}
	return nil
}

// leasable refuses files whose lease would say too little. A mapping of a file in an
// overlayfs belongs to the file beneath, and the kernel grants the lease in spite of
// it; FUSE (virtiofs too) has other users that this kernel knows nothing of. With a
// second name a file has a second chunk map, whose bits nobody would clear.
func leasable(f *os.File) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return err
	}
	if fs.Type == unix.OVERLAYFS_SUPER_MAGIC || fs.Type == unix.FUSE_SUPER_MAGIC {
		return errors.New("its file system can't tell who uses it; evicting needs a cache directory on a local one")
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Nlink > 1 {
		return errors.New("it has another name, too")
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

// A patient opener opens files of the cache past evictions that hold their lease.
type patient struct{ opener.Opener }

func (p patient) Open(path string, flags int, perm uint32) (f *os.File, err error) {
	for range leaseTries {
		if f, err = p.Opener.Open(path, flags|unix.O_NONBLOCK, perm); !errors.Is(err, unix.EWOULDBLOCK) {
			return f, err
		}
		time.Sleep(leasePause)
	}
	return nil, err
}
