package fusesrv

import (
	"bytes"
	"syscall"
)

// load copies the request's arguments out of its buffers and takes them apart as
// its op says. in is the whole request, as long as its header says.
func (w *Worker) load(r *Request, in stream) syscall.Errno {
	end := in.total
	ext := int(r.Header.ExtLen) * 8
	if end-InHeaderSize-ext < r.op.in {
		return syscall.EINVAL
	}
	end -= ext
	r.Ext = nil
	w.reply.input = stream{}
	n := end - InHeaderSize
	if r.op.data {
		n = r.op.in
		w.inParts = in.slice(w.inParts[:0], InHeaderSize+n, end-InHeaderSize-n)
		w.reply.input = stream{w.inParts, end - InHeaderSize - n}
	}
	n = min(n, argLimit(r.Header.Opcode))
	if n+ext > len(w.argBuf) {
		w.argBuf = make([]byte, n+ext)
	}
	w.args = w.argBuf[:n]
	in.get(InHeaderSize, w.args)
	if ext > 0 {
		r.Ext = w.argBuf[n : n+ext]
		in.get(end, r.Ext)
	}
	return w.loadNames(r.op)
}

// argLimit bounds the bytes of arguments that are looked at.
func argLimit(o Opcode) int {
	if o == OpSetxattr {
		return 16 + maxName + 1 + maxXattr
	}
	return maxArgs
}

// loadNames finds the names behind the fixed arguments.
func (w *Worker) loadNames(o *op) (e syscall.Errno) {
	rest := w.args[o.in:]
	switch o.names {
	case lookupName, oneName:
		w.name, _, e = pathName(rest, o.names == lookupName)
	case xattrName:
		if w.name, _, e = cutName(rest, maxName); e == 0 && len(w.name) == 0 {
			e = syscall.EINVAL
		}
	case twoNames:
		if w.name, rest, e = pathName(rest, false); e == 0 {
			w.name2, _, e = pathName(rest, false)
		}
	case nameTarget:
		if w.name, rest, e = pathName(rest, false); e == 0 {
			if w.name2, _, e = cutName(rest, maxTarget); e == 0 && len(w.name2) == 0 {
				e = syscall.ENOENT
			}
		}
	}
	return e
}

// cutName splits b behind the first NUL. A name that does not end is EINVAL, one
// longer than limit ENAMETOOLONG.
func cutName(b []byte, limit int) (name, rest []byte, e syscall.Errno) {
	switch i := bytes.IndexByte(b, 0); {
	case i > limit, i < 0 && len(b) > limit:
		return nil, nil, syscall.ENAMETOOLONG
	case i < 0:
		return nil, nil, syscall.EINVAL
	default:
		return b[:i:i], b[i+1:], 0
	}
}

// pathName is cutName for a name in a directory.
func pathName(b []byte, dots bool) (name, rest []byte, e syscall.Errno) {
	name, rest, e = cutName(b, maxName)
	if e != 0 {
		return nil, nil, e
	}
	isDots := len(name) > 0 && name[0] == '.' && (len(name) == 1 || len(name) == 2 && name[1] == '.')
	if len(name) == 0 || isDots && !dots || bytes.IndexByte(name, '/') >= 0 {
		return nil, nil, syscall.EINVAL
	}
	return name, rest, 0
}
