package build

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"vrafs/rafs"
)

// A chunkID names a chunk across the blobs of one image.
type chunkID struct {
	blob  uint16
	index rafs.ChunkIndex
	off   uint64 // tarfs only, where numbers mean nothing
	size  uint32 // the same
}

// id names a chunk of m.
func (m *image) id(c *rafs.Chunk) chunkID {
	if m.tarfs() {
		return chunkID{blob: c.Blob, off: c.Off, size: c.Size}
	}
	return chunkID{blob: c.Blob, index: c.Index}
}

// loadImage reads a whole bootstrap into the tree model. What is wrong with it
// must not come out as a fault of what is made of it: it is checked, and what
// readers bear but another image could not say is refused. Every inode gets the
// layer number and the flag inodeLower. Memory is bounded by the size of the
// bootstrap: a directory reached twice is an error.
func loadImage(ctx context.Context, im *Image, layer uint32) (*image, error) {
	_, m, err := openImage(ctx, im, loadOptions{layer: layer})
	return m, err
}

// loadDict is loadImage for an image of which only chunks are carried over: the
// files of a v6 image have none then.
func loadDict(ctx context.Context, im *Image) (*image, error) {
	_, m, err := openImage(ctx, im, loadOptions{dict: true})
	return m, err
}

type loadOptions struct {
	layer uint32
	dict  bool
}

// openImage gives the opened bootstrap too.
func openImage(ctx context.Context, im *Image, o loadOptions) (*rafs.Image, *image, error) {
	src, err := rafs.Open(im.Data, rafs.Options{Name: im.Name})
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", im.Name, err)
	}
	if _, err := src.Check(ctx, rafs.CheckOptions{MaxProblems: 1, Lenient: true}); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", im.Name, err)
	}
	m, err := loadTree(src, o)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", im.Name, err)
	}
	return src, m, nil
}

// loadTree fills the model from a checked bootstrap.
func loadTree(src *rafs.Image, o loadOptions) (*image, error) {
	if err := carriedBlobs(src.Blobs()); err != nil {
		return nil, err
	}
	l := &treeLoader{
		im: src, o: o,
		links: map[rafs.Ino]*inode{}, dirs: map[rafs.Ino]bool{},
		m: &image{
			version: src.Version(), flags: src.Flags(), chunkSize: src.ChunkSize(),
			digester: src.Digester(), blobs: slices.Clone(src.Blobs()), byID: map[chunkID]uint32{},
		},
	}
	if err := l.chunkTable(); err != nil {
		return nil, err
	}
	if err := l.tree(); err != nil {
		return nil, err
	}
	l.prefetch()
	return l.m, nil
}

type treeLoader struct {
	im    *rafs.Image
	m     *image
	o     loadOptions
	spans []rafs.Span // scratch

	xattrBytes uint64
	links      map[rafs.Ino]*inode
	dirs       map[rafs.Ino]bool
	ents       []loadedDir // directories still to be read
	pre        map[rafs.Ino]*node
}

type loadedDir struct {
	n   *node
	ino rafs.Ino
}

// tree reads all directories, a directory before what is below it.
func (l *treeLoader) tree() error {
	l.pre = map[rafs.Ino]*node{}
	for _, ino := range l.im.Prefetch() {
		l.pre[ino] = nil
	}
	root := &node{}
	if err := l.fill(root, l.im.Root()); err != nil {
		return err
	}
	l.m.root = root
	for len(l.ents) > 0 {
		d := l.ents[len(l.ents)-1]
		l.ents = l.ents[:len(l.ents)-1]
		if err := l.dir(d); err != nil {
			return err
		}
	}
	return nil
}

func (l *treeLoader) dir(d loadedDir) error {
	in, err := l.im.Inode(d.ino)
	if err != nil {
		return err
	}
	cur, err := in.Dir(0)
	if err != nil {
		return err
	}
	for {
		var e rafs.Dirent
		ok, err := cur.Next(&e)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if name := string(e.Name); name != "." && name != ".." {
			k := &node{name: name, parent: d.n}
			if err := l.fill(k, e.Ino); err != nil {
				return fmt.Errorf("%q: %w", k.path(), err)
			}
			d.n.kids = append(d.n.kids, k)
		}
	}
	d.n.sortKids()
	for i := 1; i < len(d.n.kids); i++ {
		if d.n.kids[i].name == d.n.kids[i-1].name {
			return fmt.Errorf("%w: %q is there twice", rafs.ErrCorrupt, d.n.kids[i].path())
		}
	}
	return nil
}

// fill gives n its inode; names of one file share it.
func (l *treeLoader) fill(n *node, ino rafs.Ino) error {
	src, err := l.im.Inode(ino)
	if err != nil {
		return err
	}
	if _, ok := l.pre[ino]; ok && l.pre[ino] == nil {
		l.pre[ino] = n
	}
	if n.parent == nil && !src.IsDir() {
		return fmt.Errorf("%w: root is no directory", rafs.ErrCorrupt)
	}
	if src.IsDir() {
		if l.dirs[ino] {
			return fmt.Errorf("%w: directory reached twice", rafs.ErrCorrupt)
		}
		l.dirs[ino] = true
		l.ents = append(l.ents, loadedDir{n, ino})
	} else if in := l.links[ino]; in != nil {
		n.in = in
		return nil
	}
	a := src.Attr()
	in := &inode{mode: a.Mode, uid: a.UID, gid: a.GID, rdev: a.Rdev, mtime: a.Mtime, mtimeNsec: a.MtimeNsec,
		size: a.Size, layer: l.o.layer, flags: inodeLower}
	n.in = in
	if !src.IsDir() && src.Nlink() > 1 && (src.IsRegular() || l.im.Version() == rafs.V6) {
		l.links[ino] = in
	}
	if src.IsSymlink() {
		t, err := src.Symlink()
		if err != nil {
			return err
		}
		in.target, in.size = string(t), uint64(len(t))
	}
	if err := l.xattrs(in, &src); err != nil {
		return err
	}
	return l.chunks(in, &src)
}

// maxXattrsBase and maxXattrsFactor bound the extended attributes of all inodes
// together: so many bytes, and so many more per byte of the bootstrap. Inodes of a
// v6 image may share attributes, which are stored once then, and with each inode in
// images of ours.
const (
	maxXattrsBase   = 1 << 20
	maxXattrsFactor = 16
)

func (l *treeLoader) xattrs(in *inode, src *rafs.Inode) error {
	xs, err := readXattrs(src)
	if err != nil {
		return err
	}
	for _, x := range xs {
		l.xattrBytes += uint64(len(x.name) + len(x.value))
	}
	if limit := maxXattrsBase + maxXattrsFactor*l.im.Size(); l.xattrBytes > limit {
		return &rafs.FormatError{Off: src.Offset(), Field: "inode.xattr", Class: rafs.ErrUnsupported,
			Why: fmt.Sprintf("more than %d bytes of shared attributes if every inode has its own", limit)}
	}
	return in.setXattrs(xs)
}

// readXattrs copies the extended attributes of an inode, in stored order.
func readXattrs(src *rafs.Inode) ([]xattr, error) {
	if !src.HasXattrs() {
		return nil, nil
	}
	names, err := src.AppendXattrNames(nil)
	if err != nil {
		return nil, err
	}
	var xs []xattr
	for name := range bytes.SplitSeq(bytes.TrimSuffix(names, []byte{0}), []byte{0}) {
		v, ok, err := src.Xattr(name)
		if err != nil {
			return nil, err
		}
		if ok {
			xs = append(xs, xattr{string(name), bytes.Clone(v)})
		}
	}
	return xs, nil
}

// prefetch keeps the order of the table.
func (l *treeLoader) prefetch() {
	for _, ino := range l.im.Prefetch() {
		if n := l.pre[ino]; n != nil {
			l.m.prefetch = append(l.m.prefetch, n)
			l.pre[ino] = nil
		}
	}
}
