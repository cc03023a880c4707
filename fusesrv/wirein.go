package fusesrv

import "encoding/binary"

var le = binary.LittleEndian

// InHeaderSize is the length of a request's header in bytes.
const InHeaderSize = 40

// An InHeader starts each request (fuse_in_header).
//
// The types of this file are laid out as on the wire, little-endian, so tests and
// clients may use encoding/binary on them.
type InHeader struct {
	Len    uint32 // of the whole request
	Opcode Opcode
	Unique uint64
	NodeID uint64
	UID    uint32
	GID    uint32
	PID    uint32
	ExtLen uint16 // of the extensions at the end, in units of 8 bytes
	_      uint16
}

func (h *InHeader) decode(b *[InHeaderSize]byte) {
	*h = InHeader{
		Len: le.Uint32(b[0:]), Opcode: Opcode(le.Uint32(b[4:])), Unique: le.Uint64(b[8:]), NodeID: le.Uint64(b[16:]),
		UID: le.Uint32(b[24:]), GID: le.Uint32(b[28:]), PID: le.Uint32(b[32:]), ExtLen: le.Uint16(b[36:]),
	}
}

// InitIn is the argument of INIT; 16 bytes before minor 36.
type InitIn struct {
	Major, Minor uint32
	MaxReadahead uint32
	Flags        uint32
	Flags2       uint32
	_            [11]uint32
}

func (a *InitIn) decode(b []byte) {
	*a = InitIn{Major: le.Uint32(b), Minor: le.Uint32(b[4:]), MaxReadahead: le.Uint32(b[8:]), Flags: le.Uint32(b[12:]),
		Flags2: le.Uint32(b[16:])}
}

// ForgetIn is the argument of FORGET.
type ForgetIn struct{ Nlookup uint64 }

// BatchForgetIn is the argument of BATCH_FORGET; Count ForgetOne follow.
type BatchForgetIn struct {
	Count uint32
	_     uint32
}

// ForgetOne is one node of a BATCH_FORGET.
type ForgetOne struct{ NodeID, Nlookup uint64 }

// GetattrIn is the argument of GETATTR.
type GetattrIn struct {
	Flags uint32 // GetattrFH
	_     uint32
	FH    uint64
}

func (a *GetattrIn) decode(b []byte) { *a = GetattrIn{Flags: le.Uint32(b), FH: le.Uint64(b[8:])} }

// SetattrIn is the argument of SETATTR.
type SetattrIn struct {
	Valid                           uint32 // Fattr*
	_                               uint32
	FH, Size, LockOwner             uint64
	Atime, Mtime, Ctime             uint64
	AtimeNsec, MtimeNsec, CtimeNsec uint32
	Mode                            uint32
	_                               uint32
	UID, GID                        uint32
	_                               uint32
}

func (a *SetattrIn) decode(b []byte) {
	*a = SetattrIn{
		Valid: le.Uint32(b), FH: le.Uint64(b[8:]), Size: le.Uint64(b[16:]), LockOwner: le.Uint64(b[24:]),
		Atime: le.Uint64(b[32:]), Mtime: le.Uint64(b[40:]), Ctime: le.Uint64(b[48:]),
		AtimeNsec: le.Uint32(b[56:]), MtimeNsec: le.Uint32(b[60:]), CtimeNsec: le.Uint32(b[64:]),
		Mode: le.Uint32(b[68:]), UID: le.Uint32(b[76:]), GID: le.Uint32(b[80:]),
	}
}

// MknodIn is the argument of MKNOD; the name follows.
type MknodIn struct {
	Mode, Rdev, Umask uint32
	_                 uint32
}

func (a *MknodIn) decode(b []byte) {
	*a = MknodIn{Mode: le.Uint32(b), Rdev: le.Uint32(b[4:]), Umask: le.Uint32(b[8:])}
}

// MkdirIn is the argument of MKDIR; the name follows.
type MkdirIn struct{ Mode, Umask uint32 }

func (a *MkdirIn) decode(b []byte) { *a = MkdirIn{Mode: le.Uint32(b), Umask: le.Uint32(b[4:])} }

// RenameIn is the argument of RENAME2, and of RENAME without the flags; the old
// and the new name follow.
type RenameIn struct {
	NewDir uint64
	Flags  uint32 // renameat2(2)
	_      uint32
}

// LinkIn is the argument of LINK; the new name follows.
type LinkIn struct{ OldNodeID uint64 }

// OpenIn is the argument of OPEN and OPENDIR.
type OpenIn struct {
	Flags     uint32 // open(2)
	OpenFlags uint32 // OpenKillSuidgid
}

func (a *OpenIn) decode(b []byte) { *a = OpenIn{Flags: le.Uint32(b), OpenFlags: le.Uint32(b[4:])} }

// CreateIn is the argument of CREATE and TMPFILE; the name follows.
type CreateIn struct{ Flags, Mode, Umask, OpenFlags uint32 }

func (a *CreateIn) decode(b []byte) {
	*a = CreateIn{Flags: le.Uint32(b), Mode: le.Uint32(b[4:]), Umask: le.Uint32(b[8:]), OpenFlags: le.Uint32(b[12:])}
}

// ReadIn is the argument of READ, READDIR and READDIRPLUS.
type ReadIn struct {
	FH, Offset uint64 // Offset: for directories the cookie of the first entry wanted
	Size       uint32
	ReadFlags  uint32
	LockOwner  uint64
	Flags      uint32
	_          uint32
}

func (a *ReadIn) decode(b []byte) {
	*a = ReadIn{FH: le.Uint64(b), Offset: le.Uint64(b[8:]), Size: le.Uint32(b[16:]), ReadFlags: le.Uint32(b[20:]),
		LockOwner: le.Uint64(b[24:]), Flags: le.Uint32(b[32:])}
}

// WriteIn is the argument of WRITE; the data follow.
type WriteIn struct {
	FH, Offset uint64
	Size       uint32
	WriteFlags uint32
	LockOwner  uint64
	Flags      uint32
	_          uint32
}

func (a *WriteIn) decode(b []byte) {
	*a = WriteIn{FH: le.Uint64(b), Offset: le.Uint64(b[8:]), Size: le.Uint32(b[16:]), WriteFlags: le.Uint32(b[20:]),
		LockOwner: le.Uint64(b[24:]), Flags: le.Uint32(b[32:])}
}

// ReleaseIn is the argument of RELEASE and RELEASEDIR.
type ReleaseIn struct {
	FH                  uint64
	Flags, ReleaseFlags uint32
	LockOwner           uint64
}

func (a *ReleaseIn) decode(b []byte) {
	*a = ReleaseIn{FH: le.Uint64(b), Flags: le.Uint32(b[8:]), ReleaseFlags: le.Uint32(b[12:]), LockOwner: le.Uint64(b[16:])}
}

// FsyncIn is the argument of FSYNC and FSYNCDIR.
type FsyncIn struct {
	FH    uint64
	Flags uint32 // FsyncDatasync
	_     uint32
}

func (a *FsyncIn) decode(b []byte) { *a = FsyncIn{FH: le.Uint64(b), Flags: le.Uint32(b[8:])} }

// SetxattrIn is the argument of SETXATTR, 8 bytes of it without SetxattrExt; name
// and value follow.
type SetxattrIn struct {
	Size          uint32
	Flags         uint32 // setxattr(2)
	SetxattrFlags uint32
	_             uint32
}

// GetxattrIn is the argument of GETXATTR, where the name follows, and of
// LISTXATTR. Size 0 asks for the size needed.
type GetxattrIn struct {
	Size uint32
	_    uint32
}

// FlushIn is the argument of FLUSH.
type FlushIn struct {
	FH        uint64
	_, _      uint32
	LockOwner uint64
}

// LkIn is the argument of GETLK, SETLK and SETLKW.
type LkIn struct {
	FH, Owner uint64
	Lock      FileLock
	LkFlags   uint32
	_         uint32
}

// A FileLock is a lock as fcntl(2) has it; End is the last byte.
type FileLock struct {
	Start, End uint64
	Type, PID  uint32
}

func (a *LkIn) decode(b []byte) {
	*a = LkIn{FH: le.Uint64(b), Owner: le.Uint64(b[8:]), LkFlags: le.Uint32(b[40:]),
		Lock: FileLock{le.Uint64(b[16:]), le.Uint64(b[24:]), le.Uint32(b[32:]), le.Uint32(b[36:])}}
}

// AccessIn is the argument of ACCESS.
type AccessIn struct {
	Mask uint32
	_    uint32
}

// IoctlIn is the argument of IOCTL; InSize bytes follow.
type IoctlIn struct {
	FH              uint64
	Flags, Cmd      uint32
	Arg             uint64
	InSize, OutSize uint32
}

func (a *IoctlIn) decode(b []byte) {
	*a = IoctlIn{FH: le.Uint64(b), Flags: le.Uint32(b[8:]), Cmd: le.Uint32(b[12:]), Arg: le.Uint64(b[16:]),
		InSize: le.Uint32(b[24:]), OutSize: le.Uint32(b[28:])}
}

// FallocateIn is the argument of FALLOCATE.
type FallocateIn struct {
	FH, Offset, Length uint64
	Mode               uint32
	_                  uint32
}

func (a *FallocateIn) decode(b []byte) {
	*a = FallocateIn{FH: le.Uint64(b), Offset: le.Uint64(b[8:]), Length: le.Uint64(b[16:]), Mode: le.Uint32(b[24:])}
}

// LseekIn is the argument of LSEEK.
type LseekIn struct {
	FH, Offset uint64
	Whence     uint32
	_          uint32
}

func (a *LseekIn) decode(b []byte) {
	*a = LseekIn{FH: le.Uint64(b), Offset: le.Uint64(b[8:]), Whence: le.Uint32(b[16:])}
}

// CopyFileRangeIn is the argument of COPY_FILE_RANGE and COPY_FILE_RANGE_64.
type CopyFileRangeIn struct {
	FHIn, OffsetIn, NodeIDOut, FHOut, OffsetOut, Length, Flags uint64
}

func (a *CopyFileRangeIn) decode(b []byte) {
	*a = CopyFileRangeIn{le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[24:]), le.Uint64(b[32:]),
		le.Uint64(b[40:]), le.Uint64(b[48:])}
}

// SetupmappingIn is the argument of SETUPMAPPING.
type SetupmappingIn struct{ FH, FileOffset, Length, Flags, WindowOffset uint64 }

func (a *SetupmappingIn) decode(b []byte) {
	*a = SetupmappingIn{le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[24:]), le.Uint64(b[32:])}
}

// RemovemappingOne is one range of a REMOVEMAPPING.
type RemovemappingOne struct{ WindowOffset, Length uint64 }

// StatxIn is the argument of STATX.
type StatxIn struct {
	GetattrFlags uint32 // GetattrFH
	_            uint32
	FH           uint64
	Flags, Mask  uint32 // statx(2)
}

func (a *StatxIn) decode(b []byte) {
	*a = StatxIn{GetattrFlags: le.Uint32(b), FH: le.Uint64(b[8:]), Flags: le.Uint32(b[16:]), Mask: le.Uint32(b[20:])}
}
