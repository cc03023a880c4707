package mountfs

import (
	"syscall"

	"vrafs/fusesrv"
)

// instead is what is answered in place of ENOSYS on a connection that may carry
// more than images: true for the guest's purposes, but not remembered. 0 is an
// empty answer. What is not listed no file system here can do, so ENOSYS is right.
var instead = map[fusesrv.Opcode]syscall.Errno{
	fusesrv.OpFlush:         0,
	fusesrv.OpFsync:         0,
	fusesrv.OpFsyncdir:      0,
	fusesrv.OpRelease:       0,
	fusesrv.OpReleasedir:    0,
	fusesrv.OpSyncfs:        0,
	fusesrv.OpGetxattr:      syscall.ENODATA,
	fusesrv.OpListxattr:     0,
	fusesrv.OpSetxattr:      syscall.EOPNOTSUPP,
	fusesrv.OpRemovexattr:   syscall.EOPNOTSUPP,
	fusesrv.OpSetattr:       syscall.EROFS,
	fusesrv.OpSymlink:       syscall.EROFS,
	fusesrv.OpMknod:         syscall.EROFS,
	fusesrv.OpMkdir:         syscall.EROFS,
	fusesrv.OpUnlink:        syscall.EROFS,
	fusesrv.OpRmdir:         syscall.EROFS,
	fusesrv.OpRename:        syscall.EROFS,
	fusesrv.OpRename2:       syscall.EROFS,
	fusesrv.OpLink:          syscall.EROFS,
	fusesrv.OpCreate:        syscall.EROFS,
	fusesrv.OpTmpfile:       syscall.EOPNOTSUPP,
	fusesrv.OpWrite:         syscall.EBADF,
	fusesrv.OpFallocate:     syscall.EOPNOTSUPP,
	fusesrv.OpCopyFileRange: syscall.EOPNOTSUPP,
	fusesrv.OpLseek:         syscall.EINVAL,
	fusesrv.OpReadlink:      syscall.EINVAL,
	fusesrv.OpRead:          syscall.EISDIR,
	fusesrv.OpOpen:          syscall.EISDIR,
	fusesrv.OpOpendir:       syscall.ENOTDIR,
	fusesrv.OpReaddir:       syscall.ENOTDIR,
	fusesrv.OpReaddirplus:   syscall.ENOTDIR,
	fusesrv.OpLookup:        syscall.ENOENT,
	fusesrv.OpGetattr:       syscall.EIO,
	fusesrv.OpStatx:         syscall.EOPNOTSUPP,
	fusesrv.OpStatfs:        syscall.EIO,
	fusesrv.OpGetlk:         syscall.EOPNOTSUPP,
	fusesrv.OpSetlk:         syscall.EOPNOTSUPP,
}

// unsupported is the answer for what a file system answers ENOSYS.
func (f *FS) unsupported(o fusesrv.Opcode) syscall.Errno {
	isXattr := o == fusesrv.OpGetxattr || o == fusesrv.OpListxattr
	if f.o.ImagesOnly && !(isXattr && f.table.Load().xattrs) {
		f.latched.Or(1 << o)
		return syscall.ENOSYS
	}
	if e, ok := instead[o]; ok {
		return e
	}
	return syscall.ENOSYS
}
