package passthrough

import (
	"syscall"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
)

// maxXattr is the longest value and the longest list of names in bytes
// (XATTR_SIZE_MAX, XATTR_LIST_MAX).
const maxXattr = 64 << 10

// Getxattr reads an attribute, of any kind that this process may see.
func (f *FS) Getxattr(r *fusesrv.Request, in *fusesrv.GetxattrIn, name []byte, w *fusesrv.Reply) syscall.Errno {
	h, s, e := f.holdWith(r, name, (*cname).setXattr)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	return answer(in.Size, w, s, func(b []byte) (int, syscall.Errno) { return f.getXattr(h.fd, &s.name, b) })
}

// Listxattr lists attributes.
func (f *FS) Listxattr(r *fusesrv.Request, in *fusesrv.GetxattrIn, w *fusesrv.Reply) syscall.Errno {
	h, e := f.hold(r.Node)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	return answer(in.Size, w, local.Of(r.Worker()), func(b []byte) (int, syscall.Errno) { return f.listXattr(h.fd, b) })
}

// answer has get fill at most size bytes, or say how many it takes.
func answer(size uint32, w *fusesrv.Reply, s *scratch, get func([]byte) (int, syscall.Errno)) syscall.Errno {
	if size == 0 {
		n, e := get(nil)
		if e != 0 {
			return e
		}
		return w.Size(uint32(n))
	}
	n, e := get(s.buffer(int(min(size, maxXattr))))
	if e != 0 {
		return e
	}
	return w.Value(size, s.bytes[:n])
}

// Setxattr sets an attribute.
func (f *FS) Setxattr(r *fusesrv.Request, in *fusesrv.SetxattrIn, name, value []byte) syscall.Errno {
	h, s, e := f.holdWith(r, name, (*cname).setXattr)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	return f.setXattr(h.fd, &s.name, value, in.Flags)
}

// Removexattr removes an attribute.
func (f *FS) Removexattr(r *fusesrv.Request, name []byte) syscall.Errno {
	h, s, e := f.holdWith(r, name, (*cname).setXattr)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	return f.removeXattr(h.fd, &s.name)
}

// setXattr stores the name of an attribute, which is no name of a file.
func (c *cname) setXattr(name []byte) unix.Errno {
	if len(name) == 0 || len(name) > maxName {
		return unix.ERANGE
	}
	c[copy(c[:], name)] = 0
	return 0
}
