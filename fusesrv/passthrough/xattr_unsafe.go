package passthrough

import (
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// xattrArgs is struct xattr_args of setxattrat(2).
type xattrArgs struct {
	value       unsafe.Pointer
	size, flags uint32
}

const xattrArgsSize = 16

// A procPath is /proc/self/fd/N: how attributes are reached before Linux 6.13.
type procPath [32]byte

func (p *procPath) of(fd int) {
	b := strconv.AppendInt(append(p[:0], "/proc/self/fd/"...), int64(fd), 10)
	p[len(b)] = 0
}

// base points at b, at nothing if it is empty.
func base(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

// The calls go through /proc/self/fd, since a descriptor may be O_PATH: such ones are
// EBADF with AT_EMPTY_PATH here. What the entry leads to is not followed if it is a
// symlink.

// getXattr reads an attribute of what a descriptor is of.
func (f *FS) getXattr(fd int, name *cname, b []byte) (int, syscall.Errno) {
	args := xattrArgs{value: base(b), size: uint32(len(b))}
	var n cname
	n.number(fd)
	got, _, e := unix.Syscall6(unix.SYS_GETXATTRAT, uintptr(f.proc), uintptr(unsafe.Pointer(&n)), 0,
		uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&args)), xattrArgsSize)
	if e == unix.ENOSYS {
		var p procPath
		p.of(fd)
		got, _, e = unix.Syscall6(unix.SYS_GETXATTR, uintptr(unsafe.Pointer(&p)), uintptr(unsafe.Pointer(name)), uintptr(base(b)), uintptr(len(b)), 0, 0)
	}
	return int(got), e
}

// listXattr lists the attributes of what a descriptor is of.
func (f *FS) listXattr(fd int, b []byte) (int, syscall.Errno) {
	var n cname
	n.number(fd)
	got, _, e := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(f.proc), uintptr(unsafe.Pointer(&n)), 0,
		uintptr(base(b)), uintptr(len(b)), 0)
	if e == unix.ENOSYS {
		var p procPath
		p.of(fd)
		got, _, e = unix.Syscall(unix.SYS_LISTXATTR, uintptr(unsafe.Pointer(&p)), uintptr(base(b)), uintptr(len(b)))
	}
	return int(got), e
}

// setXattr sets an attribute of what a descriptor is of.
func (f *FS) setXattr(fd int, name *cname, value []byte, flags uint32) syscall.Errno {
	args := xattrArgs{value: base(value), size: uint32(len(value)), flags: flags}
	var n cname
	n.number(fd)
	_, _, e := unix.Syscall6(unix.SYS_SETXATTRAT, uintptr(f.proc), uintptr(unsafe.Pointer(&n)), 0,
		uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(&args)), xattrArgsSize)
	if e == unix.ENOSYS {
		var p procPath
		p.of(fd)
		_, _, e = unix.Syscall6(unix.SYS_SETXATTR, uintptr(unsafe.Pointer(&p)), uintptr(unsafe.Pointer(name)), uintptr(base(value)),
			uintptr(len(value)), uintptr(flags), 0)
	}
	return e
}

// removeXattr removes an attribute of what a descriptor is of.
func (f *FS) removeXattr(fd int, name *cname) syscall.Errno {
	var n cname
	n.number(fd)
	_, _, e := unix.Syscall6(unix.SYS_REMOVEXATTRAT, uintptr(f.proc), uintptr(unsafe.Pointer(&n)), 0,
		uintptr(unsafe.Pointer(name)), 0, 0)
	if e == unix.ENOSYS {
		var p procPath
		p.of(fd)
		_, _, e = unix.Syscall(unix.SYS_REMOVEXATTR, uintptr(unsafe.Pointer(&p)), uintptr(unsafe.Pointer(name)), 0)
	}
	return e
}
