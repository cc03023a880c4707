package imagefs

import (
	"syscall"

	"vrafs/fusesrv"
)

// Getxattr gives one extended attribute. ENOSYS says that the image has none at
// all, so that a guest need not ask again.
func (f *FS) Getxattr(r *fusesrv.Request, in *fusesrv.GetxattrIn, name []byte, w *fusesrv.Reply) syscall.Errno {
	if !f.xattr {
		return syscall.ENOSYS
	}
	n, e := f.inode(r)
	if e != 0 {
		return e
	}
	value, ok, err := n.Xattr(name)
	switch {
	case err != nil:
		return errnoOf(err)
	case !ok:
		return syscall.ENODATA
	}
	return w.Value(in.Size, value)
}

// Listxattr gives the names of all.
func (f *FS) Listxattr(r *fusesrv.Request, in *fusesrv.GetxattrIn, w *fusesrv.Reply) syscall.Errno {
	if !f.xattr {
		return syscall.ENOSYS
	}
	n, e := f.inode(r)
	if e != 0 {
		return e
	}
	s := local.Of(r.Worker())
	var err error
	if s.names, err = n.AppendXattrNames(s.names[:0]); err != nil {
		return errnoOf(err)
	}
	return w.Value(in.Size, s.names)
}
