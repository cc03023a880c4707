package fusesrv

import "syscall"

// Unsupported answers ENOSYS to everything: embed it in an FS and write what the
// FS can do.
type Unsupported struct{}

// Init accepts the server's proposal.
func (Unsupported) Init(InitFlags, *Settings) syscall.Errno { return 0 }

// Destroy does nothing.
func (Unsupported) Destroy() {}

// Forget does nothing.
func (Unsupported) Forget(*Request, uint64, uint64) {}

// The refusals.

func (Unsupported) Lookup(*Request, []byte, *EntryOut) syscall.Errno          { return syscall.ENOSYS }
func (Unsupported) Getattr(*Request, *GetattrIn, *AttrOut) syscall.Errno      { return syscall.ENOSYS }
func (Unsupported) Setattr(*Request, *SetattrIn, *AttrOut) syscall.Errno      { return syscall.ENOSYS }
func (Unsupported) Statx(*Request, *StatxIn, *StatxOut) syscall.Errno         { return syscall.ENOSYS }
func (Unsupported) Readlink(*Request, *Reply) syscall.Errno                   { return syscall.ENOSYS }
func (Unsupported) Access(*Request, *AccessIn) syscall.Errno                  { return syscall.ENOSYS }
func (Unsupported) Symlink(*Request, []byte, []byte, *EntryOut) syscall.Errno { return syscall.ENOSYS }
func (Unsupported) Mknod(*Request, *MknodIn, []byte, *EntryOut) syscall.Errno { return syscall.ENOSYS }
func (Unsupported) Mkdir(*Request, *MkdirIn, []byte, *EntryOut) syscall.Errno { return syscall.ENOSYS }
func (Unsupported) Link(*Request, *LinkIn, []byte, *EntryOut) syscall.Errno   { return syscall.ENOSYS }
func (Unsupported) Unlink(*Request, []byte) syscall.Errno                     { return syscall.ENOSYS }
func (Unsupported) Rmdir(*Request, []byte) syscall.Errno                      { return syscall.ENOSYS }
func (Unsupported) Rename(*Request, *RenameIn, []byte, []byte) syscall.Errno  { return syscall.ENOSYS }
func (Unsupported) Create(*Request, *CreateIn, []byte, *EntryOut, *OpenOut) syscall.Errno {
	return syscall.ENOSYS
}
func (Unsupported) Tmpfile(*Request, *CreateIn, *EntryOut, *OpenOut) syscall.Errno {
	return syscall.ENOSYS
}
func (Unsupported) Open(*Request, *OpenIn, *OpenOut) syscall.Errno           { return syscall.ENOSYS }
func (Unsupported) Read(*Request, *ReadIn, *Reply) syscall.Errno             { return syscall.ENOSYS }
func (Unsupported) Write(*Request, *WriteIn, *Reply) syscall.Errno           { return syscall.ENOSYS }
func (Unsupported) Flush(*Request, *FlushIn) syscall.Errno                   { return syscall.ENOSYS }
func (Unsupported) Fsync(*Request, *FsyncIn) syscall.Errno                   { return syscall.ENOSYS }
func (Unsupported) Release(*Request, *ReleaseIn) syscall.Errno               { return syscall.ENOSYS }
func (Unsupported) Fallocate(*Request, *FallocateIn) syscall.Errno           { return syscall.ENOSYS }
func (Unsupported) Lseek(*Request, *LseekIn, *LseekOut) syscall.Errno        { return syscall.ENOSYS }
func (Unsupported) Ioctl(*Request, *IoctlIn, *Reply) syscall.Errno           { return syscall.ENOSYS }
func (Unsupported) Opendir(*Request, *OpenIn, *OpenOut) syscall.Errno        { return syscall.ENOSYS }
func (Unsupported) Readdir(*Request, *ReadIn, *Reply) syscall.Errno          { return syscall.ENOSYS }
func (Unsupported) Readdirplus(*Request, *ReadIn, *Reply) syscall.Errno      { return syscall.ENOSYS }
func (Unsupported) Fsyncdir(*Request, *FsyncIn) syscall.Errno                { return syscall.ENOSYS }
func (Unsupported) Releasedir(*Request, *ReleaseIn) syscall.Errno            { return syscall.ENOSYS }
func (Unsupported) Statfs(*Request, *StatfsOut) syscall.Errno                { return syscall.ENOSYS }
func (Unsupported) Syncfs(*Request) syscall.Errno                            { return syscall.ENOSYS }
func (Unsupported) Listxattr(*Request, *GetxattrIn, *Reply) syscall.Errno    { return syscall.ENOSYS }
func (Unsupported) Removexattr(*Request, []byte) syscall.Errno               { return syscall.ENOSYS }
func (Unsupported) Getlk(*Request, *LkIn, *LkOut) syscall.Errno              { return syscall.ENOSYS }
func (Unsupported) Setlk(*Request, *LkIn, bool) syscall.Errno                { return syscall.ENOSYS }
func (Unsupported) Setupmapping(*Request, *SetupmappingIn) syscall.Errno     { return syscall.ENOSYS }
func (Unsupported) Removemapping(*Request, []RemovemappingOne) syscall.Errno { return syscall.ENOSYS }
func (Unsupported) CopyFileRange(*Request, *CopyFileRangeIn, *LseekOut) syscall.Errno {
	return syscall.ENOSYS
}
func (Unsupported) Getxattr(*Request, *GetxattrIn, []byte, *Reply) syscall.Errno {
	return syscall.ENOSYS
}
func (Unsupported) Setxattr(*Request, *SetxattrIn, []byte, []byte) syscall.Errno {
	return syscall.ENOSYS
}

// ReadOnly is Unsupported with EROFS for everything that would change something.
type ReadOnly struct{ Unsupported }

// The refusals.

func (ReadOnly) Setattr(*Request, *SetattrIn, *AttrOut) syscall.Errno      { return syscall.EROFS }
func (ReadOnly) Symlink(*Request, []byte, []byte, *EntryOut) syscall.Errno { return syscall.EROFS }
func (ReadOnly) Mknod(*Request, *MknodIn, []byte, *EntryOut) syscall.Errno { return syscall.EROFS }
func (ReadOnly) Mkdir(*Request, *MkdirIn, []byte, *EntryOut) syscall.Errno { return syscall.EROFS }
func (ReadOnly) Link(*Request, *LinkIn, []byte, *EntryOut) syscall.Errno   { return syscall.EROFS }
func (ReadOnly) Unlink(*Request, []byte) syscall.Errno                     { return syscall.EROFS }
func (ReadOnly) Rmdir(*Request, []byte) syscall.Errno                      { return syscall.EROFS }
func (ReadOnly) Rename(*Request, *RenameIn, []byte, []byte) syscall.Errno  { return syscall.EROFS }
func (ReadOnly) Write(*Request, *WriteIn, *Reply) syscall.Errno            { return syscall.EROFS }
func (ReadOnly) Fallocate(*Request, *FallocateIn) syscall.Errno            { return syscall.EROFS }
func (ReadOnly) Removexattr(*Request, []byte) syscall.Errno                { return syscall.EROFS }
func (ReadOnly) Create(*Request, *CreateIn, []byte, *EntryOut, *OpenOut) syscall.Errno {
	return syscall.EROFS
}
func (ReadOnly) Tmpfile(*Request, *CreateIn, *EntryOut, *OpenOut) syscall.Errno {
	return syscall.EROFS
}
func (ReadOnly) CopyFileRange(*Request, *CopyFileRangeIn, *LseekOut) syscall.Errno {
	return syscall.EROFS
}
func (ReadOnly) Setxattr(*Request, *SetxattrIn, []byte, []byte) syscall.Errno {
	return syscall.EROFS
}
