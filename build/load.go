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
}

// id names a chunk of m.
func (m *image) id(c *rafs.Chunk) chunkID {
	if m.tarfs() {
		return chunkID{blob: c.Blob, off: c.Off}
	}
	return chunkID{blob: c.Blob, index: c.Index}
}

// loadImage reads a whole bootstrap into the tree model, after a check: what is
// wrong with it must not come out as a fault of what is made of it. Every inode
// gets the layer number and the flag inodeLower. Memory is bounded by the size of the
// bootstrap: a directory reached twice is an error.
func loadImage(ctx context.Context, im *Image, layer uint32) (*image, error) {
	src, err := rafs.Open(im.Data, rafs.Options{Name: im.Name})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", im.Name, err)
	}
	if _, err := src.Check(ctx, rafs.CheckOptions{MaxProblems: 1}); err != nil {
		return nil, fmt.Errorf("%s: %w", im.Name, err)
	}
	m, err := loadTree(src, layer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", im.Name, err)
	}
	return m, nil
}

// loadTree is loadImage for an opened bootstrap.
func loadTree(src *rafs.Image, layer uint32) (*image, error) {
	l := &treeLoader{
		im: src, layer: layer,
		byID: map[chunkID]uint32{}, links: map[rafs.Ino]*inode{}, dirs: map[rafs.Ino]bool{},
		m: &image{
			version: src.Version(), flags: src.Flags(), chunkSize: src.ChunkSize(),
			digester: src.Digester(), blobs: slices.Clone(src.Blobs()),
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
	layer uint32
	byID  map[chunkID]uint32
	links map[rafs.Ino]*inode
	dirs  map[rafs.Ino]bool
	ents  []loadedDir // directories still to be read
	pre   map[rafs.Ino]*node
}

type loadedDir struct {
	n   *node
	ino rafs.Ino
}

// chunkTable takes the chunks of a v6 image, whose files only refer to them.
func (l *treeLoader) chunkTable() error {
	for i := range l.im.ChunkTableLen() {
		c, err := l.im.ChunkTableEntry(i)
		if err != nil {
			return err
		}
		l.addChunk(c, 0)
	}
	return nil
}

// addChunk gives the number of c, a new one if it was not seen before.
func (l *treeLoader) addChunk(c rafs.Chunk, fileOff uint64) uint32 {
	key := l.m.id(&c)
	id, ok := l.byID[key]
	if !ok {
		id = uint32(len(l.m.chunks))
		l.m.chunks = append(l.m.chunks, chunk{c, fileOff})
		l.byID[key] = id
	}
	return id
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
		size: a.Size, layer: l.layer, flags: inodeLower}
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

func (l *treeLoader) xattrs(in *inode, src *rafs.Inode) error {
	xs, err := readXattrs(src)
	if err != nil {
		return err
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

func (l *treeLoader) chunks(in *inode, src *rafs.Inode) error {
	n := src.ChunkCount()
	if n == 0 {
		return nil
	}
	in.chunks = make([]uint32, 0, n)
	for k := range n {
		c, err := src.Chunk(k)
		if err != nil {
			return err
		}
		if l.im.Version() == rafs.V6 && !l.im.Tarfs() {
			if _, ok := l.byID[l.m.id(&c)]; !ok {
				return fmt.Errorf("%w: chunk %d of blob %d is missing in the chunk table", rafs.ErrCorrupt, c.Index, c.Blob)
			}
		}
		in.chunks = append(in.chunks, l.addChunk(c, k*uint64(l.m.chunkSize)))
	}
	return nil
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
