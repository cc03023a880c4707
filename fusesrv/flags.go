package fusesrv

import (
	"strconv"
	"strings"
)

// InitFlags are the features negotiated by INIT (fuse.h, FUSE_*); bits 32 and up
// travel in flags2.
type InitFlags uint64

// Features.
const (
	AsyncRead         InitFlags = 1 << 0
	PosixLocks        InitFlags = 1 << 1
	AtomicOTrunc      InitFlags = 1 << 3
	ExportSupport     InitFlags = 1 << 4
	BigWrites         InitFlags = 1 << 5
	DontMask          InitFlags = 1 << 6
	SpliceWrite       InitFlags = 1 << 7
	SpliceMove        InitFlags = 1 << 8
	SpliceRead        InitFlags = 1 << 9
	FlockLocks        InitFlags = 1 << 10
	HasIoctlDir       InitFlags = 1 << 11
	AutoInvalData     InitFlags = 1 << 12
	DoReaddirplus     InitFlags = 1 << 13
	ReaddirplusAuto   InitFlags = 1 << 14
	AsyncDIO          InitFlags = 1 << 15
	WritebackCache    InitFlags = 1 << 16
	NoOpenSupport     InitFlags = 1 << 17
	ParallelDirops    InitFlags = 1 << 18
	HandleKillpriv    InitFlags = 1 << 19
	PosixACL          InitFlags = 1 << 20
	AbortError        InitFlags = 1 << 21
	MaxPages          InitFlags = 1 << 22
	CacheSymlinks     InitFlags = 1 << 23
	NoOpendirSupport  InitFlags = 1 << 24
	ExplicitInvalData InitFlags = 1 << 25
	MapAlignment      InitFlags = 1 << 26
	Submounts         InitFlags = 1 << 27
	HandleKillprivV2  InitFlags = 1 << 28
	SetxattrExt       InitFlags = 1 << 29
	InitExt           InitFlags = 1 << 30
	InitReserved      InitFlags = 1 << 31
	SecurityCtx       InitFlags = 1 << 32
	HasInodeDAX       InitFlags = 1 << 33
	CreateSuppGroup   InitFlags = 1 << 34
	HasExpireOnly     InitFlags = 1 << 35
	DirectIOAllowMmap InitFlags = 1 << 36
	Passthrough       InitFlags = 1 << 37
	NoExportSupport   InitFlags = 1 << 38
	HasResend         InitFlags = 1 << 39
	AllowIDMap        InitFlags = 1 << 40
	OverIOUring       InitFlags = 1 << 41
	RequestTimeout    InitFlags = 1 << 42

	// initBasic are the features that travel in flags.
	initBasic InitFlags = 1<<32 - 1
)

var initFlagNames = [...]string{
	"ASYNC_READ", "POSIX_LOCKS", "", "ATOMIC_O_TRUNC", "EXPORT_SUPPORT", "BIG_WRITES", "DONT_MASK", "SPLICE_WRITE",
	"SPLICE_MOVE", "SPLICE_READ", "FLOCK_LOCKS", "HAS_IOCTL_DIR", "AUTO_INVAL_DATA", "DO_READDIRPLUS", "READDIRPLUS_AUTO",
	"ASYNC_DIO", "WRITEBACK_CACHE", "NO_OPEN_SUPPORT", "PARALLEL_DIROPS", "HANDLE_KILLPRIV", "POSIX_ACL", "ABORT_ERROR",
	"MAX_PAGES", "CACHE_SYMLINKS", "NO_OPENDIR_SUPPORT", "EXPLICIT_INVAL_DATA", "MAP_ALIGNMENT", "SUBMOUNTS",
	"HANDLE_KILLPRIV_V2", "SETXATTR_EXT", "INIT_EXT", "INIT_RESERVED", "SECURITY_CTX", "HAS_INODE_DAX", "CREATE_SUPP_GROUP",
	"HAS_EXPIRE_ONLY", "DIRECT_IO_ALLOW_MMAP", "PASSTHROUGH", "NO_EXPORT_SUPPORT", "HAS_RESEND", "ALLOW_IDMAP",
	"OVER_IO_URING", "REQUEST_TIMEOUT",
}

// String names the set flags, joined by "|"; unknown bits are in hex.
func (f InitFlags) String() string { return flagString(uint64(f), initFlagNames[:]) }

// OpenFlags are what the server says of an open file (fuse.h, FOPEN_*).
type OpenFlags uint32

// Flags of OpenOut.
const (
	OpenDirectIO             OpenFlags = 1 << 0
	OpenKeepCache            OpenFlags = 1 << 1
	OpenNonSeekable          OpenFlags = 1 << 2
	OpenCacheDir             OpenFlags = 1 << 3
	OpenStream               OpenFlags = 1 << 4
	OpenNoFlush              OpenFlags = 1 << 5
	OpenParallelDirectWrites OpenFlags = 1 << 6
	OpenPassthrough          OpenFlags = 1 << 7
)

// String names the set flags, joined by "|".
func (f OpenFlags) String() string {
	return flagString(uint64(f), []string{"DIRECT_IO", "KEEP_CACHE", "NONSEEKABLE", "CACHE_DIR", "STREAM", "NOFLUSH",
		"PARALLEL_DIRECT_WRITES", "PASSTHROUGH"})
}

// Flags in single fields of requests and replies.
const (
	AttrSubmount = 1 // Attr.Flags
	AttrDAX      = 2 // Attr.Flags; needs HasInodeDAX

	GetattrFH         = 1 // GetattrIn.Flags: FH is valid
	ReadLockOwner     = 2 // ReadIn.ReadFlags
	WriteCache        = 1 // WriteIn.WriteFlags
	WriteLockOwner    = 2
	WriteKillSuidgid  = 4
	OpenKillSuidgid   = 1 // OpenIn.OpenFlags
	ReleaseFlush      = 1 // ReleaseIn.ReleaseFlags
	ReleaseFlock      = 2
	FsyncDatasync     = 1 // FsyncIn.Flags
	SetxattrKillSGID  = 1 // SetxattrIn.SetxattrFlags
	LockFlock         = 1 // LkIn.LkFlags
	SetupMappingWrite = 1 // SetupmappingIn.Flags
	SetupMappingRead  = 2
)

// Which fields of SetattrIn count (fuse.h, FATTR_*).
const (
	FattrMode        = 1 << 0
	FattrUID         = 1 << 1
	FattrGID         = 1 << 2
	FattrSize        = 1 << 3
	FattrAtime       = 1 << 4
	FattrMtime       = 1 << 5
	FattrFH          = 1 << 6
	FattrAtimeNow    = 1 << 7
	FattrMtimeNow    = 1 << 8
	FattrLockOwner   = 1 << 9
	FattrCtime       = 1 << 10
	FattrKillSuidgid = 1 << 11
)

// Whence values of LSEEK that reach a server.
const (
	SeekData = 3
	SeekHole = 4
)

// flagString renders bits by the names of their positions.
func flagString(bits uint64, names []string) string {
	var parts []string
	for i, name := range names {
		if bit := uint64(1) << i; bits&bit != 0 && name != "" {
			parts = append(parts, name)
			bits &^= bit
		}
	}
	if bits != 0 || len(parts) == 0 {
		parts = append(parts, "0x"+strconv.FormatUint(bits, 16))
	}
	return strings.Join(parts, "|")
}
