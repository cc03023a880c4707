package passthrough

import (
	"bytes"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxName = 255
	// statxMask is what every stat asks for: the ordinary fields, the time of birth,
	// and the mount.
	statxMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME | unix.STATX_MNT_ID
	// inside keeps an open by name below its directory, also if the name were none.
	inside = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS
	// openTries bounds the tries of an open that others' renames disturb.
	openTries = 16
)

// A cname is the name of a directory's entry with its NUL. The zero value is the
// empty name, which stands for the descriptor itself with AT_EMPTY_PATH.
type cname [maxName + 1]byte

// self is the empty name.
var self cname

// set stores a name. Every name that a guest says comes through here: what could
// lead anywhere but to an entry of the directory is EINVAL.
func (c *cname) set(name []byte) unix.Errno {
	switch {
	case len(name) == 0 || len(name) > maxName:
		return unix.EINVAL
	case bytes.IndexByte(name, '/') >= 0 || bytes.IndexByte(name, 0) >= 0:
		return unix.EINVAL
	case string(name) == "." || string(name) == "..":
		return unix.EINVAL
	}
	c[copy(c[:], name)] = 0
	return 0
}

// number stores a decimal number, for an entry of /proc/self/fd.
func (c *cname) number(n int) { c[len(strconv.AppendInt(c[:0], int64(n), 10))] = 0 }

func errnoOf(_, _ uintptr, e unix.Errno) unix.Errno { return e }

// statx is statx(2) of a name, symlinks themselves, no automount.
func statx(dir int, name *cname, st *unix.Statx_t) unix.Errno {
	return stat(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, st)
}

// fstatx is statx(2) of a descriptor.
func fstatx(fd int, st *unix.Statx_t) unix.Errno { return stat(fd, &self, unix.AT_EMPTY_PATH, st) }

func stat(dir int, name *cname, flags uintptr, st *unix.Statx_t) unix.Errno {
	return errnoOf(unix.Syscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(name)), flags, statxMask,
		uintptr(unsafe.Pointer(st)), 0))
}

// openAt opens an entry of a directory. A symlink is not followed.
func openAt(dir int, name *cname, flags, mode uint64) (int, unix.Errno) {
	how := unix.OpenHow{Flags: flags | unix.O_NOFOLLOW | unix.O_CLOEXEC, Mode: mode, Resolve: inside}
	return openHow(dir, name, &how)
}

func openHow(dir int, name *cname, how *unix.OpenHow) (fd int, e unix.Errno) {
	for range openTries {
		var r uintptr
		r, _, e = unix.Syscall6(unix.SYS_OPENAT2, uintptr(dir), uintptr(unsafe.Pointer(name)),
			uintptr(unsafe.Pointer(how)), unix.SizeofOpenHow, 0, 0)
		fd = int(r)
		if e != unix.EINTR && e != unix.EAGAIN {
			break
		}
	}
	if e != 0 {
		fd = -1
	}
	return fd, e
}

// reopen opens what a descriptor is of once more, through /proc/self/fd. It must be
// known to be a regular file or a directory.
func (f *FS) reopen(fd int, flags uint64) (int, unix.Errno) {
	var n cname
	n.number(fd)
	for {
		r, _, e := unix.Syscall6(unix.SYS_OPENAT, uintptr(f.proc), uintptr(unsafe.Pointer(&n)), uintptr(flags|unix.O_CLOEXEC), 0, 0, 0)
		switch e {
		case 0:
			return int(r), 0
		case unix.EINTR:
		default:
			return -1, e
		}
	}
}

// maxHandle is the longest file handle that a node has room for; ext4, xfs, btrfs and
// tmpfs need up to 20 bytes.
const maxHandle = 64

// A fileHandle is struct file_handle of name_to_handle_at(2); size 0 is none.
type fileHandle struct {
	size uint32
	kind int32
	b    [maxHandle]byte
}

// handleOf is name_to_handle_at(2); it gives the mount, too. flags may be
// AT_EMPTY_PATH with the empty name.
func handleOf(dir int, name *cname, flags uintptr, h *fileHandle) (mount int32, e unix.Errno) {
	h.size = maxHandle
	e = errnoOf(unix.Syscall6(unix.SYS_NAME_TO_HANDLE_AT, uintptr(dir), uintptr(unsafe.Pointer(name)),
		uintptr(unsafe.Pointer(h)), uintptr(unsafe.Pointer(&mount)), flags, 0))
	if e != 0 || h.size > maxHandle {
		h.size = 0
	}
	return mount, e
}

// openHandle is open_by_handle_at(2).
func openHandle(mount int, h *fileHandle, flags uint64) (int, unix.Errno) {
	for {
		r, _, e := unix.Syscall(unix.SYS_OPEN_BY_HANDLE_AT, uintptr(mount), uintptr(unsafe.Pointer(h)),
			uintptr(flags|unix.O_CLOEXEC|unix.O_NOFOLLOW))
		switch e {
		case 0:
			return int(r), 0
		case unix.EINTR:
		default:
			return -1, e
		}
	}
}

func mkdirAt(dir int, name *cname, mode uint32) unix.Errno {
	return errnoOf(unix.Syscall(unix.SYS_MKDIRAT, uintptr(dir), uintptr(unsafe.Pointer(name)), uintptr(mode)))
}

func mknodAt(dir int, name *cname, mode, rdev uint32) unix.Errno {
	return errnoOf(unix.Syscall6(unix.SYS_MKNODAT, uintptr(dir), uintptr(unsafe.Pointer(name)), uintptr(mode), uintptr(rdev), 0, 0))
}

// symlinkAt's target ends with NUL.
func symlinkAt(target []byte, dir int, name *cname) unix.Errno {
	return errnoOf(unix.Syscall(unix.SYS_SYMLINKAT, uintptr(unsafe.Pointer(unsafe.SliceData(target))), uintptr(dir),
		uintptr(unsafe.Pointer(name))))
}

func unlinkAt(dir int, name *cname, flags uintptr) unix.Errno {
	return errnoOf(unix.Syscall(unix.SYS_UNLINKAT, uintptr(dir), uintptr(unsafe.Pointer(name)), flags))
}

func renameAt(from int, old *cname, to int, new *cname, flags uint32) unix.Errno {
	return errnoOf(unix.Syscall6(unix.SYS_RENAMEAT2, uintptr(from), uintptr(unsafe.Pointer(old)), uintptr(to),
		uintptr(unsafe.Pointer(new)), uintptr(flags), 0))
}

// linkFD gives what a descriptor is of one more name.
func (f *FS) linkFD(fd int, dir int, name *cname) unix.Errno {
	e := errnoOf(unix.Syscall6(unix.SYS_LINKAT, uintptr(fd), uintptr(unsafe.Pointer(&self)), uintptr(dir),
		uintptr(unsafe.Pointer(name)), unix.AT_EMPTY_PATH, 0))
	if e != unix.ENOENT { // what the kernel says without CAP_DAC_READ_SEARCH
		return e
	}
	var n cname
	n.number(fd)
	return errnoOf(unix.Syscall6(unix.SYS_LINKAT, uintptr(f.proc), uintptr(unsafe.Pointer(&n)), uintptr(dir),
		uintptr(unsafe.Pointer(name)), unix.AT_SYMLINK_FOLLOW, 0))
}

// readLink stores the target of the symlink that a descriptor is of.
func readLink(fd int, b []byte) (int, unix.Errno) {
	n, _, e := unix.Syscall6(unix.SYS_READLINKAT, uintptr(fd), uintptr(unsafe.Pointer(&self)),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0)
	return int(n), e
}

// chmodFD changes the mode of what a descriptor is of, which may be O_PATH.
func (f *FS) chmodFD(fd int, mode uint32) unix.Errno {
	e := errnoOf(unix.Syscall6(unix.SYS_FCHMODAT2, uintptr(fd), uintptr(unsafe.Pointer(&self)), uintptr(mode), unix.AT_EMPTY_PATH, 0, 0))
	if e != unix.ENOSYS { // before Linux 6.6
		return e
	}
	var n cname
	n.number(fd)
	return errnoOf(unix.Syscall(unix.SYS_FCHMODAT, uintptr(f.proc), uintptr(unsafe.Pointer(&n)), uintptr(mode)))
}

// chownFD changes the owner of what a descriptor is of; -1 leaves one as it is.
func chownFD(fd int, uid, gid uint32) unix.Errno {
	return errnoOf(unix.Syscall6(unix.SYS_FCHOWNAT, uintptr(fd), uintptr(unsafe.Pointer(&self)), uintptr(uid), uintptr(gid),
		unix.AT_EMPTY_PATH, 0))
}

// timesFD sets the times of what a descriptor is of.
func (f *FS) timesFD(fd int, times *[2]unix.Timespec) unix.Errno {
	e := errnoOf(unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), uintptr(unsafe.Pointer(&self)), uintptr(unsafe.Pointer(times)),
		unix.AT_EMPTY_PATH, 0, 0))
	if e != unix.EINVAL { // before Linux 5.8
		return e
	}
	var n cname
	n.number(fd)
	return errnoOf(unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(f.proc), uintptr(unsafe.Pointer(&n)), uintptr(unsafe.Pointer(times)), 0, 0, 0))
}
