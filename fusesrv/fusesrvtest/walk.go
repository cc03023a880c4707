package fusesrvtest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/internal/testtree"
)

// Walk describes the tree below node as testtree.Scan does, by READDIRPLUS, READ,
// READLINK and the xattr calls. The steps of reads and listings vary with seed.
func Walk(c Caller, node uint64, seed int) ([]testtree.Entry, error) {
	w := walker{c: c, first: map[uint64]string{}, read: 4096 << (seed % 9), list: 4096 << (seed % 5)}
	a, err := Getattr(c, node)
	if err != nil {
		return nil, err
	}
	err = w.visit("", node, &a.Attr)
	return w.entries, err
}

type walker struct {
	c          Caller
	first      map[uint64]string // path by inode number
	entries    []testtree.Entry
	read, list int // bytes asked for at once
}

func (w *walker) visit(path string, node uint64, a *fusesrv.Attr) error {
	e, err := w.describe(path, node, a)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	w.entries = append(w.entries, e)
	if a.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	list, err := List(w.c, true, node, w.list)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	slices.SortFunc(list, func(a, b DirEntry) int { return cmp.Compare(a.Name, b.Name) })
	if path != "" {
		path += "/"
	}
	for i := range list {
		d := &list[i]
		if d.Name == "." || d.Name == ".." {
			continue
		}
		if err := w.known(node, d); err != nil {
			return fmt.Errorf("%q: %w", path+d.Name, err)
		}
		if err := w.visit(path+d.Name, d.Entry.NodeID, &d.Entry.Attr); err != nil {
			return err
		}
	}
	return nil
}

// known completes an entry that READDIRPLUS tells no node of, and compares the
// others with what LOOKUP says.
func (w *walker) known(dir uint64, d *DirEntry) error {
	e, err := Lookup(w.c, dir, d.Name)
	switch {
	case err != nil:
		return err
	case d.Entry.NodeID == 0:
		d.Entry = e
	case d.Entry != e:
		return fmt.Errorf("READDIRPLUS says %+v, LOOKUP %+v", d.Entry, e)
	case d.Ino != e.Attr.Ino || d.Type != e.Attr.Mode>>12:
		return fmt.Errorf("entry has inode %d type %d, LOOKUP says %+v", d.Ino, d.Type, e)
	}
	return nil
}

func (w *walker) describe(path string, node uint64, a *fusesrv.Attr) (e testtree.Entry, err error) {
	e = testtree.Entry{Path: path, Mode: a.Mode, UID: a.UID, GID: a.GID, Sec: int64(a.Mtime), Nsec: int64(a.MtimeNsec)}
	kind := a.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR {
		e.Nlink, e.Size = a.Nlink, int64(a.Size)
		if first, ok := w.first[a.Ino]; ok {
			e.Link = first
		} else {
			w.first[a.Ino] = path
		}
	}
	switch kind {
	case unix.S_IFBLK, unix.S_IFCHR:
		e.Rdev = unix.Mkdev(a.Rdev>>8&0xfff, a.Rdev&0xff|a.Rdev>>12&^0xff)
	case unix.S_IFLNK:
		b, err := w.c.Call(fusesrv.OpReadlink, node, nil, 4096)
		if err != nil {
			return e, err
		}
		e.Target = string(b)
	case unix.S_IFREG:
		if e.Digest, err = w.digest(node, a.Size); err != nil {
			return e, err
		}
	}
	e.Xattrs, err = w.xattrs(node)
	return e, err
}

func (w *walker) digest(node, size uint64) (string, error) {
	h := testtree.NewContentDigest()
	for off := uint64(0); off < size; off += uint64(w.read) {
		b, err := Read(w.c, node, 0, off, w.read)
		if err != nil {
			return "", fmt.Errorf("read at %d: %w", off, err)
		}
		if want := min(uint64(w.read), size-off); uint64(len(b)) != want {
			return "", fmt.Errorf("%w: %d bytes at %d, want %d", ErrServer, len(b), off, want)
		}
		h.Add(b, int64(off))
	}
	return h.Sum(int64(size)), nil
}

func (w *walker) xattrs(node uint64) (xs []testtree.Xattr, err error) {
	names, err := w.value(fusesrv.OpListxattr, node, "")
	if err != nil {
		if errors.Is(err, syscall.ENOSYS) {
			err = nil
		}
		return nil, err
	}
	for name := range bytes.SplitSeq(names, []byte{0}) {
		if len(name) == 0 {
			continue
		}
		v, err := w.value(fusesrv.OpGetxattr, node, string(name))
		if err != nil {
			return nil, fmt.Errorf("xattr %q: %w", name, err)
		}
		xs = append(xs, testtree.Xattr{Name: string(name), Value: string(v)})
	}
	slices.SortFunc(xs, func(a, b testtree.Xattr) int { return cmp.Compare(a.Name, b.Name) })
	return xs, nil
}

// value asks for the size first, as getxattr(2) users do.
func (w *walker) value(op fusesrv.Opcode, node uint64, name string) ([]byte, error) {
	parts := func(size uint32) []any {
		if op == fusesrv.OpListxattr {
			return []any{fusesrv.GetxattrIn{Size: size}}
		}
		return []any{fusesrv.GetxattrIn{Size: size}, name}
	}
	var out struct{ Size, Padding uint32 } // fuse_getxattr_out
	if err := ask(w.c, op, node, &out, parts(0)...); err != nil || out.Size == 0 {
		return nil, err
	}
	b, err := call(w.c, op, node, int(out.Size), parts(out.Size)...)
	if err == nil && len(b) != int(out.Size) {
		err = fmt.Errorf("%w: %v of %d bytes, %d announced", ErrServer, op, len(b), out.Size)
	}
	return slices.Clone(b), err
}
