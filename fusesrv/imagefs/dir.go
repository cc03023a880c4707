package imagefs

import (
	"syscall"

	"vrafs/fusesrv"
	"vrafs/rafs"
)

// Opendir gives no handle; the guest may keep what it reads.
func (f *FS) Opendir(r *fusesrv.Request, _ *fusesrv.OpenIn, out *fusesrv.OpenOut) syscall.Errno {
	n, e := f.inode(r)
	if e == 0 && !n.IsDir() {
		e = syscall.ENOTDIR
	}
	out.OpenFlags = fusesrv.OpenKeepCache | fusesrv.OpenCacheDir
	return e
}

// Readdir lists names.
func (f *FS) Readdir(r *fusesrv.Request, in *fusesrv.ReadIn, w *fusesrv.Reply) syscall.Errno {
	return f.list(r, in.Offset, w, false)
}

// Readdirplus lists names with what a lookup of each would find.
func (f *FS) Readdirplus(r *fusesrv.Request, in *fusesrv.ReadIn, w *fusesrv.Reply) syscall.Errno {
	return f.list(r, in.Offset, w, true)
}

func (f *FS) list(r *fusesrv.Request, from uint64, w *fusesrv.Reply, plus bool) syscall.Errno {
	n, e := f.inode(r)
	if e != 0 {
		return e
	}
	c, err := n.Dir(from)
	if err != nil {
		return errnoOf(err)
	}
	var d rafs.Dirent
	for {
		ok, err := c.Next(&d)
		if err != nil && w.Dir.Len() == 0 {
			return errnoOf(err)
		}
		// An error behind good entries shows when the guest goes on there.
		if !ok || err != nil || !f.add(&d, w, plus) {
			return 0
		}
	}
}

// add adds an entry, if it fits.
func (f *FS) add(d *rafs.Dirent, w *fusesrv.Reply, plus bool) bool {
	if !plus {
		return w.Dir.Add(uint64(d.Ino), d.Cursor, d.Type, d.Name)
	}
	if !w.Dir.Fits(len(d.Name), true) {
		return false
	}
	w.Dir.Entry = fusesrv.EntryOut{Attr: fusesrv.Attr{Ino: uint64(d.Ino)}}
	if !isDots(d.Name) {
		// An inode that can't be read is listed all the same; a lookup says why.
		if n, e := f.child(d.Ino); e == 0 {
			f.entry(&n, &w.Dir.Entry)
		}
	}
	return w.Dir.AddPlus(d.Cursor, d.Type, d.Name)
}

func isDots(name []byte) bool {
	return string(name) == "." || string(name) == ".."
}

// Releasedir has nothing to release.
func (f *FS) Releasedir(*fusesrv.Request, *fusesrv.ReleaseIn) syscall.Errno { return 0 }

// Fsyncdir has nothing to write.
func (f *FS) Fsyncdir(*fusesrv.Request, *fusesrv.FsyncIn) syscall.Errno { return 0 }
