package passthrough

import (
	"syscall"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
)

// maxDepth bounds the way from a directory up to the root.
const maxDepth = 4096

// up is the one name that leads out of a directory.
var up = cname{'.', '.'}

// lookupSelf counts a lookup of a node itself.
func (f *FS) lookupSelf(r *fusesrv.Request, h *held, out *fusesrv.EntryOut) syscall.Errno {
	s := local.Of(r.Worker())
	if e := fstatx(h.fd, &s.st); e != 0 {
		return e
	}
	f.entry(f.nodes.again(h), &s.st, out)
	return 0
}

// lookupParent counts a lookup of the directory above. The root is above itself, and a
// directory that the host has moved out has nothing above it that may be seen.
func (f *FS) lookupParent(r *fusesrv.Request, h *held, out *fusesrv.EntryOut) syscall.Errno {
	switch {
	case h.slot == rootID:
		return f.lookupSelf(r, h, out)
	case h.kind != unix.S_IFDIR:
		return unix.ENOTDIR
	}
	fd, e := f.openUp(h.fd)
	if e != 0 {
		return e
	}
	if e := f.below(fd); e != 0 {
		f.fds.close(fd)
		return e
	}
	s := local.Of(r.Worker())
	id, e := f.meetFD(fd, &candidate{handle: &s.handle}, s)
	if e == 0 {
		f.entry(id, &s.st, out)
	}
	return e
}

// openUp opens the directory above one.
func (f *FS) openUp(dir int) (int, unix.Errno) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	return f.openCounted(func() (int, unix.Errno) { return openHow(dir, &up, &how) })
}

// below reports with ESTALE that a directory is not the root or below it.
func (f *FS) below(dir int) unix.Errno {
	fd := -1
	defer func() { f.fds.close(fd) }()
	var st unix.Statx_t
	var last identity
	for range maxDepth {
		if e := fstatx(dir, &st); e != 0 {
			return e
		}
		var c candidate
		c.describe(&st)
		switch c.identity {
		case f.rootKey:
			return 0
		case last: // the host's root
			return unix.ESTALE
		}
		last = c.identity
		next, e := f.openUp(dir)
		if e != 0 {
			return e
		}
		f.fds.close(fd)
		fd, dir = next, next
	}
	return unix.ESTALE
}
