package fusesrv

// Lengths of replies' parts in bytes.
const (
	OutHeaderSize  = 16
	attrSize       = 88
	entryOutSize   = 128
	attrOutSize    = 104
	openOutSize    = 16
	statxOutSize   = 288
	statfsOutSize  = 80
	initOutSize    = 64
	direntSize     = 24
	direntplusSize = entryOutSize + direntSize
)

// An OutHeader starts each reply (fuse_out_header).
type OutHeader struct {
	Len    uint32 // of the whole reply
	Error  int32  // 0 or a negated errno
	Unique uint64
}

func (h *OutHeader) encode(b []byte) {
	le.PutUint32(b, h.Len)
	le.PutUint32(b[4:], uint32(h.Error))
	le.PutUint64(b[8:], h.Unique)
}

// Attr is what stat(2) shows of a node (fuse_attr). Blocks are of 512 bytes, Rdev
// is the kernel's 32-bit encoding.
type Attr struct {
	Ino, Size, Blocks               uint64
	Atime, Mtime, Ctime             uint64
	AtimeNsec, MtimeNsec, CtimeNsec uint32
	Mode, Nlink, UID, GID, Rdev     uint32
	Blksize                         uint32
	Flags                           uint32 // AttrSubmount, AttrDAX
}

func (a *Attr) encode(b []byte) {
	_ = b[attrSize-1]
	le.PutUint64(b[0:], a.Ino)
	le.PutUint64(b[8:], a.Size)
	le.PutUint64(b[16:], a.Blocks)
	le.PutUint64(b[24:], a.Atime)
	le.PutUint64(b[32:], a.Mtime)
	le.PutUint64(b[40:], a.Ctime)
	le.PutUint32(b[48:], a.AtimeNsec)
	le.PutUint32(b[52:], a.MtimeNsec)
	le.PutUint32(b[56:], a.CtimeNsec)
	le.PutUint32(b[60:], a.Mode)
	le.PutUint32(b[64:], a.Nlink)
	le.PutUint32(b[68:], a.UID)
	le.PutUint32(b[72:], a.GID)
	le.PutUint32(b[76:], a.Rdev)
	le.PutUint32(b[80:], a.Blksize)
	le.PutUint32(b[84:], a.Flags)
}

// EntryOut is a node found or made (fuse_entry_out). NodeID 0 says that there is
// none, for as long as EntryValid seconds.
type EntryOut struct {
	NodeID, Generation            uint64
	EntryValid, AttrValid         uint64 // seconds
	EntryValidNsec, AttrValidNsec uint32
	Attr                          Attr
}

func (e *EntryOut) encode(b []byte) {
	_ = b[entryOutSize-1]
	le.PutUint64(b[0:], e.NodeID)
	le.PutUint64(b[8:], e.Generation)
	le.PutUint64(b[16:], e.EntryValid)
	le.PutUint64(b[24:], e.AttrValid)
	le.PutUint32(b[32:], e.EntryValidNsec)
	le.PutUint32(b[36:], e.AttrValidNsec)
	e.Attr.encode(b[40:])
}

// AttrOut is the reply to GETATTR and SETATTR.
type AttrOut struct {
	AttrValid     uint64 // seconds
	AttrValidNsec uint32
	_             uint32
	Attr          Attr
}

func (a *AttrOut) encode(b []byte) {
	le.PutUint64(b, a.AttrValid)
	le.PutUint32(b[8:], a.AttrValidNsec)
	le.PutUint32(b[12:], 0)
	a.Attr.encode(b[16:])
}

// OpenOut is the reply to OPEN, OPENDIR and, after an EntryOut, CREATE.
type OpenOut struct {
	FH        uint64
	OpenFlags OpenFlags
	BackingID int32 // with OpenPassthrough
}

func (o *OpenOut) encode(b []byte) {
	le.PutUint64(b, o.FH)
	le.PutUint32(b[8:], uint32(o.OpenFlags))
	le.PutUint32(b[12:], uint32(o.BackingID))
}

// WriteOut is the reply to WRITE and COPY_FILE_RANGE.
type WriteOut struct {
	Size uint32
	_    uint32
}

// StatfsOut is the reply to STATFS (fuse_kstatfs).
type StatfsOut struct {
	Blocks, Bfree, Bavail, Files, Ffree uint64
	Bsize, Namelen, Frsize              uint32
	_                                   [7]uint32
}

func (s *StatfsOut) encode(b []byte) {
	clear(b[:statfsOutSize])
	for i, v := range [...]uint64{s.Blocks, s.Bfree, s.Bavail, s.Files, s.Ffree} {
		le.PutUint64(b[8*i:], v)
	}
	le.PutUint32(b[40:], s.Bsize)
	le.PutUint32(b[44:], s.Namelen)
	le.PutUint32(b[48:], s.Frsize)
}

// InitOut is the reply to INIT.
type InitOut struct {
	Major, Minor                       uint32
	MaxReadahead                       uint32
	Flags                              uint32
	MaxBackground, CongestionThreshold uint16
	MaxWrite, TimeGran                 uint32
	MaxPages, MapAlignment             uint16
	Flags2, MaxStackDepth              uint32
	RequestTimeout                     uint16
	_                                  [11]uint16
}

func (o *InitOut) encode(b []byte) {
	clear(b[:initOutSize])
	le.PutUint32(b[0:], o.Major)
	le.PutUint32(b[4:], o.Minor)
	le.PutUint32(b[8:], o.MaxReadahead)
	le.PutUint32(b[12:], o.Flags)
	le.PutUint16(b[16:], o.MaxBackground)
	le.PutUint16(b[18:], o.CongestionThreshold)
	le.PutUint32(b[20:], o.MaxWrite)
	le.PutUint32(b[24:], o.TimeGran)
	le.PutUint16(b[28:], o.MaxPages)
	le.PutUint16(b[30:], o.MapAlignment)
	le.PutUint32(b[32:], o.Flags2)
	le.PutUint32(b[36:], o.MaxStackDepth)
	le.PutUint16(b[40:], o.RequestTimeout)
}

// StatxTime is a time in STATX.
type StatxTime struct {
	Sec  int64
	Nsec uint32
	_    int32
}

func (t *StatxTime) encode(b []byte) {
	le.PutUint64(b, uint64(t.Sec))
	le.PutUint64(b[8:], uint64(t.Nsec))
}

// Statx is what statx(2) shows of a node (fuse_statx).
type Statx struct {
	Mask, Blksize              uint32
	Attributes                 uint64
	Nlink, UID, GID            uint32
	Mode                       uint16
	_                          uint16
	Ino, Size, Blocks          uint64
	AttributesMask             uint64
	Atime, Btime, Ctime, Mtime StatxTime
	RdevMajor, RdevMinor       uint32
	DevMajor, DevMinor         uint32
	_                          [14]uint64
}

// StatxOut is the reply to STATX.
type StatxOut struct {
	AttrValid     uint64
	AttrValidNsec uint32
	Flags         uint32
	_             [2]uint64
	Statx         Statx
}

func (o *StatxOut) encode(b []byte) {
	clear(b[:statxOutSize])
	le.PutUint64(b, o.AttrValid)
	le.PutUint32(b[8:], o.AttrValidNsec)
	le.PutUint32(b[12:], o.Flags)
	o.Statx.encode(b[32:])
}

func (s *Statx) encode(b []byte) {
	le.PutUint32(b[0:], s.Mask)
	le.PutUint32(b[4:], s.Blksize)
	le.PutUint64(b[8:], s.Attributes)
	le.PutUint32(b[16:], s.Nlink)
	le.PutUint32(b[20:], s.UID)
	le.PutUint32(b[24:], s.GID)
	le.PutUint16(b[28:], s.Mode)
	le.PutUint64(b[32:], s.Ino)
	le.PutUint64(b[40:], s.Size)
	le.PutUint64(b[48:], s.Blocks)
	le.PutUint64(b[56:], s.AttributesMask)
	s.Atime.encode(b[64:])
	s.Btime.encode(b[80:])
	s.Ctime.encode(b[96:])
	s.Mtime.encode(b[112:])
	le.PutUint32(b[128:], s.RdevMajor)
	le.PutUint32(b[132:], s.RdevMinor)
	le.PutUint32(b[136:], s.DevMajor)
	le.PutUint32(b[140:], s.DevMinor)
}

// LkOut is the reply to GETLK.
type LkOut struct{ Lock FileLock }

func (o *LkOut) encode(b []byte) {
	le.PutUint64(b, o.Lock.Start)
	le.PutUint64(b[8:], o.Lock.End)
	le.PutUint32(b[16:], o.Lock.Type)
	le.PutUint32(b[20:], o.Lock.PID)
}

// IoctlOut is the reply to IOCTL; data follow.
type IoctlOut struct {
	Result          int32
	Flags           uint32
	InIovs, OutIovs uint32
}

func (o *IoctlOut) encode(b []byte) {
	le.PutUint32(b, uint32(o.Result))
	le.PutUint32(b[4:], o.Flags)
	le.PutUint32(b[8:], o.InIovs)
	le.PutUint32(b[12:], o.OutIovs)
}

// LseekOut is the reply to LSEEK, and to COPY_FILE_RANGE_64 with a byte count.
type LseekOut struct{ Offset uint64 }

// Dirent is an entry of READDIR, and of READDIRPLUS after an EntryOut; the name
// follows, padded to 8 bytes.
type Dirent struct {
	Ino     uint64
	Next    uint64 // cookie of the entry after this one
	Namelen uint32
	Type    uint32 // DT_ value
}

func (d *Dirent) encode(b []byte) {
	le.PutUint64(b, d.Ino)
	le.PutUint64(b[8:], d.Next)
	le.PutUint32(b[16:], d.Namelen)
	le.PutUint32(b[20:], d.Type)
}

// Statx returns what a says in the form of STATX; mask says which fields count.
func (a *Attr) Statx(mask uint32) Statx {
	return Statx{
		Mask: mask, Blksize: a.Blksize, Nlink: a.Nlink, UID: a.UID, GID: a.GID, Mode: uint16(a.Mode),
		Ino: a.Ino, Size: a.Size, Blocks: a.Blocks,
		Atime:     StatxTime{Sec: int64(a.Atime), Nsec: a.AtimeNsec},
		Ctime:     StatxTime{Sec: int64(a.Ctime), Nsec: a.CtimeNsec},
		Mtime:     StatxTime{Sec: int64(a.Mtime), Nsec: a.MtimeNsec},
		RdevMajor: a.Rdev >> 8 & 0xfff, RdevMinor: a.Rdev&0xff | a.Rdev>>12&0xfff00,
	}
}
