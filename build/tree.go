package build

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"vrafs/rafs"
)

// maxFileChunks is the most chunks one file may have.
const maxFileChunks = 1 << 24

// An xattr is one extended attribute with its full name.
type xattr struct {
	name  string
	value []byte
}

// An inode is what all names of one file share.
type inode struct {
	mode      uint32
	uid, gid  uint32
	rdev      uint32
	nlink     uint32
	mtimeNsec uint32
	mtime     int64
	size      uint64
	target    string   // of a symlink; of a regular file, see layer.go
	xattrs    []xattr  // sorted by name
	chunks    []uint32 // into builder.chunks
	layer     uint32
	ino       uint32 // number of the first name, set by number
	flags     inodeFlags
	nid       uint64      // v6, set by layout
	digest    rafs.Digest // v5, set by digests
}

type inodeFlags uint8

const (
	inodeDumped   inodeFlags = 1 << iota // its data has been handed to the pipeline
	inodeLinked                          // from a hard link in the source
	inodeLower                           // comes from the parent image
	inodeOpaque                          // overlayfs opaque directory
	inodeSparse                          // the source file has holes
	inodeImplied                         // directory that the tar only implies
	inodeExternal                        // data in an external blob
)

func (in *inode) isDir() bool  { return in.mode&rafs.ModeType == rafs.ModeDir }
func (in *inode) isReg() bool  { return in.mode&rafs.ModeType == rafs.ModeRegular }
func (in *inode) isLink() bool { return in.mode&rafs.ModeType == rafs.ModeSymlink }
func (in *inode) isDev() bool {
	return in.mode&rafs.ModeType == rafs.ModeChar || in.mode&rafs.ModeType == rafs.ModeBlock
}

// xattr returns the value of name and whether it exists.
func (in *inode) xattr(name string) ([]byte, bool) {
	i, ok := slices.BinarySearchFunc(in.xattrs, name, func(x xattr, n string) int {
		return strings.Compare(x.name, n)
	})
	if !ok {
		return nil, false
	}
	return in.xattrs[i].value, true
}

// setXattrs sorts and checks xs and stores them; of equal names the last wins.
func (in *inode) setXattrs(xs []xattr) error {
	if len(xs) == 0 {
		in.xattrs = nil
		return nil
	}
	sort.SliceStable(xs, func(i, j int) bool { return xs[i].name < xs[j].name })
	out := xs[:0]
	for _, x := range xs {
		if err := checkXattr(x); err != nil {
			return err
		}
		if n := len(out); n > 0 && out[n-1].name == x.name {
			out[n-1] = x
			continue
		}
		out = append(out, x)
	}
	in.xattrs = out
	return nil
}

func checkXattr(x xattr) error {
	if _, _, ok := xattrIndex(x.name); !ok {
		return fmt.Errorf("%w: xattr %q: name space not supported", ErrSource, x.name)
	}
	if len(x.name) > rafs.MaxXattrNameLen || strings.IndexByte(x.name, 0) >= 0 {
		return fmt.Errorf("%w: xattr %.64q: bad name", ErrSource, x.name)
	}
	if len(x.value) > rafs.V6MaxXattrValue {
		return fmt.Errorf("%w: xattr %q: value of %d bytes", ErrSource, x.name, len(x.value))
	}
	return nil
}

// A node is one name in the tree.
type node struct {
	name   string
	parent *node
	in     *inode
	kids   []*node // directories: sorted by name once the tree is complete
	index  uint32  // 1-based, set by number
	child  uint32  // directories: index of the first child
}

// first reports whether n is the first name of its inode. number decides it.
func (n *node) first() bool { return n.in.ino == n.index }

// path is the absolute path of n.
func (n *node) path() string {
	if n.parent == nil {
		return "/"
	}
	size := 0
	for p := n; p.parent != nil; p = p.parent {
		size += len(p.name) + 1
	}
	b := make([]byte, size)
	for p := n; p.parent != nil; p = p.parent {
		size -= len(p.name)
		copy(b[size:], p.name)
		size--
		b[size] = '/'
	}
	return string(b)
}

// kid finds a child by name in sorted children.
func (n *node) kid(name string) *node {
	i, ok := slices.BinarySearchFunc(n.kids, name, func(k *node, s string) int {
		return strings.Compare(k.name, s)
	})
	if !ok {
		return nil
	}
	return n.kids[i]
}

// sortKids sorts the children of n alone.
func (n *node) sortKids() {
	slices.SortFunc(n.kids, func(a, b *node) int { return strings.Compare(a.name, b.name) })
}

// lookup finds a node by absolute path in a sorted tree.
func (n *node) lookup(path string) *node {
	for path = strings.Trim(path, "/"); path != ""; {
		name, rest, _ := strings.Cut(path, "/")
		if n = n.kid(name); n == nil {
			return nil
		}
		path = strings.TrimLeft(rest, "/")
	}
	return n
}

// visit calls f for n and everything below it in the order of numbering: the
// children of a directory in order, then the directories among them. It uses no
// stack that grows with depth.
func (n *node) visit(f func(*node) error) error {
	if err := f(n); err != nil {
		return err
	}
	return n.visitDirs(func(d *node) error {
		for _, k := range d.kids {
			if err := f(k); err != nil {
				return err
			}
		}
		return nil
	})
}

// visitDirs calls f for every directory, a directory before its children, in
// the order of numbering.
func (n *node) visitDirs(f func(*node) error) error {
	if !n.in.isDir() {
		return nil
	}
	stack := []*node{n}
	for len(stack) > 0 {
		d := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if err := f(d); err != nil {
			return err
		}
		for i := len(d.kids) - 1; i >= 0; i-- {
			if d.kids[i].in.isDir() {
				stack = append(stack, d.kids[i])
			}
		}
	}
	return nil
}

// A numbering is the result of number.
type numbering struct {
	names  uint32 // all names including the root
	inodes uint32 // hard links counted once
}

// number gives indexes, inode numbers and link counts (rafs.md 1.7).
func number(root *node) (numbering, error) {
	_ = root.visit(func(n *node) error {
		n.in.nlink, n.in.ino = 0, 0
		return nil
	})
	var c numbering
	next := uint64(1)
	give := func(n *node) {
		n.index = uint32(next)
		next++
		c.names++
		if n.in.ino == 0 {
			n.in.ino = n.index
			c.inodes++
		}
		n.in.nlink++
	}
	give(root)
	err := root.visitDirs(func(d *node) error {
		if next+uint64(len(d.kids)) > 1<<32-2 {
			return fmt.Errorf("%w: more than 2^32 names", ErrSource)
		}
		d.child = uint32(next)
		links := uint32(2)
		for _, k := range d.kids {
			give(k)
			if k.in.isDir() {
				links++
			}
		}
		d.in.nlink = links
		return nil
	})
	return c, err
}
