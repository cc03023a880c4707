package imagefs

import (
	"errors"
	"syscall"

	"vrafs/rafs"
)

// errnoOf is the one place where errors become numbers. What is not about the
// question or the image's metadata is about its data: EIO.
func errnoOf(err error) syscall.Errno {
	var e syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.Is(err, rafs.ErrNotExist):
		return syscall.ENOENT
	case errors.Is(err, rafs.ErrNotDir):
		return syscall.ENOTDIR
	case errors.Is(err, rafs.ErrNotSymlink):
		return syscall.EINVAL
	case errors.Is(err, rafs.ErrNotRegular):
		return syscall.EISDIR
	case errors.Is(err, rafs.ErrCorrupt), errors.Is(err, rafs.ErrUnsupported):
		return syscall.EUCLEAN
	case errors.As(err, &e) && e == syscall.EFAULT:
		return syscall.EFAULT
	}
	return syscall.EIO
}
