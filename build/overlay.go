package build

import (
	"slices"
	"strings"

	"vrafs/rafs"
)

// OCI whiteout names (OCI image layer specification, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// Xattrs in which overlayfs keeps its own notes; a mount never shows them. The
// one of opaque directories hides everything below it.
const (
	xattrOverlayPrefix = "trusted.overlay."
	xattrOverlayOpaque = xattrOverlayPrefix + "opaque"
)

// A deletion is what an upper directory takes away from the one below.
type deletion struct {
	all   bool
	names []string // sorted
}

func (d *deletion) has(name string) bool {
	if d.all {
		return true
	}
	_, ok := slices.BinarySearch(d.names, name)
	return ok
}

// overlay puts lower below upper, both sorted trees, and takes the whiteouts out
// of upper (rafs.md 6.5). The result is upper, which takes over nodes of lower.
// lower may be nil: then the whiteouts are dropped and nothing else.
func overlay(lower, upper *node, spec WhiteoutSpec) {
	if lower == nil && spec == WhiteoutNone {
		return
	}
	type pair struct{ lower, upper *node }
	stack := []pair{{lower, upper}}
	var implied []*node // with nothing below, a directory before those in it
	for len(stack) > 0 {
		p := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		del := takeWhiteouts(p.upper, spec)
		var below []*node
		if p.lower != nil && p.lower.in.isDir() {
			below = p.lower.kids
			if p.upper.in.flags&inodeImplied != 0 {
				p.upper.in = p.lower.in
			}
		} else if p.upper.in.flags&inodeImplied != 0 && p.upper.parent != nil {
			implied = append(implied, p.upper)
		}
		merged := make([]*node, 0, len(p.upper.kids)+len(below))
		for _, up := range p.upper.kids {
			for len(below) > 0 && below[0].name < up.name {
				merged, below = keepLower(merged, below, p.upper, &del)
			}
			var lo *node
			if len(below) > 0 && below[0].name == up.name {
				if !del.has(up.name) {
					lo = below[0]
				}
				below = below[1:]
			}
			merged = append(merged, up)
			if up.in.isDir() {
				stack = append(stack, pair{lo, up})
			}
		}
		for len(below) > 0 {
			merged, below = keepLower(merged, below, p.upper, &del)
		}
		p.upper.kids = merged
	}
	dropEmpty(implied)
}

// dropEmpty removes the directories that were there only to hold whiteouts, from the
// last to the first.
func dropEmpty(implied []*node) {
	empty, parents := map[*node]bool{}, map[*node]bool{}
	drop := func(d *node) {
		if parents[d] {
			d.kids = slices.DeleteFunc(d.kids, func(k *node) bool { return empty[k] })
			delete(parents, d)
		}
	}
	for _, d := range slices.Backward(implied) {
		if drop(d); len(d.kids) == 0 {
			empty[d], parents[d.parent] = true, true
		}
	}
	for d := range parents {
		drop(d)
	}
}

// keepLower moves the first of below to merged unless it is deleted.
func keepLower(merged, below []*node, parent *node, del *deletion) ([]*node, []*node) {
	if k := below[0]; !del.has(k.name) {
		k.parent = parent
		merged = append(merged, k)
	}
	return merged, below[1:]
}

// takeWhiteouts removes the whiteouts from d and says what they delete.
func takeWhiteouts(d *node, spec WhiteoutSpec) deletion {
	var del deletion
	if spec == WhiteoutOverlayfs {
		v, _ := d.in.xattr(xattrOverlayOpaque)
		del.all = string(v) == "y"
		d.in.dropOverlayXattrs()
	}
	d.kids = slices.DeleteFunc(d.kids, func(k *node) bool {
		if spec == WhiteoutOverlayfs && !k.in.isDir() {
			k.in.dropOverlayXattrs()
		}
		name, opaque, ok := whiteout(k, spec)
		switch {
		case opaque:
			del.all = true
		case ok:
			del.names = append(del.names, name)
		}
		return ok
	})
	return del
}

// dropOverlayXattrs removes the notes of overlayfs.
func (in *inode) dropOverlayXattrs() {
	in.xattrs = slices.DeleteFunc(in.xattrs, func(x xattr) bool {
		return strings.HasPrefix(x.name, xattrOverlayPrefix)
	})
}

// whiteout says what k deletes, if it is a whiteout: a name or everything.
func whiteout(k *node, spec WhiteoutSpec) (name string, opaque, ok bool) {
	switch spec {
	case WhiteoutOCI:
		name, ok = strings.CutPrefix(k.name, whiteoutPrefix)
		return name, k.name == whiteoutOpaque, ok
	case WhiteoutOverlayfs:
		return k.name, false, k.in.mode&rafs.ModeType == rafs.ModeChar && k.in.rdev == 0
	case WhiteoutNone:
	}
	return "", false, false
}
