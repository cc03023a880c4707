package scatter

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// vector points at p. Preconditions: p is not empty and outlives the call that the
// vector is for.
func vector(p []byte) unix.Iovec {
	v := unix.Iovec{Base: unsafe.SliceData(p)}
	v.SetLen(len(p))
	return v
}

// Read is preadv2(2), until no signal interrupts it.
func Read(fd int, iov []unix.Iovec, off uint64, flags int) (int, unix.Errno) {
	return transfer(unix.SYS_PREADV2, fd, iov, off, flags)
}

// Write is pwritev2(2), until no signal interrupts it.
func Write(fd int, iov []unix.Iovec, off uint64, flags int) (int, unix.Errno) {
	return transfer(unix.SYS_PWRITEV2, fd, iov, off, flags)
}

func transfer(call uintptr, fd int, iov []unix.Iovec, off uint64, flags int) (int, unix.Errno) {
	for {
		n, _, errno := unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(iov))),
			uintptr(len(iov)), uintptr(off), 0, uintptr(flags))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}
