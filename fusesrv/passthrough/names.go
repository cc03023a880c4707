package passthrough

import (
	"syscall"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
)

// make makes something with a name in r's directory, and counts a lookup of it.
func (f *FS) make(r *fusesrv.Request, name []byte, what creation, out *fusesrv.EntryOut) syscall.Errno {
	h, s, e := f.holdWith(r, name, (*cname).set)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	c := &s.creation
	*c = what
	c.dir, c.name = h.fd, &s.name
	if c.who, e = callerOf(r); e != 0 {
		return e
	}
	if e := f.creator.run(c); e != 0 {
		return e
	}
	if e := f.enter(h.fd, &s.name, true, s, out); e != 0 {
		return e
	}
	f.made(out.NodeID, r.Header.PID)
	return 0
}

// Symlink makes a symlink.
func (f *FS) Symlink(r *fusesrv.Request, name, target []byte, out *fusesrv.EntryOut) syscall.Errno {
	s := local.Of(r.Worker())
	b := s.buffer(len(target) + 1)
	b[copy(b, target)] = 0
	return f.make(r, name, creation{what: makeLink, target: b}, out)
}

// Mknod makes a file of any type but a directory or a symlink. None is opened.
func (f *FS) Mknod(r *fusesrv.Request, in *fusesrv.MknodIn, name []byte, out *fusesrv.EntryOut) syscall.Errno {
	return f.make(r, name, creation{what: makeNode, mode: in.Mode, rdev: in.Rdev}, out)
}

// Mkdir makes a directory.
func (f *FS) Mkdir(r *fusesrv.Request, in *fusesrv.MkdirIn, name []byte, out *fusesrv.EntryOut) syscall.Errno {
	return f.make(r, name, creation{what: makeDir, mode: in.Mode}, out)
}

// Link gives a file one more name.
func (f *FS) Link(r *fusesrv.Request, in *fusesrv.LinkIn, name []byte, out *fusesrv.EntryOut) syscall.Errno {
	old, e := f.hold(in.OldNodeID)
	if e != 0 {
		return e
	}
	defer f.drop(&old)
	h, s, e := f.holdWith(r, name, (*cname).set)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	if e := f.linkFD(old.fd, h.fd, &s.name); e != 0 {
		return e
	}
	if e := fstatx(old.fd, &s.st); e != 0 {
		return e
	}
	f.entry(f.nodes.again(&old), &s.st, out)
	return 0
}

// Unlink takes a name away from anything but a directory.
func (f *FS) Unlink(r *fusesrv.Request, name []byte) syscall.Errno { return f.remove(r, name, 0) }

// Rmdir removes a directory.
func (f *FS) Rmdir(r *fusesrv.Request, name []byte) syscall.Errno {
	return f.remove(r, name, unix.AT_REMOVEDIR)
}

func (f *FS) remove(r *fusesrv.Request, name []byte, flags uintptr) syscall.Errno {
	h, s, e := f.holdWith(r, name, (*cname).set)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	f.keep(h.fd, &s.name, s)
	return unlinkAt(h.fd, &s.name, flags)
}

// keep keeps the descriptor of the node that a name leads to, if it is about to lose
// its last name: the guest may go on with it, and its handle would open nothing.
func (f *FS) keep(dir int, name *cname, s *scratch) {
	if f.noHandles || statx(dir, name, &s.st) != 0 {
		return
	}
	if s.st.Nlink > 1 && s.st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return
	}
	c := candidate{handle: &s.handle, fd: -1}
	c.describe(&s.st)
	id := f.nodes.known(&c)
	if id == 0 {
		return
	}
	defer func() { f.bury(f.nodes.forget(id, 1)) }() // what known has counted
	h, e := f.nodes.hold(id)
	if e != 0 {
		return
	}
	defer f.drop(&h)
	if f.open1(&h) == 0 && !h.own {
		f.nodes.pin(&h)
	}
}

// Rename changes a name, or exchanges two.
func (f *FS) Rename(r *fusesrv.Request, in *fusesrv.RenameIn, from, to []byte) syscall.Errno {
	const known = unix.RENAME_NOREPLACE | unix.RENAME_EXCHANGE | unix.RENAME_WHITEOUT
	if in.Flags&^known != 0 {
		return unix.EINVAL
	}
	h, e := f.hold(r.Node)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	dir, e := f.hold(in.NewDir)
	if e != 0 {
		return e
	}
	defer f.drop(&dir)
	s := local.Of(r.Worker())
	if e := s.name.set(from); e != 0 {
		return e
	}
	if e := s.name2.set(to); e != 0 {
		return e
	}
	if in.Flags&(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) == 0 {
		f.keep(dir.fd, &s.name2, s)
	}
	return renameAt(h.fd, &s.name, dir.fd, &s.name2, in.Flags)
}

// Create makes a regular file and opens it, or opens one that is there.
func (f *FS) Create(r *fusesrv.Request, in *fusesrv.CreateIn, name []byte, out *fusesrv.EntryOut, open *fusesrv.OpenOut) syscall.Errno {
	h, s, e := f.holdWith(r, name, (*cname).set)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	e = f.born(r, creation{what: makeFile, dir: h.fd, name: &s.name}, in, out, open)
	if e != unix.EEXIST || in.Flags&unix.O_EXCL != 0 {
		return e
	}
	return f.openThere(r, h.fd, in, out, open)
}

// Tmpfile makes a regular file without a name and opens it.
func (f *FS) Tmpfile(r *fusesrv.Request, in *fusesrv.CreateIn, out *fusesrv.EntryOut, open *fusesrv.OpenOut) syscall.Errno {
	h, e := f.hold(r.Node)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	return f.born(r, creation{what: makeTemp, dir: h.fd}, in, out, open)
}

// born makes and opens a regular file.
func (f *FS) born(r *fusesrv.Request, what creation, in *fusesrv.CreateIn, out *fusesrv.EntryOut, open *fusesrv.OpenOut) syscall.Errno {
	s := local.Of(r.Worker())
	c := &s.creation
	*c = what
	c.mode = in.Mode&0o7777 | unix.S_IFREG
	c.flags = f.fileFlags(in.Flags)
	if c.what == makeFile {
		c.flags |= unix.O_CREAT | unix.O_EXCL
	} else if in.Flags&unix.O_EXCL != 0 {
		c.flags |= unix.O_EXCL // it will never have a name
	}
	var e syscall.Errno
	if c.who, e = callerOf(r); e != 0 {
		return e
	}
	fd, e := f.openCounted(func() (int, unix.Errno) {
		e := f.creator.run(c)
		return c.fd, e
	})
	if e != 0 {
		return e
	}
	id, e := f.meetOpen(fd, s)
	if e != 0 {
		f.fds.close(fd)
		return e
	}
	f.made(id, r.Header.PID)
	f.entry(id, &s.st, out)
	if e = f.give(fd, f.mounts.get(uint32(s.st.Mnt_id)), in.Flags, open); e != 0 {
		f.bury(f.nodes.forget(id, 1)) // the guest is not told of it
	}
	return e
}

// meetOpen counts a lookup of a regular file that is open through fd.
func (f *FS) meetOpen(fd int, s *scratch) (uint64, syscall.Errno) {
	if e := fstatx(fd, &s.st); e != 0 {
		return 0, e
	}
	c := candidate{handle: &s.handle, fd: -1, sure: true}
	c.describe(&s.st)
	c.handle.size = 0
	m := f.mounts.use(c.mount)
	if m != nil && m.fd >= 0 {
		_, _ = handleOf(fd, &self, unix.AT_EMPTY_PATH, c.handle)
	}
	if c.handle.size != 0 {
		return f.put(&c)
	}
	if m != nil {
		f.fds.close(f.mounts.leave(c.mount))
	}
	path, e := f.openCounted(func() (int, unix.Errno) { return f.reopen(fd, unix.O_PATH) })
	if e != 0 {
		return 0, e
	}
	return f.meetFD(path, &c, s)
}

// openThere opens what is there under the name of a CREATE: the guest did not know of
// it, so that its kernel has not asked whether the caller may.
func (f *FS) openThere(r *fusesrv.Request, dir int, in *fusesrv.CreateIn, out *fusesrv.EntryOut, open *fusesrv.OpenOut) syscall.Errno {
	s := local.Of(r.Worker())
	if e := f.enter(dir, &s.name, false, s, out); e != 0 {
		return e
	}
	id := out.NodeID
	e := f.openAs(r, id, in, open)
	if e != 0 {
		f.bury(f.nodes.forget(id, 1)) // the guest is not told of it
	}
	return e
}

func (f *FS) openAs(r *fusesrv.Request, id uint64, in *fusesrv.CreateIn, open *fusesrv.OpenOut) syscall.Errno {
	h, e := f.hold(id)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	who, e := callerOf(r)
	if e != 0 {
		return e
	}
	s := local.Of(r.Worker())
	switch e := f.statHeld(&h, &s.st); {
	case e != 0:
		return e
	case h.kind == unix.S_IFDIR:
		return unix.EISDIR
	case h.kind != unix.S_IFREG:
		return unix.ESTALE // the guest looks again, and sees what it is
	}
	fd, e := f.openCounted(func() (int, unix.Errno) { return who.open(f, h.fd, f.fileFlags(in.Flags)|truncates(in.Flags)) })
	if e != 0 {
		return e
	}
	return f.give(fd, f.mounts.get(h.rec.mount), in.Flags, open)
}
