package testtree

import (
	"fmt"
	"slices"
	"strings"
)

// DiffOptions say what Diff passes over.
type DiffOptions struct {
	// SkipRoot leaves out the tree's own root: an image does not always carry the
	// attributes of the directory it was made from.
	SkipRoot bool
	// SkipXattrs leaves out extended attributes.
	SkipXattrs bool
	// SkipDirTimes leaves out the times of directories.
	SkipDirTimes bool
}

// Diff compares two scans by path and gives one line for each difference, nil if
// there is none. Both are in the order of Scan.
func Diff(want, got []Entry, o DiffOptions) []string {
	have := make(map[string]*Entry, len(got))
	for i := range got {
		have[got[i].Path] = &got[i]
	}
	var lines []string
	for i := range want {
		w := &want[i]
		g := have[w.Path]
		delete(have, w.Path)
		switch {
		case w.Path == "" && o.SkipRoot:
		case g == nil:
			lines = append(lines, fmt.Sprintf("%q: missing", w.Path))
		default:
			lines = append(lines, diffEntry(w, g, o)...)
		}
	}
	for _, g := range got {
		if have[g.Path] != nil {
			lines = append(lines, fmt.Sprintf("%q: not wanted", g.Path))
		}
	}
	return lines
}

func diffEntry(w, g *Entry, o DiffOptions) (lines []string) {
	differ := func(field string, want, got any) {
		if want != got {
			lines = append(lines, fmt.Sprintf("%q: %s: want %v, got %v", w.Path, field, want, got))
		}
	}
	differ("mode", fmt.Sprintf("%06o", w.Mode), fmt.Sprintf("%06o", g.Mode))
	differ("uid", w.UID, g.UID)
	differ("gid", w.GID, g.GID)
	differ("nlink", w.Nlink, g.Nlink)
	differ("size", w.Size, g.Size)
	differ("rdev", w.Rdev, g.Rdev)
	if w.kind() != g.kind() || w.Nlink != 0 || !o.SkipDirTimes {
		differ("mtime", fmt.Sprintf("%d.%09d", w.Sec, w.Nsec), fmt.Sprintf("%d.%09d", g.Sec, g.Nsec))
	}
	differ("target", fmt.Sprintf("%q", w.Target), fmt.Sprintf("%q", g.Target))
	differ("hard link of", fmt.Sprintf("%q", w.Link), fmt.Sprintf("%q", g.Link))
	differ("digest", w.Digest, g.Digest)
	if !o.SkipXattrs && !slices.Equal(w.Xattrs, g.Xattrs) {
		differ("xattrs", quoteXattrs(w.Xattrs), quoteXattrs(g.Xattrs))
	}
	return lines
}

func quoteXattrs(xs []Xattr) string {
	var b strings.Builder
	for _, x := range xs {
		fmt.Fprintf(&b, " %q=%q", x.Name, x.Value[:min(len(x.Value), 64)])
	}
	return "[" + strings.TrimPrefix(b.String(), " ") + "]"
}
