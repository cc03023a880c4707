package build

import (
	"fmt"
	"slices"
	"strings"

	"vrafs/rafs"
)

// What the tar of a layer leaves open, since only the layers below can tell: which
// directories it names without saying what they are, and files that it has a further
// name for. A layer that is built to be merged keeps both as attributes, which Merge
// and Unpack understand and never show:
//
//	directory with layerImplied          what is below stays as it is; if nothing is, 0755
//	empty file with layerLink = path     another name of the file that path names below
const (
	layerImplied = "trusted.vrafs.layer.implied"
	layerLink    = "trusted.vrafs.layer.link"
)

// A below finds what a layer left open in the tree of the layers below it.
type below struct {
	lower, upper *node
	linkAny      bool                       // as in dirSource
	grafts       map[*node]map[string]*node // children of changed directories of upper
}

// linksBelow reports whether in stands for a file of a lower layer, at in.target.
func (in *inode) linksBelow() bool { return in.isReg() && in.target != "" }

// markLayer turns what is left open below root into attributes.
func markLayer(root *node) {
	_ = root.visit(func(n *node) error {
		switch {
		case n.in.flags&inodeImplied != 0:
			n.in.xattrs = []xattr{{layerImplied, []byte("y")}}
		case n.in.linksBelow():
			n.in.xattrs = []xattr{{layerLink, []byte(n.in.target)}}
		}
		return nil
	})
}

// unmarkLayer is the reverse of markLayer.
func unmarkLayer(root *node) {
	_ = root.visit(func(n *node) error {
		if len(n.in.xattrs) != 1 {
			return nil
		}
		x := n.in.xattrs[0]
		switch {
		case x.name == layerImplied && n.in.isDir():
			n.in.flags |= inodeImplied
			n.in.xattrs = nil
		case x.name == layerLink && n.in.isReg() && n.in.size == 0:
			n.in.target, n.in.xattrs = string(x.value), nil
		}
		return nil
	})
}

// stackLayer puts lower, which may be nil, below upper as overlay does, after
// everything that upper left open has been found in lower.
func stackLayer(lower, upper *node, spec WhiteoutSpec, version rafs.Version) error {
	b := below{lower: lower, upper: upper, linkAny: version == rafs.V6}
	if err := b.links(); err != nil {
		return err
	}
	if lower != nil && spec == WhiteoutOCI {
		if err := b.throughSymlinks(); err != nil {
			return err
		}
	}
	overlay(lower, upper, spec)
	return nil
}

// links gives names of files of lower layers their inodes.
func (b *below) links() error {
	return b.upper.visit(func(n *node) error {
		if !n.in.linksBelow() {
			return nil
		}
		var target *node
		if b.lower != nil {
			dir, names, err := b.find(n.in.target, false)
			if err == nil && len(names) == 1 {
				target = dir.kid(names[0])
			}
		}
		switch {
		case target == nil:
			return fmt.Errorf("%w: %q: hard link to %q, which is neither in its layer before it nor in those below", ErrSource, n.path(), n.in.target)
		case target.in.isDir():
			return fmt.Errorf("%w: %q: hard link to the directory %q", ErrSource, n.path(), n.in.target)
		}
		n.in = target.in.linked(b.linkAny)
		return nil
	})
}

// find follows path in the lower tree, through symlinks but never out of the root, to
// a directory that is there and the names below it that are not. The last name of a
// path is not followed unless follow is set, and is in names even if it is there.
func (b *below) find(path string, follow bool) (dir *node, names []string, err error) {
	d, hops := b.lower, 0
	for path = strings.Trim(path, "/"); path != ""; {
		name, rest, more := strings.Cut(path, "/")
		path = strings.TrimLeft(rest, "/")
		more = more && path != ""
		switch {
		case name == ".":
			continue
		case name == "..":
			if len(names) > 0 {
				names = names[:len(names)-1]
			} else if d.parent != nil {
				d = d.parent
			}
			continue
		case !more && !follow:
			return d, append(names, name), nil
		}
		var k *node
		if len(names) == 0 {
			k = d.kid(name)
		}
		switch {
		case k == nil:
			names = append(names, name)
		case k.in.isDir():
			d = k
		case k.in.isLink():
			if hops++; hops > maxLinkHops || len(path)+len(k.in.target) > 2*maxTarPath {
				return nil, nil, fmt.Errorf("%w: %q: too many symlinks in the path", ErrSource, k.path())
			}
			if strings.HasPrefix(k.in.target, "/") {
				d = b.lower
			}
			path = strings.Trim(k.in.target+"/"+path, "/")
		default:
			return nil, nil, fmt.Errorf("%w: %q in the path is no directory", ErrSource, k.path())
		}
	}
	return d, names, nil
}

// A detour is what upper has in a directory that is a symlink in lower.
type detour struct {
	n  *node
	to []string // names of the directory that the symlink leads to
}

// throughSymlinks moves what upper has in directories it only implies to where it
// would be unpacked, if they are symlinks in lower. That can lead through the next
// symlink, so it goes on until nothing moves.
func (b *below) throughSymlinks() error {
	for range maxLinkHops {
		moves := b.detours()
		if len(moves) == 0 {
			return nil
		}
		b.grafts = map[*node]map[string]*node{}
		for _, m := range moves {
			if err := b.graft(m); err != nil {
				return err
			}
		}
		for d, kids := range b.grafts {
			d.kids = d.kids[:0]
			for _, k := range kids {
				d.kids = append(d.kids, k)
			}
			d.sortKids()
		}
	}
	return fmt.Errorf("%w: too many symlinks in the paths of a layer", ErrSource)
}

// detours takes the directories that lower has as symlinks out of upper.
func (b *below) detours() (moves []detour) {
	type pair struct{ lower, upper *node }
	stack := []pair{{b.lower, b.upper}}
	for len(stack) > 0 {
		p := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if p.upper.kid(whiteoutOpaque) != nil {
			continue // nothing of lower is below it
		}
		kept := make([]*node, 0, len(p.upper.kids))
		for _, k := range p.upper.kids {
			lo := p.lower.kid(k.name)
			if lo != nil && k.in.isDir() && p.upper.kid(whiteoutPrefix+k.name) == nil {
				if lo.in.isDir() {
					stack = append(stack, pair{lo, k})
				} else if to := b.detour(lo, k); to != nil {
					moves = append(moves, detour{k, to})
					continue
				}
			}
			kept = append(kept, k)
		}
		p.upper.kids = kept
	}
	return moves
}

// detour gives the names of the directory that up is, if lo, which is below it, is a
// symlink that leads to one or to nothing.
func (b *below) detour(lo, up *node) []string {
	if !lo.in.isLink() || up.in.flags&inodeImplied == 0 {
		return nil
	}
	dir, names, err := b.find(lo.path(), true)
	if err != nil {
		return nil // then the directory takes its place
	}
	return append(dir.names(), names...)
}

// names are the parts of n's path.
func (n *node) names() []string {
	names := []string{}
	for ; n.parent != nil; n = n.parent {
		names = append(names, n.name)
	}
	slices.Reverse(names)
	return names
}

// graft adds what m.n has to the directory at m.to. What is there already stays,
// except that attributes come from where they are known.
func (b *below) graft(m detour) error {
	d := b.upper
	for _, name := range m.to {
		kids := b.kids(d)
		k := kids[name]
		if k == nil {
			k = &node{name: name, parent: d, in: impliedDir()}
			kids[name] = k
		}
		if !k.in.isDir() {
			return fmt.Errorf("%w: %q leads to %q, which is no directory in its layer", ErrSource, m.n.path(), k.path())
		}
		d = k
	}
	type pair struct{ to, from *node }
	for stack := []pair{{d, m.n}}; len(stack) > 0; {
		p := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		kids := b.kids(p.to)
		for _, k := range p.from.kids {
			old := kids[k.name]
			switch {
			case old == nil:
				k.parent = p.to
				kids[k.name] = k
			case old.in.isDir() && k.in.isDir():
				if old.in.flags&inodeImplied != 0 {
					old.in = k.in
				}
				stack = append(stack, pair{old, k})
			}
		}
	}
	return nil
}

// kids are the children of d by name, while they change.
func (b *below) kids(d *node) map[string]*node {
	m := b.grafts[d]
	if m == nil {
		m = make(map[string]*node, len(d.kids))
		for _, k := range d.kids {
			m[k.name] = k
		}
		b.grafts[d] = m
	}
	return m
}

// openLayer is what an inode of a layer that was not merged stands for: a hard link
// to target, or a directory that its tar has no entry of.
func openLayer(e *tarEntry, n *rafs.Inode) (target string, implied bool) {
	if len(e.xattrs) != 1 {
		return "", false
	}
	x := e.xattrs[0]
	if x.name == layerLink && n.IsRegular() && n.Attr().Size == 0 {
		target = strings.TrimPrefix(string(x.value), "/")
	}
	return target, x.name == layerImplied && n.IsDir()
}
