package mountfs

import (
	"syscall"

	"vrafs/fusesrv"
)

// The methods of fusesrv.FS that change names: a mountpoint can't be changed from
// inside.

// covers reports whether name, in the directory that r is about, is a mountpoint
// or leads to one.
func (m placed) covers(r *fusesrv.Request, name []byte) bool {
	return m.place != nil && r.Node == m.root && m.place.child(name) != nil
}

// routeName is route for a change of name, which ends with taken if that is covered.
func (f *FS) routeName(r *fusesrv.Request, name []byte, taken syscall.Errno) (placed, syscall.Errno) {
	m, ok := f.route(r)
	switch {
	case !ok:
		return m, syscall.ESTALE
	case m.covers(r, name):
		return m, taken
	}
	return m, 0
}

// Symlink passes the request on.
func (f *FS) Symlink(r *fusesrv.Request, name, target []byte, out *fusesrv.EntryOut) syscall.Errno {
	m, e := f.routeName(r, name, syscall.EEXIST)
	if e != 0 {
		return e
	}
	return m.done(fusesrv.OpSymlink, m.fs.Symlink(r, name, target, out))
}

// Mknod passes the request on.
func (f *FS) Mknod(r *fusesrv.Request, in *fusesrv.MknodIn, name []byte, out *fusesrv.EntryOut) syscall.Errno {
	m, e := f.routeName(r, name, syscall.EEXIST)
	if e != 0 {
		return e
	}
	return m.done(fusesrv.OpMknod, m.fs.Mknod(r, in, name, out))
}

// Mkdir passes the request on.
func (f *FS) Mkdir(r *fusesrv.Request, in *fusesrv.MkdirIn, name []byte, out *fusesrv.EntryOut) syscall.Errno {
	m, e := f.routeName(r, name, syscall.EEXIST)
	if e != 0 {
		return e
	}
	return m.done(fusesrv.OpMkdir, m.fs.Mkdir(r, in, name, out))
}

// Unlink passes the request on.
func (f *FS) Unlink(r *fusesrv.Request, name []byte) syscall.Errno {
	m, e := f.routeName(r, name, syscall.EBUSY)
	if e != 0 {
		return e
	}
	return m.done(fusesrv.OpUnlink, m.fs.Unlink(r, name))
}

// Rmdir passes the request on.
func (f *FS) Rmdir(r *fusesrv.Request, name []byte) syscall.Errno {
	m, e := f.routeName(r, name, syscall.EBUSY)
	if e != 0 {
		return e
	}
	return m.done(fusesrv.OpRmdir, m.fs.Rmdir(r, name))
}

// Link passes the request on, if both nodes are of one file system.
func (f *FS) Link(r *fusesrv.Request, in *fusesrv.LinkIn, name []byte, out *fusesrv.EntryOut) syscall.Errno {
	m, e := f.routeBoth(r, &in.OldNodeID)
	switch {
	case e != 0:
		return e
	case m.covers(r, name):
		return syscall.EEXIST
	}
	return m.done(fusesrv.OpLink, m.fs.Link(r, in, name, out))
}

// Rename passes the request on, if both directories are of one file system.
func (f *FS) Rename(r *fusesrv.Request, in *fusesrv.RenameIn, from, to []byte) syscall.Errno {
	m, e := f.routeBoth(r, &in.NewDir)
	switch {
	case e != 0:
		return e
	case m.covers(r, from), m.place != nil && in.NewDir == m.root && m.place.child(to) != nil:
		return syscall.EBUSY
	}
	return m.done(fusesrv.OpRename2, m.fs.Rename(r, in, from, to))
}

// CopyFileRange passes the request on, if both files are of one file system.
func (f *FS) CopyFileRange(r *fusesrv.Request, in *fusesrv.CopyFileRangeIn, out *fusesrv.LseekOut) syscall.Errno {
	m, e := f.routeBoth(r, &in.NodeIDOut)
	if e != 0 {
		return e
	}
	return m.done(fusesrv.OpCopyFileRange, m.fs.CopyFileRange(r, in, out))
}
