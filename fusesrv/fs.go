package fusesrv

import "syscall"

// Pending is what an FS method returns, through Request.Pend, when its Task will
// answer. It is no errno and never reaches a guest.
const Pending syscall.Errno = 0xffff

// An FS is a file system: one method per operation, named as in fuse.h. Methods
// are called from many goroutines at once.
//
// A method returns 0 when done, an errno, or Pending. It must not wait for
// anything but local memory and files: what may wait goes into a Task. r.Node is
// the node asked about. Arguments, names and out are valid only during the call;
// out is zero at its start and is sent only after 0. Names are 1 to 255 bytes
// without NUL or slash, and neither "." nor ".." but in Lookup.
//
// ENOSYS from a method switches that operation off for the life of the guest's
// mount; an FS of a connection that may carry others leaves it to package
// mountfs.
//
// Embed ReadOnly or Unsupported for the methods that are not there.
type FS interface {
	// Init is asked when a connection starts. offer is what the guest can do; s
	// holds the server's proposal, which the FS may change. Flags beyond offer are
	// cleared afterwards.
	Init(offer InitFlags, s *Settings) syscall.Errno
	// Destroy ends the session: nothing the guest knew is known any more. Requests
	// of the old session may still be running.
	Destroy()

	// Lookup finds a child. 0 with out.NodeID 0 is a name that does not exist, for
	// out.EntryValid seconds; ENOENT is the same for now only.
	Lookup(r *Request, name []byte, out *EntryOut) syscall.Errno
	// Forget takes nlookup references from node. Forget has no reply; nlookup is
	// what the guest says.
	Forget(r *Request, node, nlookup uint64)
	Getattr(r *Request, in *GetattrIn, out *AttrOut) syscall.Errno
	Setattr(r *Request, in *SetattrIn, out *AttrOut) syscall.Errno
	Statx(r *Request, in *StatxIn, out *StatxOut) syscall.Errno
	// Readlink writes the target to w.
	Readlink(r *Request, w *Reply) syscall.Errno
	Access(r *Request, in *AccessIn) syscall.Errno

	// Symlink's target is 1 to 4095 bytes.
	Symlink(r *Request, name, target []byte, out *EntryOut) syscall.Errno
	Mknod(r *Request, in *MknodIn, name []byte, out *EntryOut) syscall.Errno
	Mkdir(r *Request, in *MkdirIn, name []byte, out *EntryOut) syscall.Errno
	Link(r *Request, in *LinkIn, name []byte, out *EntryOut) syscall.Errno
	Unlink(r *Request, name []byte) syscall.Errno
	Rmdir(r *Request, name []byte) syscall.Errno
	// Rename serves RENAME (no flags) and RENAME2.
	Rename(r *Request, in *RenameIn, from, to []byte) syscall.Errno
	Create(r *Request, in *CreateIn, name []byte, out *EntryOut, open *OpenOut) syscall.Errno
	// Tmpfile's name is only a hint.
	Tmpfile(r *Request, in *CreateIn, out *EntryOut, open *OpenOut) syscall.Errno

	Open(r *Request, in *OpenIn, out *OpenOut) syscall.Errno
	// Read stores up to in.Size bytes, already clamped to the guest's buffers, in
	// w.Data and says how many with w.SetLen. Fewer than asked means end of file
	// to the guest.
	Read(r *Request, in *ReadIn, w *Reply) syscall.Errno
	// Write stores in.Size bytes of w.Input and says how many in w.Written.
	Write(r *Request, in *WriteIn, w *Reply) syscall.Errno
	Flush(r *Request, in *FlushIn) syscall.Errno
	Fsync(r *Request, in *FsyncIn) syscall.Errno
	Release(r *Request, in *ReleaseIn) syscall.Errno
	Fallocate(r *Request, in *FallocateIn) syscall.Errno
	Lseek(r *Request, in *LseekIn, out *LseekOut) syscall.Errno
	// CopyFileRange says in out.Offset how many bytes it copied.
	CopyFileRange(r *Request, in *CopyFileRangeIn, out *LseekOut) syscall.Errno
	// Ioctl finds the in.InSize bytes after its argument in w.Input, and answers
	// with w.Ioctl and up to in.OutSize bytes of w.Data.
	Ioctl(r *Request, in *IoctlIn, w *Reply) syscall.Errno

	Opendir(r *Request, in *OpenIn, out *OpenOut) syscall.Errno
	// Readdir adds entries to w.Dir, from the cookie in.Offset on, until one does
	// not fit. "." and ".." are among them.
	Readdir(r *Request, in *ReadIn, w *Reply) syscall.Errno
	// Readdirplus is Readdir with an EntryOut for each entry: a lookup each, but
	// for "." and "..", which have node 0.
	Readdirplus(r *Request, in *ReadIn, w *Reply) syscall.Errno
	Fsyncdir(r *Request, in *FsyncIn) syscall.Errno
	Releasedir(r *Request, in *ReleaseIn) syscall.Errno

	Statfs(r *Request, out *StatfsOut) syscall.Errno
	Syncfs(r *Request) syscall.Errno
	// Getxattr answers with w.Value.
	Getxattr(r *Request, in *GetxattrIn, name []byte, w *Reply) syscall.Errno
	// Listxattr answers with w.Value: names, each ended by NUL.
	Listxattr(r *Request, in *GetxattrIn, w *Reply) syscall.Errno
	Setxattr(r *Request, in *SetxattrIn, name, value []byte) syscall.Errno
	Removexattr(r *Request, name []byte) syscall.Errno

	Getlk(r *Request, in *LkIn, out *LkOut) syscall.Errno
	// Setlk serves SETLK and, with wait, SETLKW.
	Setlk(r *Request, in *LkIn, wait bool) syscall.Errno

	Setupmapping(r *Request, in *SetupmappingIn) syscall.Errno
	Removemapping(r *Request, ranges []RemovemappingOne) syscall.Errno
}
