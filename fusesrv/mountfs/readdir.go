package mountfs

import (
	"syscall"

	"vrafs/fusesrv"
)

// childCookie marks the cookies of mountpoints that are listed behind what a file
// system has in its root. The host's file systems use all bits but this one.
const childCookie = 1 << 63

// Readdir lists a directory; a root that has mountpoints in it shows them.
func (f *FS) Readdir(r *fusesrv.Request, in *fusesrv.ReadIn, w *fusesrv.Reply) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	if d := m.place; d != nil && r.Node == m.root && len(d.children) > 0 {
		return f.listRoot(r, m, in, w, false)
	}
	return m.done(fusesrv.OpReaddir, m.fs.Readdir(r, in, w))
}

// Readdirplus lists a directory like Readdir.
func (f *FS) Readdirplus(r *fusesrv.Request, in *fusesrv.ReadIn, w *fusesrv.Reply) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	if d := m.place; d != nil && r.Node == m.root && len(d.children) > 0 {
		return f.listRoot(r, m, in, w, true)
	}
	return m.done(fusesrv.OpReaddirplus, m.fs.Readdirplus(r, in, w))
}

// listRoot lists a mount's root without the names that mountpoints cover, then
// the mountpoints. A file system that lists its root with a Task shows no
// mountpoints in it; they are found by their names.
func (f *FS) listRoot(r *fusesrv.Request, m placed, in *fusesrv.ReadIn, w *fusesrv.Reply, plus bool) syscall.Errno {
	from := uint64(0)
	if in.Offset < childCookie {
		w.Dir.Hide = func(name []byte) bool { return m.place.child(name) != nil }
		method, op := m.fs.Readdir, fusesrv.OpReaddir
		if plus {
			method, op = m.fs.Readdirplus, fusesrv.OpReaddirplus
		}
		e := m.done(op, method(r, in, w))
		w.Dir.Hide = nil
		if e != 0 || w.Dir.Full() {
			return e
		}
	} else {
		from = in.Offset &^ childCookie
	}
	f.addChildren(r, m.place, from, childCookie, w, plus)
	r.SetView(&m.view, m.root)
	return 0
}
