package passthrough

import (
	"bytes"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
)

const (
	// listBytes is what is read of a directory at once, and listRoom all that is kept
	// of directories that are being listed, in bytes.
	listBytes = 32 << 10
	listRoom  = 8 << 20
	// direntHead is where the name of a struct linux_dirent64 begins.
	direntHead = 19
)

// A listing is how far a directory has been read.
type listing struct {
	node uint64
	dev  uint64
	room *atomic.Int64 // bytes that may be kept, of the FS

	mu   sync.Mutex
	buf  *[]byte // nil: nothing is kept
	rest []byte  // of buf, not given to the guest yet
	next uint64  // cookie of what rest begins with

	at atomic.Uint64 // cookie of what the descriptor reads next; changed under mu
}

// listBuffers are of listBytes.
var listBuffers pool

// free gives the buffer up.
func (l *listing) free() {
	if l.buf != nil {
		l.room.Add(listBytes)
		listBuffers.put(l.buf)
	}
	l.buf, l.rest = nil, nil
}

// Opendir opens a directory.
func (f *FS) Opendir(r *fusesrv.Request, _ *fusesrv.OpenIn, out *fusesrv.OpenOut) syscall.Errno {
	h, e := f.nodes.hold(r.Node)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	if h.kind != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY
	var fd int
	if h.slot == rootID || h.fd >= 0 && h.rec.size == 0 {
		fd, e = f.openCounted(func() (int, unix.Errno) { return openAt(h.fd, &here, flags, 0) })
	} else {
		fd, e = f.openFile(&h, flags)
	}
	if e != 0 {
		return e
	}
	m := f.mounts.get(h.rec.mount)
	out.FH = f.files.add(opened{fd: fd, local: m != nil && m.local, dir: &listing{node: r.Node, dev: h.rec.dev, room: &f.listRoom}})
	if out.FH == 0 {
		f.fds.close(fd)
		return unix.ENFILE
	}
	return 0
}

// Releasedir closes a directory.
func (f *FS) Releasedir(r *fusesrv.Request, in *fusesrv.ReleaseIn) syscall.Errno {
	return f.Release(r, in)
}

// Readdir lists names.
func (f *FS) Readdir(r *fusesrv.Request, in *fusesrv.ReadIn, w *fusesrv.Reply) syscall.Errno {
	return f.list(r, in, w, false)
}

// Readdirplus lists names with a lookup of each.
func (f *FS) Readdirplus(r *fusesrv.Request, in *fusesrv.ReadIn, w *fusesrv.Reply) syscall.Errno {
	return f.list(r, in, w, true)
}

func (f *FS) list(r *fusesrv.Request, in *fusesrv.ReadIn, w *fusesrv.Reply, plus bool) syscall.Errno {
	o, e := f.files.hold(in.FH)
	if e != 0 {
		return e
	}
	defer f.files.drop(o)
	l := o.dir
	if l == nil {
		return unix.ENOTDIR
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.keep()
	s := local.Of(r.Worker())
	if e := l.seek(o.fd, in.Offset); e != 0 {
		return e
	}
	for {
		if len(l.rest) == 0 {
			if e := l.fill(o.fd, s); e != 0 || len(l.rest) == 0 {
				return ended(e, w)
			}
		}
		d, ok := cutEntry(l.rest)
		if !ok {
			return ended(unix.EIO, w)
		}
		added, e := f.addEntry(o.fd, l, &d, w, plus, s)
		if e != 0 {
			return ended(e, w)
		}
		if !added {
			return 0
		}
		l.rest, l.next = l.rest[d.size:], d.next
	}
}

// ended is the answer when an error ends a listing: what was found before is shown
// first.
func ended(e syscall.Errno, w *fusesrv.Reply) syscall.Errno {
	if w.Dir.Len() > 0 {
		return 0
	}
	return e
}

// seek makes rest begin with the entry of a cookie.
func (l *listing) seek(fd int, cookie uint64) syscall.Errno {
	if cookie == l.next && len(l.rest) > 0 {
		return 0
	}
	l.free()
	l.next = cookie
	if cookie == l.at.Load() {
		return 0
	}
	if int64(cookie) < 0 {
		return unix.EINVAL
	}
	if _, err := unix.Seek(fd, int64(cookie), 0); err != nil {
		return errnoIn(err)
	}
	l.at.Store(cookie)
	return 0
}

// fill reads on. Where there is room to keep what does not fit into a reply, that is
// done.
func (l *listing) fill(fd int, s *scratch) syscall.Errno {
	if l.buf == nil && l.room.Add(-listBytes) >= 0 {
		l.buf = listBuffers.get(listBytes)
	} else if l.buf == nil {
		l.room.Add(listBytes)
	}
	var buf []byte
	if l.buf != nil {
		buf = *l.buf
	} else {
		buf = s.buffer(listBytes)
	}
	n, err := unix.Getdents(fd, buf)
	if err != nil {
		return errnoIn(err)
	}
	l.rest = buf[:n]
	if n == 0 {
		l.free() // the end
		return 0
	}
	for rest := l.rest; len(rest) > 0; {
		d, ok := cutEntry(rest)
		if !ok {
			return unix.EIO
		}
		l.at.Store(d.next)
		rest = rest[d.size:]
	}
	return 0
}

// keep forgets what lies in memory of the worker's.
func (l *listing) keep() {
	if l.buf == nil {
		l.rest = nil
	}
}

// A dirent is an entry of a directory.
type dirent struct {
	ino, next uint64
	kind      uint8
	name      []byte
	size      int
}

// cutEntry takes the first entry of what getdents64(2) has stored.
func cutEntry(b []byte) (d dirent, ok bool) {
	if len(b) < direntHead {
		return d, false
	}
	size := int(binary.NativeEndian.Uint16(b[16:]))
	if size < direntHead || size > len(b) {
		return d, false
	}
	name := b[direntHead:size]
	end := bytes.IndexByte(name, 0)
	if end <= 0 {
		return d, false
	}
	return dirent{
		ino: binary.NativeEndian.Uint64(b), next: binary.NativeEndian.Uint64(b[8:]),
		kind: b[18], name: name[:end], size: size,
	}, true
}

// addEntry adds an entry to a reply; false says that it does not fit.
func (f *FS) addEntry(dir int, l *listing, d *dirent, w *fusesrv.Reply, plus bool, s *scratch) (bool, syscall.Errno) {
	if !w.Dir.Fits(len(d.name), plus) {
		return false, 0
	}
	if w.Dir.Hide != nil && w.Dir.Hide(d.name) {
		return true, 0
	}
	ino, dots := d.ino, string(d.name) == "." || string(d.name) == ".."
	if l.node == rootID && dots {
		ino = f.rootKey.ino // what is above is nobody's business
	}
	e := fusesrv.EntryOut{Attr: fusesrv.Attr{Ino: f.numbers.of(l.dev, ino)}}
	if !dots && (plus || d.kind == unix.DT_UNKNOWN) {
		if f.look(dir, d, plus, s, &e) == unix.ENOENT {
			return true, 0 // removed meanwhile
		}
	}
	if !plus {
		return w.Dir.Add(e.Attr.Ino, d.next, d.kind, d.name), 0
	}
	w.Dir.Entry = e
	return w.Dir.AddPlus(d.next, d.kind, d.name), 0
}

// look finds out what an entry is and, with plus, counts a lookup of it. What can't be
// looked up is listed all the same.
func (f *FS) look(dir int, d *dirent, plus bool, s *scratch, e *fusesrv.EntryOut) syscall.Errno {
	if err := s.name.set(d.name); err != 0 {
		return err
	}
	found := fusesrv.EntryOut{}
	var err syscall.Errno
	if plus {
		if err = f.enter(dir, &s.name, false, s, &found); err == 0 {
			*e = found
		}
	} else {
		err = statx(dir, &s.name, &s.st)
	}
	if err == 0 {
		d.kind = uint8(s.st.Mode & unix.S_IFMT >> 12)
	}
	return err
}
