package fusesrv

import "syscall"

// An op is what the server has to know about an opcode.
type op struct {
	name  string
	in    int // bytes of fixed arguments
	names names
	dir   bool // the result is directory entries
	data  bool // what follows the fixed arguments stays in the request's buffers
	out   int  // bytes of the fixed result; noReply: nothing is answered, not even errors
	// outside says that it may come before INIT.
	outside bool
	call    func(w *Worker) syscall.Errno
	encode  func(w *Reply, v *View, b []byte)
}

const noReply = -1

// names says what follows the fixed arguments.
type names uint8

const (
	noNames     names = iota
	lookupName        // a name, "." and ".." included
	oneName           // a name of something to make, change or remove
	twoNames          // two of them
	nameTarget        // a name and a symlink target
	xattrName         // an xattr name
	anyName           // a name nobody needs
	restOfBytes       // something else, given as bytes
)

// ops is the protocol by opcode (vhost-user-fs 4.2).
var ops [NumOpcodes]op

// The table is filled here, since String of an Opcode, which it refers to in the
// end, would make it depend on itself.
func init() {
	ops = [NumOpcodes]op{
		OpLookup:          {name: "LOOKUP", names: lookupName, out: entryOutSize, call: callLookup, encode: encodeEntry},
		OpForget:          {name: "FORGET", in: 8, out: noReply, call: callForget},
		OpGetattr:         {name: "GETATTR", in: 16, out: attrOutSize, call: callGetattr, encode: encodeAttr},
		OpSetattr:         {name: "SETATTR", in: 88, out: attrOutSize, call: callSetattr, encode: encodeAttr},
		OpReadlink:        {name: "READLINK", call: callReadlink},
		OpSymlink:         {name: "SYMLINK", names: nameTarget, out: entryOutSize, call: callSymlink, encode: encodeEntry},
		OpMknod:           {name: "MKNOD", in: 16, names: oneName, out: entryOutSize, call: callMknod, encode: encodeEntry},
		OpMkdir:           {name: "MKDIR", in: 8, names: oneName, out: entryOutSize, call: callMkdir, encode: encodeEntry},
		OpUnlink:          {name: "UNLINK", names: oneName, call: callUnlink},
		OpRmdir:           {name: "RMDIR", names: oneName, call: callRmdir},
		OpRename:          {name: "RENAME", in: 8, names: twoNames, call: callRename},
		OpLink:            {name: "LINK", in: 8, names: oneName, out: entryOutSize, call: callLink, encode: encodeEntry},
		OpOpen:            {name: "OPEN", in: 8, out: openOutSize, call: callOpen, encode: encodeOpen},
		OpRead:            {name: "READ", in: 40, call: callRead},
		OpWrite:           {name: "WRITE", in: 40, data: true, out: 8, call: callWrite, encode: encodeWritten},
		OpStatfs:          {name: "STATFS", out: statfsOutSize, call: callStatfs, encode: encodeStatfs},
		OpRelease:         {name: "RELEASE", in: 24, call: callRelease},
		OpFsync:           {name: "FSYNC", in: 16, call: callFsync},
		OpSetxattr:        {name: "SETXATTR", in: 8, names: restOfBytes, call: callSetxattr},
		OpGetxattr:        {name: "GETXATTR", in: 8, names: xattrName, call: callGetxattr},
		OpListxattr:       {name: "LISTXATTR", in: 8, call: callListxattr},
		OpRemovexattr:     {name: "REMOVEXATTR", names: xattrName, call: callRemovexattr},
		OpFlush:           {name: "FLUSH", in: 24, call: callFlush},
		OpInit:            {name: "INIT", in: 16, names: restOfBytes, outside: true, call: callInit},
		OpOpendir:         {name: "OPENDIR", in: 8, out: openOutSize, call: callOpendir, encode: encodeOpen},
		OpReaddir:         {name: "READDIR", in: 40, dir: true, call: callReaddir},
		OpReleasedir:      {name: "RELEASEDIR", in: 24, call: callReleasedir},
		OpFsyncdir:        {name: "FSYNCDIR", in: 16, call: callFsyncdir},
		OpGetlk:           {name: "GETLK", in: 48, out: 24, call: callGetlk, encode: encodeLk},
		OpSetlk:           {name: "SETLK", in: 48, call: callSetlk},
		OpSetlkw:          {name: "SETLKW", in: 48, call: callSetlkw},
		OpAccess:          {name: "ACCESS", in: 8, call: callAccess},
		OpCreate:          {name: "CREATE", in: 16, names: oneName, out: entryOutSize + openOutSize, call: callCreate, encode: encodeCreate},
		OpInterrupt:       {name: "INTERRUPT", in: 8, out: noReply, outside: true, call: callNothing},
		OpBmap:            {name: "BMAP", in: 16, out: 8, call: callUnknown},
		OpDestroy:         {name: "DESTROY", outside: true, call: callDestroy},
		OpIoctl:           {name: "IOCTL", in: 32, data: true, out: 16, call: callIoctl, encode: encodeIoctl},
		OpPoll:            {name: "POLL", in: 24, out: 8, call: callUnknown},
		OpNotifyReply:     {name: "NOTIFY_REPLY", out: noReply, call: callNothing},
		OpBatchForget:     {name: "BATCH_FORGET", in: 8, data: true, out: noReply, call: callBatchForget},
		OpFallocate:       {name: "FALLOCATE", in: 32, call: callFallocate},
		OpReaddirplus:     {name: "READDIRPLUS", in: 40, dir: true, call: callReaddirplus},
		OpRename2:         {name: "RENAME2", in: 16, names: twoNames, call: callRename2},
		OpLseek:           {name: "LSEEK", in: 24, out: 8, call: callLseek, encode: encodeLseek},
		OpCopyFileRange:   {name: "COPY_FILE_RANGE", in: 56, out: 8, call: callCopyFileRange, encode: encodeCopied},
		OpSetupmapping:    {name: "SETUPMAPPING", in: 40, call: callSetupmapping},
		OpRemovemapping:   {name: "REMOVEMAPPING", in: 4, names: restOfBytes, call: callRemovemapping},
		OpSyncfs:          {name: "SYNCFS", in: 8, call: callSyncfs},
		OpTmpfile:         {name: "TMPFILE", in: 16, names: anyName, out: entryOutSize + openOutSize, call: callTmpfile, encode: encodeCreate},
		OpStatx:           {name: "STATX", in: 24, out: statxOutSize, call: callStatx, encode: encodeStatx},
		OpCopyFileRange64: {name: "COPY_FILE_RANGE_64", in: 56, out: 8, call: callCopyFileRange, encode: encodeLseek},
	}
}

var (
	// unknownOp stands for opcodes without an entry.
	unknownOp = op{name: "unknown", outside: true, call: callUnknown}
	// swappedOp is the INIT of a guest that we could not talk to.
	swappedOp = op{name: "swapped INIT", out: noReply, outside: true, call: callDestroy}
)

func opOf(o Opcode) *op {
	switch {
	case o < NumOpcodes && ops[o].call != nil:
		return &ops[o]
	case o == initSwapped:
		return &swappedOp
	}
	return &unknownOp
}

func encodeEntry(w *Reply, v *View, b []byte)  { v.encodeEntry(&w.Entry, b) }
func encodeOpen(w *Reply, _ *View, b []byte)   { w.Open.encode(b) }
func encodeStatfs(w *Reply, _ *View, b []byte) { w.Statfs.encode(b) }
func encodeLk(w *Reply, _ *View, b []byte)     { w.Lk.encode(b) }
func encodeIoctl(w *Reply, _ *View, b []byte)  { w.Ioctl.encode(b) }
func encodeLseek(w *Reply, _ *View, b []byte)  { le.PutUint64(b, w.Lseek.Offset) }

func encodeAttr(w *Reply, v *View, b []byte) {
	ino := w.Attr.Attr.Ino
	w.Attr.Attr.Ino |= v.InoBase
	w.Attr.encode(b)
	w.Attr.Attr.Ino = ino
}

func encodeStatx(w *Reply, v *View, b []byte) {
	ino := w.Statx.Statx.Ino
	w.Statx.Statx.Ino |= v.InoBase
	w.Statx.encode(b)
	w.Statx.Statx.Ino = ino
}

func encodeCreate(w *Reply, v *View, b []byte) {
	v.encodeEntry(&w.Entry, b)
	w.Open.encode(b[entryOutSize:])
}

func encodeWritten(w *Reply, _ *View, b []byte) {
	le.PutUint32(b, w.Written)
	le.PutUint32(b[4:], 0)
}

// encodeCopied stores the count of COPY_FILE_RANGE, which has 32 bits.
func encodeCopied(w *Reply, _ *View, b []byte) {
	le.PutUint32(b, uint32(min(w.Lseek.Offset, 1<<32-1)))
	le.PutUint32(b[4:], 0)
}
