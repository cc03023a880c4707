package passthrough

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
)

// split gives seconds and nanoseconds.
func split(d time.Duration) (sec uint64, nsec uint32) {
	return uint64(d / time.Second), uint32(d % time.Second)
}

// attr stores what a stat tells.
func (f *FS) attr(st *unix.Statx_t, out *fusesrv.Attr) {
	dev := uint64(st.Dev_major)<<32 | uint64(st.Dev_minor)
	*out = fusesrv.Attr{
		Ino: f.numbers.of(dev, st.Ino), Size: st.Size, Blocks: st.Blocks,
		Atime: uint64(st.Atime.Sec), Mtime: uint64(st.Mtime.Sec), Ctime: uint64(st.Ctime.Sec),
		AtimeNsec: st.Atime.Nsec, MtimeNsec: st.Mtime.Nsec, CtimeNsec: st.Ctime.Nsec,
		Mode: uint32(st.Mode), Nlink: st.Nlink, UID: st.Uid, GID: st.Gid,
		Rdev:    st.Rdev_minor&0xff | st.Rdev_major<<8 | st.Rdev_minor&^0xff<<12,
		Blksize: st.Blksize,
	}
}

// stat asks for the attributes of a node, through an open file if fh is one.
func (f *FS) stat(r *fusesrv.Request, byFH bool, fh uint64, st *unix.Statx_t) syscall.Errno {
	if byFH {
		if o, e := f.files.hold(fh); e == 0 {
			defer f.files.drop(o)
			return fstatx(o.fd, st)
		}
	}
	h, e := f.hold(r.Node)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	return f.statHeld(&h, st)
}

// statHeld asks for the attributes of a node. A name may have been another file's when
// the node was met; that shows here.
func (f *FS) statHeld(h *held, st *unix.Statx_t) syscall.Errno {
	if e := fstatx(h.fd, st); e != 0 {
		return e
	}
	if h.sure {
		return 0
	}
	if st.Mode&unix.S_IFMT != h.kind {
		f.nodes.gone(h)
		return unix.ESTALE
	}
	f.nodes.sure(h)
	h.sure = true
	return 0
}

// Getattr shows a node.
func (f *FS) Getattr(r *fusesrv.Request, in *fusesrv.GetattrIn, out *fusesrv.AttrOut) syscall.Errno {
	s := local.Of(r.Worker())
	if e := f.stat(r, in.Flags&fusesrv.GetattrFH != 0, in.FH, &s.st); e != 0 {
		return e
	}
	out.AttrValid, out.AttrValidNsec = split(f.attrValid)
	f.attr(&s.st, &out.Attr)
	return 0
}

// Statx shows a node, with its time of birth.
func (f *FS) Statx(r *fusesrv.Request, in *fusesrv.StatxIn, out *fusesrv.StatxOut) syscall.Errno {
	s := local.Of(r.Worker())
	if e := f.stat(r, in.GetattrFlags&fusesrv.GetattrFH != 0, in.FH, &s.st); e != 0 {
		return e
	}
	var a fusesrv.Attr
	f.attr(&s.st, &a)
	out.AttrValid, out.AttrValidNsec = split(f.attrValid)
	out.Statx = a.Statx(s.st.Mask & (unix.STATX_BASIC_STATS | unix.STATX_BTIME))
	out.Statx.Btime = fusesrv.StatxTime{Sec: s.st.Btime.Sec, Nsec: s.st.Btime.Nsec}
	const told = unix.STATX_ATTR_COMPRESSED | unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND | unix.STATX_ATTR_NODUMP
	out.Statx.Attributes, out.Statx.AttributesMask = s.st.Attributes&told, s.st.Attributes_mask&told
	return 0
}

// Readlink writes the target of a symlink.
func (f *FS) Readlink(r *fusesrv.Request, w *fusesrv.Reply) syscall.Errno {
	h, e := f.hold(r.Node)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	if h.kind != unix.S_IFLNK {
		return unix.EINVAL
	}
	s := local.Of(r.Worker())
	n, e := readLink(h.fd, s.buffer(unix.PathMax))
	if e != 0 {
		return e
	}
	return w.Bytes(s.bytes[:n])
}

// buffer returns n bytes.
func (s *scratch) buffer(n int) []byte {
	if cap(s.bytes) < n {
		s.bytes = make([]byte, n)
	}
	return s.bytes[:n]
}

// Setattr changes what in.Valid names.
func (f *FS) Setattr(r *fusesrv.Request, in *fusesrv.SetattrIn, out *fusesrv.AttrOut) syscall.Errno {
	h, e := f.hold(r.Node)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	s := local.Of(r.Worker())
	if e := f.change(&h, in, r.Header.PID, s); e != 0 {
		return e
	}
	if e := f.statHeld(&h, &s.st); e != 0 {
		return e
	}
	out.AttrValid, out.AttrValidNsec = split(f.attrValid)
	f.attr(&s.st, &out.Attr)
	return 0
}

func (f *FS) change(h *held, in *fusesrv.SetattrIn, pid uint32, s *scratch) syscall.Errno {
	if in.Valid&fusesrv.FattrMode != 0 {
		if e := f.chmodFD(h.fd, in.Mode&0o7777); e != 0 {
			return e
		}
		f.nodes.moded(h, pid)
	}
	if in.Valid&(fusesrv.FattrUID|fusesrv.FattrGID) != 0 {
		if e := f.chown(h, in, pid, s); e != 0 {
			return e
		}
	}
	if in.Valid&fusesrv.FattrSize != 0 {
		if e := f.truncate(h, in, s); e != 0 {
			return e
		}
	}
	if in.Valid&(fusesrv.FattrAtime|fusesrv.FattrMtime) != 0 {
		times := [2]unix.Timespec{
			when(in.Valid, fusesrv.FattrAtime, fusesrv.FattrAtimeNow, in.Atime, in.AtimeNsec),
			when(in.Valid, fusesrv.FattrMtime, fusesrv.FattrMtimeNow, in.Mtime, in.MtimeNsec),
		}
		return f.timesFD(h.fd, &times)
	}
	return 0
}

func (f *FS) chown(h *held, in *fusesrv.SetattrIn, pid uint32, s *scratch) syscall.Errno {
	if f.nodes.owned(h, pid) {
		return f.chownCopy(h, s, in)
	}
	return chown(h.fd, in)
}

// chown changes the owners that in names. The kernel takes set-id bits away.
func chown(fd int, in *fusesrv.SetattrIn) syscall.Errno {
	const same = ^uint32(0)
	uid, gid := same, same
	if in.Valid&fusesrv.FattrUID != 0 {
		uid = in.UID
	}
	if in.Valid&fusesrv.FattrGID != 0 {
		gid = in.GID
	}
	return chownFD(fd, uid, gid)
}

// when is a time as utimensat(2) wants it.
func when(valid, set, now uint32, sec uint64, nsec uint32) unix.Timespec {
	switch {
	case valid&set == 0:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case valid&now != 0:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return unix.Timespec{Sec: int64(sec), Nsec: int64(min(nsec, 999_999_999))}
}

// truncate sets the size of a regular file. What has the size already is not touched.
func (f *FS) truncate(h *held, in *fusesrv.SetattrIn, s *scratch) syscall.Errno {
	if int64(in.Size) < 0 {
		return unix.EFBIG
	}
	fd := -1
	if in.Valid&fusesrv.FattrFH != 0 {
		if o, e := f.files.hold(in.FH); e == 0 {
			defer f.files.drop(o)
			if o.changes {
				fd = o.fd
			}
		}
	}
	if fd < 0 {
		file, e := f.holdFile(h.id)
		if e != 0 {
			return e
		}
		defer f.drop(&file)
		if fd, e = f.openFile(&file, unix.O_WRONLY); e != 0 {
			return e
		}
		defer f.fds.close(fd)
	}
	if in.Valid&fusesrv.FattrKillSuidgid == 0 {
		// Overlayfs sets the size of a copy, capabilities and all: see nascent.go.
		if e := fstatx(fd, &s.st); e != 0 || s.st.Size == in.Size {
			return e
		}
		return errnoIn(unix.Ftruncate(fd, int64(in.Size)))
	}
	var k killer
	k.begin(fd)
	defer k.end()
	return errnoIn(unix.Ftruncate(fd, int64(in.Size)))
}

// errnoIn is the errno of a call of package unix.
func errnoIn(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if e, ok := err.(syscall.Errno); ok {
		return e
	}
	return unix.EIO
}
