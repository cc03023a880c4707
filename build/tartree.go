package build

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"vrafs/rafs"
)

// maxLinkHops is how many symlinks one path may lead through, as in Linux.
const maxLinkHops = 40

// A tarTree puts entries into a tree as they come. Entries may name parents that
// have none of their own, come twice, and lead through symlinks of the same
// archive, as they do when a tar is unpacked with the root as its limit.
type tarTree struct {
	root    *node
	kids    map[*node]map[string]*node // of directories; node.kids is made by sort
	linkAny bool                       // as in dirSource
	layers  bool                       // there are layers below, now or in a Merge
	implied uint64                     // directories made that had no entry of their own
}

func newTarTree(linkAny, layers bool) *tarTree {
	t := &tarTree{kids: map[*node]map[string]*node{}, linkAny: linkAny, layers: layers}
	t.root = &node{in: impliedDir()}
	return t
}

func impliedDir() *inode { return &inode{mode: rafs.ModeDir | 0o755, flags: inodeImplied} }

func cleanPath(name string) string { return path.Clean("/" + name) }

// add puts e into the tree and gives the inode whose data follows, nil for none.
func (t *tarTree) add(e *tarEntry) (*inode, error) {
	dir, name := path.Split(cleanPath(e.name))
	if name == "" {
		return nil, t.setRoot(e)
	}
	if strings.IndexByte(name, 0) >= 0 || len(name) > rafs.MaxNameLen {
		return nil, fmt.Errorf("name of %d bytes, or with a NUL", len(name))
	}
	parent, err := t.dir(dir, true)
	if err != nil {
		return nil, err
	}
	old := t.kids[parent][name]
	if e.typ == tarLink {
		return nil, t.link(parent, name, old, e)
	}
	in, err := e.inode()
	if err != nil {
		return nil, err
	}
	t.put(parent, name, old, in)
	return in, nil
}

// setRoot takes over the attributes of the archive's own root but for its time
// (rafs.md 6.10).
func (t *tarTree) setRoot(e *tarEntry) error {
	if e.typ != tarDir {
		return errors.New("the root is no directory")
	}
	in, err := e.inode()
	if err != nil {
		return err
	}
	in.mtime, in.mtimeNsec = 0, 0
	t.root.in = in
	return nil
}

// put gives name its inode. A directory keeps the children it has.
func (t *tarTree) put(parent *node, name string, old *node, in *inode) *node {
	if old == nil {
		old = &node{name: name, parent: parent}
		m := t.kids[parent]
		if m == nil {
			m = map[string]*node{}
			t.kids[parent] = m
		}
		m[name] = old
	} else if !in.isDir() {
		t.forget(old)
	}
	old.in = in
	return old
}

// forget drops what is below n.
func (t *tarTree) forget(n *node) {
	todo := []*node{n}
	for len(todo) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, k := range t.kids[d] {
			todo = append(todo, k)
		}
		delete(t.kids, d)
	}
}

// link makes name another name of an earlier entry.
func (t *tarTree) link(parent *node, name string, old *node, e *tarEntry) error {
	var target *node
	dir, base := path.Split(cleanPath(e.link))
	d, err := t.dir(dir, false)
	if err == nil {
		target = t.kids[d][base]
	}
	switch {
	case target == nil && t.layers && base != "":
		t.put(parent, name, old, &inode{mode: rafs.ModeRegular, target: cleanPath(e.link)})
		return nil
	case err != nil:
		return fmt.Errorf("hard link to %q: %w", e.link, err)
	case target == nil:
		return fmt.Errorf("hard link to %q, which is not in the archive before it", e.link)
	case target.in.isDir():
		return fmt.Errorf("hard link to the directory %q", e.link)
	case target == old:
		return nil
	}
	t.put(parent, name, old, target.in.linked(t.linkAny))
	return nil
}

// linked is the inode of a further name of in.
func (in *inode) linked(linkAny bool) *inode {
	if !in.isReg() && !linkAny {
		clone := *in
		in = &clone
	}
	in.flags |= inodeLinked
	return in
}

// dir finds the directory at a clean absolute path. Symlinks are followed, but
// never out of the root. With create, missing directories are made.
func (t *tarTree) dir(p string, create bool) (*node, error) {
	if n := t.plainDir(p); n != nil {
		return n, nil
	}
	d, hops := t.root, 0
	for p = strings.Trim(p, "/"); p != ""; {
		name, rest, _ := strings.Cut(p, "/")
		p = rest
		k := t.kids[d][name]
		switch {
		case name == "" || name == ".":
		case name == "..":
			if d.parent != nil {
				d = d.parent
			}
		case k == nil:
			if !create {
				return nil, fmt.Errorf("no directory %q", name)
			}
			if len(name) > rafs.MaxNameLen {
				return nil, fmt.Errorf("name of %d bytes", len(name))
			}
			d = t.put(d, name, nil, impliedDir())
			t.implied++
		case k.in.isDir():
			d = k
		case k.in.isLink():
			if hops++; hops > maxLinkHops || len(p)+len(k.in.target) > 2*maxTarPath {
				return nil, errors.New("too many symlinks in the path")
			}
			if p = k.in.target + "/" + p; strings.HasPrefix(p, "/") {
				d = t.root
			}
			p = strings.Trim(p, "/")
		default:
			return nil, fmt.Errorf("%q in the path is no directory", name)
		}
	}
	return d, nil
}

// plainDir is dir for paths that exist and lead through directories only.
func (t *tarTree) plainDir(p string) *node {
	d := t.root
	for p = strings.Trim(p, "/"); p != ""; {
		name, rest, _ := strings.Cut(p, "/")
		k := t.kids[d][name]
		if k == nil || !k.in.isDir() {
			return nil
		}
		d, p = k, rest
	}
	return d
}

// sort makes the lists of children when all entries are there.
func (t *tarTree) sort() {
	for d, m := range t.kids {
		d.kids = make([]*node, 0, len(m))
		for _, k := range m {
			d.kids = append(d.kids, k)
		}
		d.sortKids()
	}
	t.kids = nil
}

// inode makes the inode that e describes.
func (e *tarEntry) inode() (*inode, error) {
	in := &inode{uid: e.uid, gid: e.gid, mtime: e.mtime, mtimeNsec: e.nsec}
	switch e.typ {
	case tarReg:
		in.mode, in.size = rafs.ModeRegular, e.size
	case tarDir:
		in.mode = rafs.ModeDir
	case tarSymlink:
		if e.link == "" || strings.IndexByte(e.link, 0) >= 0 {
			return nil, errors.New("bad symlink target")
		}
		in.mode, in.target, in.size = rafs.ModeSymlink, e.link, uint64(len(e.link))
	case tarChar, tarBlock:
		in.mode = rafs.ModeChar
		if e.typ == tarBlock {
			in.mode = rafs.ModeBlock
		}
		if e.major > 1<<12-1 || e.minor > 1<<20-1 {
			return nil, fmt.Errorf("device number %d:%d", e.major, e.minor)
		}
		in.rdev = deviceNumber(e.major, e.minor)
	case tarFifo:
		in.mode = rafs.ModeFIFO
	default:
		return nil, fmt.Errorf("entry of unknown type %q", e.typ)
	}
	in.mode |= e.mode
	if in.isLink() {
		in.mode |= 0o777 // all that Linux gives a symlink, whatever the header says
	}
	// What has no name space that Linux knows, as macOS writes, no unpacker can set.
	e.xattrs = slices.DeleteFunc(e.xattrs, func(x xattr) bool {
		_, _, ok := xattrIndex(x.name)
		return !ok
	})
	return in, in.setXattrs(e.xattrs)
}
