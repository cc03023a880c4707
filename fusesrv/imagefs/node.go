package imagefs

import (
	"syscall"

	"vrafs/fusesrv"
	"vrafs/rafs"
)

const (
	blockSize = 4096 // st_blksize
	// rootMode is what the root always shows, whatever the builder's umask was.
	rootMode = rafs.ModeDir | 0o755
)

// Bits of a statx mask (statx(2)).
const statxBasic = 0x7ff

// inode returns the inode that a request is about. A node that there is none for
// is ESTALE: the guest looks it up again.
func (f *FS) inode(r *fusesrv.Request) (rafs.Inode, syscall.Errno) {
	if r.Node > maxIno {
		return rafs.Inode{}, syscall.ESTALE
	}
	n, err := f.im.Inode(rafs.Ino(r.Node))
	if err != nil {
		return n, syscall.ESTALE
	}
	return n, f.check.inode(&n)
}

// child returns an inode that the image's own directories name.
func (f *FS) child(ino rafs.Ino) (rafs.Inode, syscall.Errno) {
	if ino > maxIno || ino == 0 || ino == fusesrv.RootID && f.root != fusesrv.RootID {
		return rafs.Inode{}, syscall.EUCLEAN
	}
	n, err := f.im.Inode(ino)
	if err != nil {
		return n, errnoOf(err)
	}
	return n, f.check.inode(&n)
}

// attr stores what stat(2) shows.
func (f *FS) attr(n *rafs.Inode, out *fusesrv.Attr) {
	a := n.Attr()
	if f.ownerless {
		a.UID, a.GID = f.uid, f.gid
	}
	sec, nsec := uint64(a.Mtime), a.MtimeNsec
	if a.Ino == f.root {
		a.Mode = rootMode
		if sec == 0 && nsec == 0 { // no builder stores the root's time
			sec, nsec = uint64(f.mounted.Unix()), uint32(f.mounted.Nanosecond())
		}
	}
	*out = fusesrv.Attr{
		Ino: uint64(a.Ino), Size: a.Size, Blocks: a.Blocks,
		Atime: sec, Mtime: sec, Ctime: sec, AtimeNsec: nsec, MtimeNsec: nsec, CtimeNsec: nsec,
		Mode: a.Mode, Nlink: max(1, a.Nlink), UID: a.UID, GID: a.GID, Rdev: a.Rdev, Blksize: blockSize,
	}
}

// entry stores what a lookup finds.
func (f *FS) entry(n *rafs.Inode, out *fusesrv.EntryOut) {
	out.NodeID, out.Generation = uint64(n.Ino()), f.gen
	out.EntryValid, out.AttrValid = forever, forever
	out.EntryValidNsec, out.AttrValidNsec = 0, 0
	f.attr(n, &out.Attr)
}

// RootEntry stores what a lookup of the root finds.
func (f *FS) RootEntry(out *fusesrv.EntryOut) syscall.Errno {
	n, e := f.child(f.root)
	if e == 0 {
		f.entry(&n, out)
	}
	return e
}

// Lookup finds a child; that there is none holds for ever, too.
func (f *FS) Lookup(r *fusesrv.Request, name []byte, out *fusesrv.EntryOut) syscall.Errno {
	dir, e := f.inode(r)
	if e != 0 {
		return e
	}
	ino, err := dir.Lookup(name)
	if err == rafs.ErrNotExist {
		out.EntryValid = forever
		return 0
	}
	if err != nil {
		return errnoOf(err)
	}
	n, e := f.child(ino)
	if e == 0 {
		f.entry(&n, out)
	}
	return e
}

// Getattr shows a node.
func (f *FS) Getattr(r *fusesrv.Request, _ *fusesrv.GetattrIn, out *fusesrv.AttrOut) syscall.Errno {
	n, e := f.inode(r)
	if e == 0 {
		out.AttrValid = forever
		f.attr(&n, &out.Attr)
	}
	return e
}

// Statx shows a node; there is no birth time.
func (f *FS) Statx(r *fusesrv.Request, _ *fusesrv.StatxIn, out *fusesrv.StatxOut) syscall.Errno {
	n, e := f.inode(r)
	if e != 0 {
		return e
	}
	var a fusesrv.Attr
	f.attr(&n, &a)
	out.AttrValid = forever
	out.Statx = a.Statx(statxBasic)
	return 0
}

// Readlink gives a symlink's target.
func (f *FS) Readlink(r *fusesrv.Request, w *fusesrv.Reply) syscall.Errno {
	n, e := f.inode(r)
	if e != 0 {
		return e
	}
	target, err := n.Symlink()
	if err != nil {
		return errnoOf(err)
	}
	if len(target) > w.Room() {
		return syscall.ENAMETOOLONG
	}
	return w.Bytes(target)
}

// Statfs says what nydusd says.
func (f *FS) Statfs(_ *fusesrv.Request, out *fusesrv.StatfsOut) syscall.Errno {
	out.Bsize, out.Namelen = 512, rafs.MaxNameLen
	return 0
}
