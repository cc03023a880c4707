package fusesrv

import "syscall"

// The calls: arguments decoded, method called. The worker's args have at least the
// bytes that the table says.

func callUnknown(*Worker) syscall.Errno { return syscall.ENOSYS }
func callNothing(*Worker) syscall.Errno { return 0 }

func callLookup(w *Worker) syscall.Errno {
	w.reply.Entry = EntryOut{}
	return w.fs.Lookup(w.r, w.name, &w.reply.Entry)
}

func callForget(w *Worker) syscall.Errno {
	w.fs.Forget(w.r, w.r.Node, le.Uint64(w.args))
	return 0
}

// callBatchForget takes the nodes out of the request's buffers a block at a time:
// there may be any number.
func callBatchForget(w *Worker) syscall.Errno {
	const one = 16
	in := &w.reply.input
	n := min(uint64(le.Uint32(w.args)), uint64(in.total/one))
	buf := w.argBuf[len(w.args):]
	buf = buf[:len(buf)/one*one]
	for off := 0; n > 0; off += len(buf) {
		buf = buf[:min(uint64(len(buf)), n*one)]
		in.get(off, buf)
		for b := buf; len(b) > 0; b = b[one:] {
			w.r.SetView(w.s.view, w.r.Header.NodeID)
			w.fs.Forget(w.r, le.Uint64(b), le.Uint64(b[8:]))
		}
		n -= uint64(len(buf) / one)
	}
	return 0
}

func callGetattr(w *Worker) syscall.Errno {
	w.in.getattr.decode(w.args)
	w.reply.Attr = AttrOut{}
	return w.fs.Getattr(w.r, &w.in.getattr, &w.reply.Attr)
}

func callSetattr(w *Worker) syscall.Errno {
	w.in.setattr.decode(w.args)
	w.reply.Attr = AttrOut{}
	return w.fs.Setattr(w.r, &w.in.setattr, &w.reply.Attr)
}

func callStatx(w *Worker) syscall.Errno {
	w.in.statx.decode(w.args)
	w.reply.Statx = StatxOut{}
	return w.fs.Statx(w.r, &w.in.statx, &w.reply.Statx)
}

func callReadlink(w *Worker) syscall.Errno { return w.fs.Readlink(w.r, &w.reply) }

func callAccess(w *Worker) syscall.Errno {
	w.in.access = AccessIn{Mask: le.Uint32(w.args)}
	return w.fs.Access(w.r, &w.in.access)
}

func callSymlink(w *Worker) syscall.Errno {
	w.reply.Entry = EntryOut{}
	return w.fs.Symlink(w.r, w.name, w.name2, &w.reply.Entry)
}

func callMknod(w *Worker) syscall.Errno {
	w.in.mknod.decode(w.args)
	w.reply.Entry = EntryOut{}
	return w.fs.Mknod(w.r, &w.in.mknod, w.name, &w.reply.Entry)
}

func callMkdir(w *Worker) syscall.Errno {
	w.in.mkdir.decode(w.args)
	w.reply.Entry = EntryOut{}
	return w.fs.Mkdir(w.r, &w.in.mkdir, w.name, &w.reply.Entry)
}

func callLink(w *Worker) syscall.Errno {
	w.in.link = LinkIn{le.Uint64(w.args)}
	w.reply.Entry = EntryOut{}
	return w.fs.Link(w.r, &w.in.link, w.name, &w.reply.Entry)
}

func callUnlink(w *Worker) syscall.Errno { return w.fs.Unlink(w.r, w.name) }
func callRmdir(w *Worker) syscall.Errno  { return w.fs.Rmdir(w.r, w.name) }

func callRename(w *Worker) syscall.Errno {
	w.in.rename = RenameIn{NewDir: le.Uint64(w.args)}
	return w.fs.Rename(w.r, &w.in.rename, w.name, w.name2)
}

func callRename2(w *Worker) syscall.Errno {
	w.in.rename = RenameIn{NewDir: le.Uint64(w.args), Flags: le.Uint32(w.args[8:])}
	return w.fs.Rename(w.r, &w.in.rename, w.name, w.name2)
}

func callCreate(w *Worker) syscall.Errno {
	w.in.create.decode(w.args)
	w.reply.Entry, w.reply.Open = EntryOut{}, OpenOut{}
	return w.fs.Create(w.r, &w.in.create, w.name, &w.reply.Entry, &w.reply.Open)
}

func callTmpfile(w *Worker) syscall.Errno {
	w.in.create.decode(w.args)
	w.reply.Entry, w.reply.Open = EntryOut{}, OpenOut{}
	return w.fs.Tmpfile(w.r, &w.in.create, &w.reply.Entry, &w.reply.Open)
}

func callOpen(w *Worker) syscall.Errno {
	if w.s.Settings().NoOpen {
		return syscall.ENOSYS
	}
	w.in.open.decode(w.args)
	w.reply.Open = OpenOut{}
	return w.fs.Open(w.r, &w.in.open, &w.reply.Open)
}

func callRead(w *Worker) syscall.Errno {
	w.in.read.decode(w.args)
	w.in.read.Size = uint32(min(int(w.in.read.Size), w.reply.Room()))
	return w.fs.Read(w.r, &w.in.read, &w.reply)
}

func callWrite(w *Worker) syscall.Errno {
	w.in.write.decode(w.args)
	if int(w.in.write.Size) > w.reply.input.total {
		return syscall.EINVAL
	}
	w.reply.Written = 0
	return w.fs.Write(w.r, &w.in.write, &w.reply)
}

func callFlush(w *Worker) syscall.Errno {
	w.in.flush = FlushIn{FH: le.Uint64(w.args), LockOwner: le.Uint64(w.args[16:])}
	return w.fs.Flush(w.r, &w.in.flush)
}

func callFsync(w *Worker) syscall.Errno {
	w.in.fsync.decode(w.args)
	return w.fs.Fsync(w.r, &w.in.fsync)
}

func callRelease(w *Worker) syscall.Errno {
	w.in.release.decode(w.args)
	return w.fs.Release(w.r, &w.in.release)
}

func callFallocate(w *Worker) syscall.Errno {
	w.in.falloc.decode(w.args)
	return w.fs.Fallocate(w.r, &w.in.falloc)
}

func callLseek(w *Worker) syscall.Errno {
	w.in.lseek.decode(w.args)
	w.reply.Lseek = LseekOut{}
	return w.fs.Lseek(w.r, &w.in.lseek, &w.reply.Lseek)
}

func callCopyFileRange(w *Worker) syscall.Errno {
	w.in.copy.decode(w.args)
	w.reply.Lseek = LseekOut{}
	return w.fs.CopyFileRange(w.r, &w.in.copy, &w.reply.Lseek)
}

func callIoctl(w *Worker) syscall.Errno {
	w.in.ioctl.decode(w.args)
	w.reply.Ioctl = IoctlOut{}
	return w.fs.Ioctl(w.r, &w.in.ioctl, &w.reply)
}

func callOpendir(w *Worker) syscall.Errno {
	if w.s.Settings().NoOpendir {
		return syscall.ENOSYS
	}
	w.in.open.decode(w.args)
	w.reply.Open = OpenOut{}
	return w.fs.Opendir(w.r, &w.in.open, &w.reply.Open)
}

func callReaddir(w *Worker) syscall.Errno     { return w.readdir(w.fs.Readdir) }
func callReaddirplus(w *Worker) syscall.Errno { return w.readdir(w.fs.Readdirplus) }

func (w *Worker) readdir(method func(*Request, *ReadIn, *Reply) syscall.Errno) syscall.Errno {
	w.in.read.decode(w.args)
	w.r.dirSize = w.in.read.Size
	w.reply.bindDir(w.r)
	return w.reply.dirDone(method(w.r, &w.in.read, &w.reply))
}

func callFsyncdir(w *Worker) syscall.Errno {
	w.in.fsync.decode(w.args)
	return w.fs.Fsyncdir(w.r, &w.in.fsync)
}

func callReleasedir(w *Worker) syscall.Errno {
	w.in.release.decode(w.args)
	return w.fs.Releasedir(w.r, &w.in.release)
}

func callStatfs(w *Worker) syscall.Errno {
	w.reply.Statfs = StatfsOut{}
	return w.fs.Statfs(w.r, &w.reply.Statfs)
}

func callSyncfs(w *Worker) syscall.Errno { return w.fs.Syncfs(w.r) }

func callGetxattr(w *Worker) syscall.Errno {
	w.in.getxattr = GetxattrIn{Size: le.Uint32(w.args)}
	return w.fs.Getxattr(w.r, &w.in.getxattr, w.name, &w.reply)
}

func callListxattr(w *Worker) syscall.Errno {
	w.in.getxattr = GetxattrIn{Size: le.Uint32(w.args)}
	return w.fs.Listxattr(w.r, &w.in.getxattr, &w.reply)
}

func callRemovexattr(w *Worker) syscall.Errno { return w.fs.Removexattr(w.r, w.name) }

// callSetxattr reads the long or the short form of the argument, as negotiated.
func callSetxattr(w *Worker) syscall.Errno {
	a := &w.in.setxattr
	*a = SetxattrIn{Size: le.Uint32(w.args), Flags: le.Uint32(w.args[4:])}
	rest := w.args[8:]
	if w.s.Settings().Flags&SetxattrExt != 0 {
		if len(rest) < 8 {
			return syscall.EINVAL
		}
		a.SetxattrFlags = le.Uint32(rest)
		rest = rest[8:]
	}
	name, value, e := cutName(rest, maxName)
	switch {
	case e != 0:
		return e
	case len(name) == 0 || uint64(len(value)) < uint64(a.Size):
		return syscall.EINVAL
	case a.Size > maxXattr:
		return syscall.E2BIG
	}
	return w.fs.Setxattr(w.r, a, name, value[:a.Size])
}

func callGetlk(w *Worker) syscall.Errno {
	w.in.lk.decode(w.args)
	w.reply.Lk = LkOut{}
	return w.fs.Getlk(w.r, &w.in.lk, &w.reply.Lk)
}

func callSetlk(w *Worker) syscall.Errno {
	w.in.lk.decode(w.args)
	return w.fs.Setlk(w.r, &w.in.lk, false)
}

func callSetlkw(w *Worker) syscall.Errno {
	w.in.lk.decode(w.args)
	return w.fs.Setlk(w.r, &w.in.lk, true)
}

func callSetupmapping(w *Worker) syscall.Errno {
	w.in.setup.decode(w.args)
	return w.fs.Setupmapping(w.r, &w.in.setup)
}

func callRemovemapping(w *Worker) syscall.Errno {
	const one = 16
	n, b := uint64(le.Uint32(w.args)), w.args[4:]
	if n > uint64(len(b)/one) {
		return syscall.EINVAL
	}
	w.ranges = w.ranges[:0]
	for b = b[:n*one]; len(b) > 0; b = b[one:] {
		w.ranges = append(w.ranges, RemovemappingOne{le.Uint64(b), le.Uint64(b[8:])})
	}
	return w.fs.Removemapping(w.r, w.ranges)
}
