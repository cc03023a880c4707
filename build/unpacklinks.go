package build

import (
	"maps"
	"path"
	"slices"
	"strings"

	"vrafs/internal/chunkread"
	"vrafs/internal/imagewalk"
	"vrafs/rafs"
)

// earlyLinks are the hard links of a layer to files below it that the layer itself takes
// away or replaces. Unpackers that do one entry after the other must see the link first;
// in the order of the tree it would come too late. path is the link's, its value the entry.
func (u *unpacker) earlyLinks() (map[string]*tarEntry, error) {
	links := map[string]*tarEntry{}
	changed := map[string]bool{} // names that the layer has something to say about
	err := imagewalk.Walk(u.ctx, u.im, u.im.Root(), "/", func(p string, n *rafs.Inode) error {
		a := n.Attr()
		dir, base := path.Split(p)
		switch name, whiteout := strings.CutPrefix(base, whiteoutPrefix); {
		case base == whiteoutOpaque:
			changed[path.Clean(dir)] = true
		case whiteout:
			changed[dir+name] = true
		case !n.IsDir():
			changed[p] = true
		}
		if !n.IsRegular() || a.Size != 0 {
			return nil
		}
		xs, err := readXattrs(n)
		if err != nil {
			return err
		}
		e := &tarEntry{name: p[1:], typ: tarLink, xattrs: xs, mode: a.Mode & 0o7777, uid: a.UID, gid: a.GID, mtime: a.Mtime, nsec: a.MtimeNsec}
		if e.link, _ = openLayer(e, n); e.link != "" {
			e.xattrs = nil
			links[p] = e
		}
		return nil
	})
	if err != nil || len(links) == 0 {
		return nil, err
	}
	for p, e := range links {
		if !inOrBelow(changed, "/"+e.link) {
			delete(links, p)
		}
	}
	return links, nil
}

// inOrBelow reports whether p or a directory above it is in set.
func inOrBelow(set map[string]bool, p string) bool {
	for ; p != "/"; p = path.Dir(p) {
		if set[p] {
			return true
		}
	}
	return set["/"]
}

// yieldEarly gives the links that come before everything else, in the order of their names.
func (u *unpacker) yieldEarly(yield func(chunkread.Item, error) bool) (bool, error) {
	early, err := u.earlyLinks()
	if err != nil {
		return false, err
	}
	u.early = early
	for _, p := range slices.Sorted(maps.Keys(early)) {
		if !yield(chunkread.Item{Tag: early[p]}, nil) {
			return false, nil
		}
	}
	return true, nil
}
