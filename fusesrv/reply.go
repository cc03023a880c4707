package fusesrv

import "syscall"

// A Reply is where an FS method puts its result, and where it finds the data that
// came with the request. It belongs to a Worker. The result of an operation that
// is not data is in the field of its type.
type Reply struct {
	Entry   EntryOut
	Attr    AttrOut
	Open    OpenOut
	Statfs  StatfsOut
	Statx   StatxOut
	Lk      LkOut
	Ioctl   IoctlOut
	Lseek   LseekOut
	Written uint32

	// Dir takes the entries of READDIR and READDIRPLUS.
	Dir Dir

	out   stream // the whole reply
	fixed int    // bytes before data: the header and the operation's result
	n     int    // bytes of data
	input stream // behind the arguments
	iov   [][]byte
	iovIn [][]byte
	small [statxOutSize]byte
}

// Room returns how many bytes of data the guest has buffers for.
func (w *Reply) Room() int { return max(0, w.out.total-w.fixed) }

// Data returns the guest's buffers for the first n bytes of data, fewer if Room
// is less. They are valid during the call.
func (w *Reply) Data(n int) [][]byte {
	w.iov = w.out.slice(w.iov[:0], w.fixed, n)
	return w.iov
}

// SetLen says that Data holds n bytes. n beyond Room is cut.
func (w *Reply) SetLen(n int) { w.n = min(n, w.Room()) }

// Input returns the first n bytes of data that came with the request, fewer if
// there are fewer, in buffers that a guest may be changing.
func (w *Reply) Input(n int) [][]byte {
	w.iovIn = w.input.slice(w.iovIn[:0], 0, n)
	return w.iovIn
}

// Bytes answers with p, ERANGE if that is more than the guest has room for.
func (w *Reply) Bytes(p []byte) syscall.Errno {
	if len(p) > w.Room() {
		return syscall.ERANGE
	}
	w.out.put(w.fixed, p)
	w.n = len(p)
	return 0
}

// Value answers GETXATTR and LISTXATTR: with the length of p if size is 0, with p
// if it fits into size bytes, else ERANGE.
func (w *Reply) Value(size uint32, p []byte) syscall.Errno {
	if size == 0 {
		return w.Size(uint32(len(p)))
	}
	if uint64(len(p)) > uint64(size) {
		return syscall.ERANGE
	}
	return w.Bytes(p)
}

// Size answers GETXATTR and LISTXATTR of size 0: n bytes would be needed.
func (w *Reply) Size(n uint32) syscall.Errno {
	b := w.small[:8]
	le.PutUint32(b, n)
	le.PutUint32(b[4:], 0)
	return w.Bytes(b)
}

// bind makes the reply one to a request with these buffers.
func (w *Reply) bind(op *op, in stream, out stream) {
	w.input, w.out = in, out
	w.fixed, w.n = OutHeaderSize+max(0, op.out), 0
}

// finish writes the reply and returns its length, 0 if there is none or no room
// for one. e is 0 or an errno below 512.
func (w *Reply) finish(r *Request, e syscall.Errno) int {
	if r.op.out < 0 || w.out.total < OutHeaderSize {
		return 0
	}
	h := OutHeader{Len: OutHeaderSize, Error: -int32(e), Unique: r.Header.Unique}
	if e == 0 {
		if n := r.op.out; n > 0 {
			b := w.small[:n]
			r.op.encode(w, r.view, b)
			w.out.put(OutHeaderSize, b)
		}
		h.Len = uint32(w.fixed + w.n)
	}
	var b [OutHeaderSize]byte
	h.encode(b[:])
	w.out.put(0, b[:])
	return int(h.Len)
}

// encodeEntry stores an EntryOut as r's view shows it.
func (v *View) encodeEntry(e *EntryOut, b []byte) {
	id, ino := e.NodeID, e.Attr.Ino
	e.NodeID = v.node(id)
	e.Attr.Ino |= v.InoBase
	e.encode(b)
	e.NodeID, e.Attr.Ino = id, ino
}

// bindDir makes w.Dir fill the reply.
func (w *Reply) bindDir(r *Request) {
	w.Dir.bind(r, &w.out, w.fixed, int(r.dirSize))
}

// dirDone books what w.Dir holds. A first entry that did not fit is EINVAL.
func (w *Reply) dirDone(e syscall.Errno) syscall.Errno {
	if e == 0 && w.Dir.full && w.Dir.n == 0 {
		return syscall.EINVAL
	}
	w.n = w.Dir.n
	return e
}
