package testimage

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"vrafs/internal/bootload"
	"vrafs/internal/opener"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// Scan checks the image with its bootstrap in the file at path and describes
// the tree in it as testtree.Scan does. Blobs are files in dir, named by their
// ids. Each chunk is checked by its digest and checksum.
func Scan(path, dir string) ([]testtree.Entry, error) {
	boot, err := bootload.Open(opener.Local(), path)
	if err != nil {
		return nil, err
	}
	defer boot.Close()
	if _, err := boot.Image.Check(context.Background(), rafs.CheckOptions{}); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s := &scanner{im: boot.Image, first: map[rafs.Ino]string{}, digests: map[rafs.Ino]string{}}
	s.r = reader{im: s.im, dir: dir, blobs: map[uint16]*blob{}}
	defer s.r.close()
	if err := s.visit("", s.im.Root()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s.entries, nil
}

type scanner struct {
	im      *rafs.Image
	r       reader
	first   map[rafs.Ino]string
	digests map[rafs.Ino]string
	entries []testtree.Entry
}

// visit describes ino, named path, and what is below.
func (s *scanner) visit(path string, ino rafs.Ino) error {
	in, err := s.im.Inode(ino)
	if err != nil {
		return err
	}
	e, err := s.describe(path, &in)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	s.entries = append(s.entries, e)
	if !in.IsDir() {
		return nil
	}
	cur, err := in.Dir(0)
	if err != nil {
		return err
	}
	if path != "" {
		path += "/"
	}
	var d rafs.Dirent
	for {
		ok, err := cur.Next(&d)
		if err != nil || !ok {
			return err
		}
		if name := string(d.Name); name != "." && name != ".." {
			if err := s.visit(path+name, d.Ino); err != nil {
				return err
			}
		}
	}
}

func (s *scanner) describe(path string, in *rafs.Inode) (testtree.Entry, error) {
	a := in.Attr()
	e := testtree.Entry{Path: path, Mode: a.Mode, UID: a.UID, GID: a.GID, Sec: a.Mtime, Nsec: int64(a.MtimeNsec)}
	var err error
	if !in.IsDir() {
		e.Nlink, e.Size = a.Nlink, int64(a.Size)
		if first, ok := s.first[in.Ino()]; ok {
			e.Link = first
		} else {
			s.first[in.Ino()] = path
		}
	}
	switch {
	case in.IsDevice():
		e.Rdev = unix.Mkdev(a.Rdev>>8&0xfff, a.Rdev&0xff|a.Rdev>>12&^0xff)
	case in.IsSymlink():
		t, err := in.Symlink()
		if err != nil {
			return e, err
		}
		e.Target, e.Size = string(t), int64(len(t))
	case in.IsRegular():
		if e.Digest, err = s.digest(in); err != nil {
			return e, err
		}
	}
	e.Xattrs, err = xattrs(in)
	return e, err
}

func xattrs(in *rafs.Inode) ([]testtree.Xattr, error) {
	names, err := in.AppendXattrNames(nil)
	if err != nil {
		return nil, err
	}
	var xs []testtree.Xattr
	for name := range bytes.SplitSeq(names, []byte{0}) {
		if len(name) == 0 {
			continue
		}
		v, ok, err := in.Xattr(name)
		if err != nil || !ok {
			return nil, fmt.Errorf("xattr %q is listed but can't be read: %w", name, err)
		}
		xs = append(xs, testtree.Xattr{Name: string(name), Value: string(v)})
	}
	slices.SortFunc(xs, func(a, b testtree.Xattr) int { return cmp.Compare(a.Name, b.Name) })
	return xs, nil
}

// digest reads a whole file.
func (s *scanner) digest(in *rafs.Inode) (string, error) {
	if d, ok := s.digests[in.Ino()]; ok {
		return d, nil
	}
	h := testtree.NewContentDigest()
	off := int64(0)
	for k := range in.ChunkCount() {
		p, err := s.r.chunk(in, k)
		if err != nil {
			return "", err
		}
		h.Add(p, off)
		off += int64(len(p))
	}
	if off != int64(in.Size()) {
		return "", fmt.Errorf("%d bytes in chunks, size %d", off, in.Size())
	}
	d := h.Sum(off)
	s.digests[in.Ino()] = d
	return d, nil
}
