package passthrough

import (
	"context"
	"syscall"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/internal/scatter"
)

// fileFlags are the flags that a regular file is opened with for a guest's. Those that
// make one follow, wait for or open something else are left out; O_APPEND comes with
// each write; O_DIRECT would ask for aligned memory, which is the guest's to choose.
func (f *FS) fileFlags(guest uint32) uint64 {
	const passed = unix.O_ACCMODE | unix.O_SYNC | unix.O_DSYNC | unix.O_NOATIME
	flags := uint64(guest) & passed
	// A guest that keeps what is written for later has to read around it.
	if f.writeback() && flags&unix.O_ACCMODE == unix.O_WRONLY {
		flags = flags&^unix.O_ACCMODE | unix.O_RDWR
	}
	return flags
}

func (f *FS) writeback() bool { return f.settings().Flags&fusesrv.WritebackCache != 0 }

func truncates(guest uint32) uint64 { return uint64(guest & unix.O_TRUNC) }

// holdFile finds a node that is to be opened as a regular file.
func (f *FS) holdFile(node uint64) (held, syscall.Errno) {
	h, e := f.nodes.hold(node)
	if e != 0 {
		return h, e
	}
	if !h.sure {
		if e = f.open1(&h); e == 0 {
			var st unix.Statx_t
			e = f.statHeld(&h, &st)
		}
	}
	switch {
	case e != 0:
	case h.kind == unix.S_IFDIR:
		e = unix.EISDIR
	case h.kind != unix.S_IFREG:
		e = unix.EBADF
	default:
		return h, 0
	}
	f.drop(&h)
	return h, e
}

// openFile opens a node that holdFile has found.
func (f *FS) openFile(h *held, flags uint64) (int, syscall.Errno) {
	if h.rec.size != 0 {
		fd, e := f.openNode(h, flags)
		if e != unix.ESTALE || h.fd < 0 {
			return fd, e
		}
	}
	// Without a handle; or without a name, and then its descriptor was kept.
	return f.openCounted(func() (int, unix.Errno) { return f.reopen(h.fd, flags) })
}

// give makes an open descriptor a handle of the guest's.
func (f *FS) give(fd int, m *mount, flags uint32, out *fusesrv.OpenOut) syscall.Errno {
	out.FH = f.files.add(opened{
		fd: fd, local: m != nil && m.local, memory: m != nil && m.memory,
		changes: flags&unix.O_ACCMODE != unix.O_RDONLY,
	})
	if out.FH == 0 {
		f.fds.close(fd)
		return unix.ENFILE
	}
	return 0
}

// Open opens a regular file.
func (f *FS) Open(r *fusesrv.Request, in *fusesrv.OpenIn, out *fusesrv.OpenOut) syscall.Errno {
	h, e := f.holdFile(r.Node)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	flags := f.fileFlags(in.Flags)
	kill := in.Flags&unix.O_TRUNC != 0 && in.OpenFlags&fusesrv.OpenKillSuidgid != 0
	if !kill {
		flags |= truncates(in.Flags)
	}
	fd, e := f.openFile(&h, flags)
	if e != 0 {
		return e
	}
	if kill {
		if e := truncateKilling(fd); e != 0 {
			f.fds.close(fd)
			return e
		}
	}
	return f.give(fd, f.mounts.get(h.rec.mount), in.Flags, out)
}

// truncateKilling empties a file for a caller who may not keep its set-id bits.
func truncateKilling(fd int) syscall.Errno {
	var k killer
	k.begin(fd)
	defer k.end()
	return errnoIn(unix.Ftruncate(fd, 0))
}

// Release closes an open file.
func (f *FS) Release(_ *fusesrv.Request, in *fusesrv.ReleaseIn) syscall.Errno {
	if !f.files.release(in.FH) {
		return unix.EBADF
	}
	return 0
}

// file finds an open regular file.
func (f *FS) file(fh uint64) (*openFile, syscall.Errno) {
	o, e := f.files.hold(fh)
	if e == 0 && o.dir != nil {
		f.files.drop(o)
		return nil, unix.EISDIR
	}
	return o, e
}

// Read reads what is in the page cache, or leaves the rest for later.
func (f *FS) Read(r *fusesrv.Request, in *fusesrv.ReadIn, w *fusesrv.Reply) syscall.Errno {
	o, e := f.file(in.FH)
	if e != 0 {
		return e
	}
	size := int(in.Size)
	done, e := o.tryRead(local.Of(r.Worker()), in.Offset, w.Data(size))
	if e == unix.EAGAIN {
		return r.Pend(&lateRead{f: f, o: o, off: in.Offset, skip: done, size: size})
	}
	f.files.drop(o)
	w.SetLen(done)
	return e
}

// tryRead reads without waiting. EAGAIN says that the rest needs that.
func (o *openFile) tryRead(s *scratch, off uint64, dst [][]byte) (done int, e syscall.Errno) {
	flags := unix.RWF_NOWAIT
	if o.memory { // where Linux does not know it, up to 6.18 at least
		flags = 0
	}
	cur := scatter.At(dst)
	for {
		var left uint64
		s.iov, left = cur.Vectors(s.iov[:0], ^uint64(0))
		if left == 0 {
			return done, 0
		}
		if o.slow.Load() {
			return done, unix.EAGAIN
		}
		n, e := scatter.Read(o.fd, s.iov, off+uint64(done), flags)
		switch {
		case e == unix.EOPNOTSUPP:
			o.slow.Store(true)
			return done, unix.EAGAIN
		case e != 0, n == 0: // the end of the file
			return done, e
		}
		done += n
		cur.Skip(uint64(n))
	}
}

// A lateRead is a read that has to wait for a disk.
type lateRead struct {
	f    *FS
	o    *openFile
	off  uint64
	skip int // bytes that the guest has already
	size int
	buf  *[]byte
	n    int // bytes in buf
}

// Wait reads into memory that nobody takes away.
func (t *lateRead) Wait(context.Context) syscall.Errno {
	t.buf = buffers.get(t.size - t.skip)
	for t.n < len(*t.buf) {
		n, err := unix.Pread(t.o.fd, (*t.buf)[t.n:], int64(t.off)+int64(t.skip+t.n))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil && t.n == 0:
			return errnoIn(err)
		case err != nil, n == 0:
			return 0
		}
		t.n += n
	}
	return 0
}

// Finish copies it to the guest.
func (t *lateRead) Finish(_ *fusesrv.Request, w *fusesrv.Reply) syscall.Errno {
	defer t.Drop()
	at, rest := t.skip, (*t.buf)[:t.n]
	for _, p := range w.Data(t.size) {
		if at >= len(p) {
			at -= len(p)
			continue
		}
		rest = rest[copy(p[at:], rest):]
		at = 0
	}
	w.SetLen(t.skip + t.n - len(rest))
	return 0
}

// Drop gives everything up.
func (t *lateRead) Drop() {
	buffers.put(t.buf)
	t.buf = nil
	t.f.files.drop(t.o)
}

// Write writes. Where that may mean to wait for a network it is left for later.
func (f *FS) Write(r *fusesrv.Request, in *fusesrv.WriteIn, w *fusesrv.Reply) syscall.Errno {
	o, e := f.file(in.FH)
	if e != 0 {
		return e
	}
	if !o.changes {
		f.files.drop(o)
		return unix.EBADF
	}
	t := writing{o: o, off: in.Offset, kill: in.WriteFlags&fusesrv.WriteKillSuidgid != 0}
	if in.Flags&unix.O_APPEND != 0 && in.WriteFlags&fusesrv.WriteCache == 0 {
		t.flags = unix.RWF_APPEND
	}
	switch {
	case !o.local:
		return f.writeLater(r, &t, w.Input(int(in.Size)))
	case !o.memory && f.beside != nil && f.beside():
		return r.PendAside(&asideWrite{writing: t, f: f, size: int(in.Size), cached: in.WriteFlags&fusesrv.WriteCache != 0})
	}
	defer f.files.drop(o)
	return t.answer(local.Of(r.Worker()), w, int(in.Size), in.WriteFlags&fusesrv.WriteCache != 0)
}

// answer writes the size bytes that came with a request, out of the guest's cache or not.
func (t *writing) answer(s *scratch, w *fusesrv.Reply, size int, cached bool) syscall.Errno {
	n, e := t.write(s, w.Input(size))
	// Short writes out of the guest's cache would be lost: they have to be errors.
	if e != 0 && (n == 0 || cached) {
		return e
	}
	w.Written = uint32(n)
	return 0
}

// An asideWrite is a write that a worker makes, so that it holds up no queue.
type asideWrite struct {
	writing
	f      *FS
	size   int
	cached bool
}

// Wait is not called: the data is in the request.
func (t *asideWrite) Wait(context.Context) syscall.Errno { return 0 }

// Finish writes.
func (t *asideWrite) Finish(r *fusesrv.Request, w *fusesrv.Reply) syscall.Errno {
	defer t.Drop()
	return t.answer(local.Of(r.Worker()), w, t.size, t.cached)
}

// Drop lets the file go.
func (t *asideWrite) Drop() { t.f.files.drop(t.o) }

// A writing is a write to an open file.
type writing struct {
	o     *openFile
	off   uint64
	flags int  // RWF_APPEND
	kill  bool // set-id bits
}

// write writes src, as much as can be.
func (t *writing) write(s *scratch, src [][]byte) (done int, e syscall.Errno) {
	if t.kill {
		var k killer
		k.begin(t.o.fd)
		defer k.end()
	}
	cur := scatter.At(src)
	for {
		var left uint64
		s.iov, left = cur.Vectors(s.iov[:0], ^uint64(0))
		if left == 0 {
			return done, 0
		}
		n, e := scatter.Write(t.o.fd, s.iov, t.off+uint64(done), t.flags)
		if e != 0 {
			return done, e
		}
		if n == 0 {
			return done, unix.EIO
		}
		done += n
		cur.Skip(uint64(n))
	}
}

// writeLater leaves a write for later, with its data.
func (f *FS) writeLater(r *fusesrv.Request, t *writing, src [][]byte) syscall.Errno {
	size := 0
	for _, p := range src {
		size += len(p)
	}
	buf := buffers.get(size)
	rest := *buf
	for _, p := range src {
		rest = rest[copy(rest, p):]
	}
	late := *t
	written := 0
	return r.Pend(&later{
		wait: func(context.Context) (e syscall.Errno) {
			var s scratch
			written, e = late.write(&s, [][]byte{*buf})
			if written > 0 {
				e = 0
			}
			return e
		},
		finish: func(w *fusesrv.Reply) { w.Written = uint32(written) },
		drop: func() {
			buffers.put(buf)
			f.files.drop(late.o)
		},
	})
}
