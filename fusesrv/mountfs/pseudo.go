package mountfs

import (
	"syscall"

	"vrafs/fusesrv"
)

// pseudoMode is that of pseudo directories (nydusd 4.7).
const pseudoMode = syscall.S_IFDIR | 0o777

// attrValid is how long, in seconds, a guest may keep the attributes of pseudo
// directories: for ever. A client that waits for the end of a killed daemon asks for
// those of the mountpoint, and has to get them with no daemon there.
const attrValid = 1 << 32

// dtDir is the type of a directory entry that is a directory (readdir(3)).
const dtDir = 4

// A pseudo is the file system of the directories that lead to mountpoints. Its
// node ids are those of dirs.
type pseudo struct {
	fusesrv.ReadOnly
	f *FS
}

// Root returns the id of "/".
func (p *pseudo) Root() uint64 { return fusesrv.RootID }

// RootEntry stores "/".
func (p *pseudo) RootEntry(out *fusesrv.EntryOut) syscall.Errno {
	p.entry(p.f.table.Load().root(), out)
	return 0
}

// dir returns the directory that a request is about, or nil.
func (p *pseudo) dir(r *fusesrv.Request) *dir { return p.f.table.Load().dirs[r.Node] }

func (p *pseudo) attr(d *dir, out *fusesrv.Attr) {
	changed := p.f.table.Load().changed
	sec, nsec := uint64(changed.Unix()), uint32(changed.Nanosecond())
	// One link says nothing about the number of directories below, which changes.
	*out = fusesrv.Attr{
		Ino: d.id, Mode: pseudoMode, Nlink: 1, Blksize: 4096,
		Atime: sec, Mtime: sec, Ctime: sec, AtimeNsec: nsec, MtimeNsec: nsec, CtimeNsec: nsec,
	}
}

// entry stores what a lookup of d finds; it may be something else at once.
func (p *pseudo) entry(d *dir, out *fusesrv.EntryOut) {
	*out = fusesrv.EntryOut{NodeID: d.id, AttrValid: attrValid}
	p.attr(d, &out.Attr)
}

// up returns the directory above; the root's is the root.
func (d *dir) up() *dir {
	if d.parent == nil {
		return d
	}
	return d.parent
}

// enter finds what is to be seen at a directory: itself, or the root of what is
// mounted there.
func (f *FS) enter(r *fusesrv.Request, d *dir, out *fusesrv.EntryOut) syscall.Errno {
	if d.mount == nil {
		r.SetView(&f.dirs.view, d.id)
		f.dirs.fs.(*pseudo).entry(d, out)
		return 0
	}
	r.SetView(&d.mount.view, d.mount.root)
	e := d.mount.fs.RootEntry(out)
	out.EntryValid, out.EntryValidNsec = 0, 0
	return e
}

// Lookup finds a directory below. That a name is not there is good for this
// moment only.
func (p *pseudo) Lookup(r *fusesrv.Request, name []byte, out *fusesrv.EntryOut) syscall.Errno {
	d := p.dir(r)
	if d == nil {
		return syscall.ESTALE
	}
	switch string(name) {
	case ".":
		return p.f.enter(r, d, out)
	case "..":
		return p.f.enter(r, d.up(), out)
	}
	c := d.child(name)
	if c == nil {
		return syscall.ENOENT
	}
	return p.f.enter(r, c, out)
}

// Getattr shows a directory.
func (p *pseudo) Getattr(r *fusesrv.Request, _ *fusesrv.GetattrIn, out *fusesrv.AttrOut) syscall.Errno {
	d := p.dir(r)
	if d == nil {
		return syscall.ESTALE
	}
	p.attr(d, &out.Attr)
	out.AttrValid = attrValid
	return 0
}

// Statx shows a directory.
func (p *pseudo) Statx(r *fusesrv.Request, in *fusesrv.StatxIn, out *fusesrv.StatxOut) syscall.Errno {
	const basic = 0x7ff
	var a fusesrv.AttrOut
	e := p.Getattr(r, nil, &a)
	out.AttrValid, out.Statx = a.AttrValid, a.Attr.Statx(basic)
	return e
}

// Opendir gives no handle, and nothing to keep.
func (p *pseudo) Opendir(r *fusesrv.Request, _ *fusesrv.OpenIn, _ *fusesrv.OpenOut) syscall.Errno {
	if p.dir(r) == nil {
		return syscall.ESTALE
	}
	return 0
}

// Readdir lists the directories below.
func (p *pseudo) Readdir(r *fusesrv.Request, in *fusesrv.ReadIn, w *fusesrv.Reply) syscall.Errno {
	return p.list(r, in, w, false)
}

// Readdirplus lists them without what a lookup would find: the guest asks again.
func (p *pseudo) Readdirplus(r *fusesrv.Request, in *fusesrv.ReadIn, w *fusesrv.Reply) syscall.Errno {
	return p.list(r, in, w, true)
}

func (p *pseudo) list(r *fusesrv.Request, in *fusesrv.ReadIn, w *fusesrv.Reply, plus bool) syscall.Errno {
	d := p.dir(r)
	if d == nil {
		return syscall.ESTALE
	}
	// Cookies: 0 ".", 1 "..", then the id of the child to go on with or after.
	dots := [...]struct {
		name string
		dir  *dir
	}{{".", d}, {"..", d.up()}}
	for i, dot := range dots {
		if in.Offset <= uint64(i) && !p.add(r, dot.dir, dot.name, uint64(i+1), w, plus) {
			break
		}
	}
	p.f.addChildren(r, d, in.Offset, 0, w, plus)
	r.SetView(&p.f.dirs.view, r.Node)
	return 0
}

// addChildren lists d's children from cookie from on; mark is set in the cookies.
func (f *FS) addChildren(r *fusesrv.Request, d *dir, from, mark uint64, w *fusesrv.Reply, plus bool) {
	p := f.dirs.fs.(*pseudo)
	for _, c := range d.children {
		if c.id >= from && !p.add(r, c, c.name(), mark|(c.id+1), w, plus) {
			return
		}
	}
}

func (p *pseudo) add(r *fusesrv.Request, d *dir, name string, next uint64, w *fusesrv.Reply, plus bool) bool {
	view, ino := &p.f.dirs.view, d.id
	if d.mount != nil {
		view, ino = &d.mount.view, d.mount.root
	}
	r.SetView(view, r.Node)
	if !plus {
		return w.Dir.Add(ino, next, dtDir, []byte(name))
	}
	w.Dir.Entry = fusesrv.EntryOut{Attr: fusesrv.Attr{Ino: ino}}
	return w.Dir.AddPlus(next, dtDir, []byte(name))
}

// Statfs says what images say.
func (p *pseudo) Statfs(_ *fusesrv.Request, out *fusesrv.StatfsOut) syscall.Errno {
	out.Bsize, out.Namelen = 512, 255
	return 0
}

// Ioctl knows none.
func (p *pseudo) Ioctl(*fusesrv.Request, *fusesrv.IoctlIn, *fusesrv.Reply) syscall.Errno {
	return syscall.ENOTTY
}
