package mountfs

import (
	"syscall"

	"vrafs/fusesrv"
)

// The methods of fusesrv.FS that only pass requests on.

// Open counts the handle.
func (f *FS) Open(r *fusesrv.Request, in *fusesrv.OpenIn, out *fusesrv.OpenOut) syscall.Errno {
	m, ok := f.route(r)
	if !ok || m.gone.Load() {
		return syscall.ESTALE
	}
	return m.opened(m.done(fusesrv.OpOpen, m.fs.Open(r, in, out)))
}

// Opendir counts the handle.
func (f *FS) Opendir(r *fusesrv.Request, in *fusesrv.OpenIn, out *fusesrv.OpenOut) syscall.Errno {
	m, ok := f.route(r)
	if !ok || m.gone.Load() {
		return syscall.ESTALE
	}
	return m.opened(m.done(fusesrv.OpOpendir, m.fs.Opendir(r, in, out)))
}

// Create counts the handle.
func (f *FS) Create(r *fusesrv.Request, in *fusesrv.CreateIn, name []byte, out *fusesrv.EntryOut, open *fusesrv.OpenOut) syscall.Errno {
	m, ok := f.route(r)
	if !ok || m.gone.Load() {
		return syscall.ESTALE
	}
	if m.covers(r, name) {
		return syscall.EEXIST
	}
	return m.opened(m.done(fusesrv.OpCreate, m.fs.Create(r, in, name, out, open)))
}

// Tmpfile counts the handle.
func (f *FS) Tmpfile(r *fusesrv.Request, in *fusesrv.CreateIn, out *fusesrv.EntryOut, open *fusesrv.OpenOut) syscall.Errno {
	m, ok := f.route(r)
	if !ok || m.gone.Load() {
		return syscall.ESTALE
	}
	return m.opened(m.done(fusesrv.OpTmpfile, m.fs.Tmpfile(r, in, out, open)))
}

// Release counts the handle back.
func (f *FS) Release(r *fusesrv.Request, in *fusesrv.ReleaseIn) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	e := m.done(fusesrv.OpRelease, m.fs.Release(r, in))
	m.released()
	return e
}

// Releasedir counts the handle back.
func (f *FS) Releasedir(r *fusesrv.Request, in *fusesrv.ReleaseIn) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	e := m.done(fusesrv.OpReleasedir, m.fs.Releasedir(r, in))
	m.released()
	return e
}

// Getattr passes the request on.
func (f *FS) Getattr(r *fusesrv.Request, in *fusesrv.GetattrIn, out *fusesrv.AttrOut) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpGetattr, m.fs.Getattr(r, in, out))
}

// Setattr passes the request on.
func (f *FS) Setattr(r *fusesrv.Request, in *fusesrv.SetattrIn, out *fusesrv.AttrOut) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpSetattr, m.fs.Setattr(r, in, out))
}

// Statx passes the request on.
func (f *FS) Statx(r *fusesrv.Request, in *fusesrv.StatxIn, out *fusesrv.StatxOut) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpStatx, m.fs.Statx(r, in, out))
}

// Readlink passes the request on.
func (f *FS) Readlink(r *fusesrv.Request, w *fusesrv.Reply) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpReadlink, m.fs.Readlink(r, w))
}

// Access passes the request on.
func (f *FS) Access(r *fusesrv.Request, in *fusesrv.AccessIn) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpAccess, m.fs.Access(r, in))
}

// Read passes the request on.
func (f *FS) Read(r *fusesrv.Request, in *fusesrv.ReadIn, w *fusesrv.Reply) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpRead, m.fs.Read(r, in, w))
}

// Write passes the request on.
func (f *FS) Write(r *fusesrv.Request, in *fusesrv.WriteIn, w *fusesrv.Reply) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpWrite, m.fs.Write(r, in, w))
}

// Flush passes the request on.
func (f *FS) Flush(r *fusesrv.Request, in *fusesrv.FlushIn) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpFlush, m.fs.Flush(r, in))
}

// Fsync passes the request on.
func (f *FS) Fsync(r *fusesrv.Request, in *fusesrv.FsyncIn) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpFsync, m.fs.Fsync(r, in))
}

// Fallocate passes the request on.
func (f *FS) Fallocate(r *fusesrv.Request, in *fusesrv.FallocateIn) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpFallocate, m.fs.Fallocate(r, in))
}

// Lseek passes the request on.
func (f *FS) Lseek(r *fusesrv.Request, in *fusesrv.LseekIn, out *fusesrv.LseekOut) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpLseek, m.fs.Lseek(r, in, out))
}

// Ioctl passes the request on.
func (f *FS) Ioctl(r *fusesrv.Request, in *fusesrv.IoctlIn, w *fusesrv.Reply) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpIoctl, m.fs.Ioctl(r, in, w))
}

// Fsyncdir passes the request on.
func (f *FS) Fsyncdir(r *fusesrv.Request, in *fusesrv.FsyncIn) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpFsyncdir, m.fs.Fsyncdir(r, in))
}

// Statfs passes the request on.
func (f *FS) Statfs(r *fusesrv.Request, out *fusesrv.StatfsOut) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpStatfs, m.fs.Statfs(r, out))
}

// Syncfs passes the request on.
func (f *FS) Syncfs(r *fusesrv.Request) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpSyncfs, m.fs.Syncfs(r))
}

// Getxattr passes the request on.
func (f *FS) Getxattr(r *fusesrv.Request, in *fusesrv.GetxattrIn, name []byte, w *fusesrv.Reply) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpGetxattr, m.fs.Getxattr(r, in, name, w))
}

// Listxattr passes the request on. A file system without extended attributes has
// none of them, which takes a reply.
func (f *FS) Listxattr(r *fusesrv.Request, in *fusesrv.GetxattrIn, w *fusesrv.Reply) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	e := m.fs.Listxattr(r, in, w)
	if e == syscall.ENOSYS && m.done(fusesrv.OpListxattr, e) == 0 {
		return w.Value(in.Size, nil)
	}
	return m.done(fusesrv.OpListxattr, e)
}

// Setxattr passes the request on.
func (f *FS) Setxattr(r *fusesrv.Request, in *fusesrv.SetxattrIn, name, value []byte) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpSetxattr, m.fs.Setxattr(r, in, name, value))
}

// Removexattr passes the request on.
func (f *FS) Removexattr(r *fusesrv.Request, name []byte) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpRemovexattr, m.fs.Removexattr(r, name))
}

// Getlk passes the request on.
func (f *FS) Getlk(r *fusesrv.Request, in *fusesrv.LkIn, out *fusesrv.LkOut) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpGetlk, m.fs.Getlk(r, in, out))
}

// Setlk passes the request on.
func (f *FS) Setlk(r *fusesrv.Request, in *fusesrv.LkIn, wait bool) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpSetlk, m.fs.Setlk(r, in, wait))
}

// Setupmapping passes the request on.
func (f *FS) Setupmapping(r *fusesrv.Request, in *fusesrv.SetupmappingIn) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpSetupmapping, m.fs.Setupmapping(r, in))
}

// Removemapping passes the request on.
func (f *FS) Removemapping(r *fusesrv.Request, ranges []fusesrv.RemovemappingOne) syscall.Errno {
	m, ok := f.route(r)
	if !ok {
		return syscall.ESTALE
	}
	return m.done(fusesrv.OpRemovemapping, m.fs.Removemapping(r, ranges))
}
