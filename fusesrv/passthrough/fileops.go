package passthrough

import (
	"context"
	"syscall"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
)

// maxCopy is the most that one COPY_FILE_RANGE copies: it can't be interrupted.
const maxCopy = 64 << 20

// onFile leaves a call on an open file for later.
func (f *FS) onFile(r *fusesrv.Request, fh uint64, do func(fd int) error) syscall.Errno {
	o, e := f.files.hold(fh)
	if e != 0 {
		return e
	}
	return r.Pend(&later{
		wait: func(context.Context) syscall.Errno { return errnoIn(uninterrupted(func() error { return do(o.fd) })) },
		drop: func() { f.files.drop(o) },
	})
}

// uninterrupted repeats a call until no signal interrupts it.
func uninterrupted(do func() error) error {
	for {
		if err := do(); err != unix.EINTR {
			return err
		}
	}
}

// Flush has nothing to do but where closing a file says how writing went.
func (f *FS) Flush(r *fusesrv.Request, in *fusesrv.FlushIn) syscall.Errno {
	o, e := f.files.hold(in.FH)
	if e != 0 {
		return e
	}
	isLocal := o.local
	f.files.drop(o)
	if isLocal {
		return 0
	}
	return f.onFile(r, in.FH, func(fd int) error {
		again, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Close(again)
	})
}

// Fsync writes a file to the disk.
func (f *FS) Fsync(r *fusesrv.Request, in *fusesrv.FsyncIn) syscall.Errno {
	if in.Flags&fusesrv.FsyncDatasync != 0 {
		return f.onFile(r, in.FH, unix.Fdatasync)
	}
	return f.onFile(r, in.FH, unix.Fsync)
}

// Fsyncdir writes a directory to the disk.
func (f *FS) Fsyncdir(r *fusesrv.Request, in *fusesrv.FsyncIn) syscall.Errno { return f.Fsync(r, in) }

// Syncfs writes every file system of the directory to its disk.
func (f *FS) Syncfs(r *fusesrv.Request) syscall.Errno {
	return r.Pend(&later{
		wait: func(context.Context) syscall.Errno { return f.syncAll() },
		drop: func() {},
	})
}

func (f *FS) syncAll() syscall.Errno {
	var fds []int
	defer func() {
		for _, fd := range fds {
			f.fds.close(fd)
		}
	}()
	f.mounts.each(func(m *mount) {
		// The mount may go while it is synced: a descriptor of our own.
		fd, e := f.openCounted(func() (int, unix.Errno) {
			fd, err := unix.FcntlInt(uintptr(m.fd), unix.F_DUPFD_CLOEXEC, 0)
			return fd, errnoIn(err)
		})
		if e == 0 {
			fds = append(fds, fd)
		}
	})
	last := errnoIn(unix.Syncfs(f.rootFD))
	for _, fd := range fds {
		if e := errnoIn(unix.Syncfs(fd)); e != 0 {
			last = e
		}
	}
	return last
}

// Fallocate changes what is allocated of a file.
func (f *FS) Fallocate(r *fusesrv.Request, in *fusesrv.FallocateIn) syscall.Errno {
	mode, off, length := in.Mode, int64(in.Offset), int64(in.Length)
	return f.onFile(r, in.FH, func(fd int) error { return unix.Fallocate(fd, mode, off, length) })
}

// Lseek finds data and holes. A guest that keeps what is written asks without writing it
// first (fuse_lseek in Linux up to 6.18 at least), so that no answer from here could be
// right: without one it takes all that it knows of for data.
func (f *FS) Lseek(_ *fusesrv.Request, in *fusesrv.LseekIn, out *fusesrv.LseekOut) syscall.Errno {
	if f.writeback() {
		return unix.ENOSYS
	}
	if in.Whence != fusesrv.SeekData && in.Whence != fusesrv.SeekHole {
		return unix.EINVAL
	}
	o, e := f.file(in.FH)
	if e != 0 {
		return e
	}
	defer f.files.drop(o)
	n, err := unix.Seek(o.fd, int64(in.Offset), int(in.Whence)) // nobody uses the place of the descriptor
	out.Offset = uint64(n)
	return errnoIn(err)
}

// CopyFileRange copies from one open file to another.
func (f *FS) CopyFileRange(r *fusesrv.Request, in *fusesrv.CopyFileRangeIn, _ *fusesrv.LseekOut) syscall.Errno {
	if in.Flags != 0 {
		return unix.EINVAL
	}
	from, e := f.file(in.FHIn)
	if e != 0 {
		return e
	}
	to, e := f.file(in.FHOut)
	if e != 0 {
		f.files.drop(from)
		return e
	}
	offIn, offOut, size := int64(in.OffsetIn), int64(in.OffsetOut), int(min(in.Length, maxCopy))
	copied := 0
	return r.Pend(&later{
		wait: func(context.Context) syscall.Errno {
			return errnoIn(uninterrupted(func() (err error) {
				copied, err = unix.CopyFileRange(from.fd, &offIn, to.fd, &offOut, size, 0)
				return err
			}))
		},
		finish: func(w *fusesrv.Reply) { w.Lseek.Offset = uint64(copied) },
		drop: func() {
			f.files.drop(from)
			f.files.drop(to)
		},
	})
}

// Ioctl knows none.
func (f *FS) Ioctl(*fusesrv.Request, *fusesrv.IoctlIn, *fusesrv.Reply) syscall.Errno {
	return unix.ENOTTY
}

// Statfs shows the file system that a node is on.
func (f *FS) Statfs(r *fusesrv.Request, out *fusesrv.StatfsOut) syscall.Errno {
	h, e := f.hold(r.Node)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	var st unix.Statfs_t
	if err := uninterrupted(func() error { return unix.Fstatfs(h.fd, &st) }); err != nil {
		return errnoIn(err)
	}
	*out = fusesrv.StatfsOut{
		Blocks: st.Blocks, Bfree: st.Bfree, Bavail: st.Bavail, Files: st.Files, Ffree: st.Ffree,
		Bsize: uint32(st.Bsize), Namelen: uint32(st.Namelen), Frsize: uint32(st.Frsize),
	}
	return 0
}
