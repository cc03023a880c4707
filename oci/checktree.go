package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"vrafs/internal/chunkread"
	"vrafs/internal/imagewalk"
	"vrafs/rafs"
)

// A leaf is one file of any kind as a layer's tar has it. Names that are hard links of
// each other share one.
type leaf struct {
	typ      byte
	mode     uint32
	uid, gid int
	size     int64
	mtime    int64 // nanoseconds
	link     string
	rdev     uint32
	xattrs   map[string]string
	sum      [sha256.Size]byte
	chunks   [sha256.Size]byte // of the digests of its chunks in the converted layer
}

// layerTree is what the entries of one layer are about, by Go's own reader of tars and
// not by the one that builds images.
type layerTree struct {
	byName map[string]*leaf
	order  []string
}

// treeLimits bound what is kept in memory of layers that are compared.
type treeLimits struct {
	names int // of a layer, and of all together with the directories above them
	bytes int // of a layer's names, link targets and attributes
	path  int // of one name or link target
}

// defaultTreeLimits are those of the builder, but for half as many names.
var defaultTreeLimits = treeLimits{names: 4 << 20, bytes: 1 << 30, path: 16 << 10}

const (
	whPrefix = ".wh."
	whOpaque = ".wh..wh..opq"
)

// readLayer reads a plain tar to its end. A later entry replaces an earlier one.
func readLayer(r io.Reader, limits treeLimits) (*layerTree, error) {
	t := &layerTree{byName: map[string]*leaf{}}
	kept := 0
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the layer: %w", err)
		}
		l := &leaf{typ: h.Typeflag, mode: uint32(h.Mode) & 0o7777, uid: h.Uid, gid: h.Gid, mtime: h.ModTime.UnixNano(), link: h.Linkname}
		if len(h.Name) > limits.path || len(h.Linkname) > limits.path {
			return nil, fmt.Errorf("%w: a name or link target of more than %d bytes in a layer", ErrUnsupported, limits.path)
		}
		name := path.Clean("/" + h.Name)
		kept += len(name) + len(l.link)
		switch h.Typeflag {
		case tar.TypeLink:
			l.link = path.Clean("/" + h.Linkname)
			if to := t.byName[l.link]; to != nil {
				l = to
			}
		case tar.TypeSymlink:
			l.mode = 0o777
		case tar.TypeChar, tar.TypeBlock:
			l.rdev = device(uint32(h.Devmajor), uint32(h.Devminor))
		case tar.TypeDir, tar.TypeFifo:
		default:
			l.typ, l.size = tar.TypeReg, h.Size
			sum := sha256.New()
			if _, err := io.Copy(sum, tr); err != nil {
				return nil, fmt.Errorf("read %q: %w", name, err)
			}
			sum.Sum(l.sum[:0])
		}
		for k, v := range h.PAXRecords {
			if x, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok && v != "" {
				if l.xattrs == nil {
					l.xattrs = map[string]string{}
				}
				l.xattrs[x] = v
				kept += len(x) + len(v)
			}
		}
		if len(t.order) == limits.names || kept > limits.bytes {
			return nil, fmt.Errorf("%w: a layer of more than %d names, or %d bytes of names, link targets and attributes", ErrUnsupported, limits.names, limits.bytes)
		}
		if t.byName[name] == nil {
			t.order = append(t.order, name)
		}
		t.byName[name] = l
	}
	_, err := io.Copy(io.Discard, r)
	return t, err
}

// device is a device number as Linux stores it in 32 bits.
func device(major, minor uint32) uint32 { return minor&0xff | major<<8 | (minor&^0xff)<<12 }

// compare reports how got, a layer after conversion, differs from t.
func (t *layerTree) compare(got *layerTree, report func(name, why string)) {
	names := slices.Sorted(maps.Keys(t.byName))
	wantFirst, gotFirst := map[*leaf]string{}, map[*leaf]string{}
	for _, name := range names {
		w, g := t.byName[name], got.byName[name]
		switch {
		case strings.HasPrefix(path.Base(name), whPrefix) || name == "/":
			if g == nil && name != "/" {
				report(name, "the whiteout is missing")
			}
			continue
		case g == nil:
			report(name, "missing")
			continue
		}
		if why := w.differs(g); why != "" {
			report(name, why)
		}
		if a, b := first(wantFirst, w, name), first(gotFirst, g, name); a != b {
			report(name, fmt.Sprintf("is the file %q, should be %q", b, a))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got.byName)) {
		if t.byName[name] == nil && name != "/" {
			report(name, "the source has no such entry")
		}
	}
}

// first is the first name that a file was seen by.
func first(seen map[*leaf]string, l *leaf, name string) string {
	if seen[l] == "" {
		seen[l] = name
	}
	return seen[l]
}

// differs says in which way g is another file than w; "" if it is the same.
func (w *leaf) differs(g *leaf) string {
	switch {
	case w.typ != g.typ:
		return fmt.Sprintf("type %q, should be %q", g.typ, w.typ)
	case w.typ == tar.TypeLink:
		if w.link != g.link {
			return fmt.Sprintf("link to %q, should be %q", g.link, w.link)
		}
		return ""
	case w.mode != g.mode:
		return fmt.Sprintf("mode %o, should be %o", g.mode, w.mode)
	case w.uid != g.uid || w.gid != g.gid:
		return fmt.Sprintf("owner %d:%d, should be %d:%d", g.uid, g.gid, w.uid, w.gid)
	case w.mtime != g.mtime:
		return fmt.Sprintf("time %d ns, should be %d", g.mtime, w.mtime)
	case w.typ == tar.TypeSymlink && w.link != g.link:
		return fmt.Sprintf("target %q, should be %q", g.link, w.link)
	case w.rdev != g.rdev:
		return fmt.Sprintf("device %#x, should be %#x", g.rdev, w.rdev)
	case w.size != g.size || w.sum != g.sum:
		return fmt.Sprintf("%d bytes that are not the %d of the source", g.size, w.size)
	case !maps.Equal(w.xattrs, g.xattrs):
		return fmt.Sprintf("attributes %q, should be %q", g.xattrs, w.xattrs)
	}
	return ""
}

// noteChunks remembers which chunks the files of a converted layer have, whose content
// was compared: files of the merged tree are the same if they have the same chunks.
func (t *layerTree) noteChunks(ctx context.Context, im *rafs.Image) error {
	index := chunkread.NewIndex(im)
	return imagewalk.Walk(ctx, im, im.Root(), "/", func(p string, n *rafs.Inode) error {
		l := t.byName[p]
		if l == nil || l.typ != tar.TypeReg || !n.IsRegular() {
			return nil
		}
		sum, err := chunkSum(im, index, n)
		l.chunks = sum
		return err
	})
}

// chunkSum is a digest of the digests of a file's chunks.
func chunkSum(im *rafs.Image, index *chunkread.Index, n *rafs.Inode) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	for item, err := range chunkread.FileChunks(im, n) {
		if err != nil {
			return sum, err
		}
		c, err := index.Complete(item.Chunk)
		if err != nil {
			return sum, err
		}
		_, _ = h.Write(binary.LittleEndian.AppendUint32(c.Digest[:], c.Size))
	}
	h.Sum(sum[:0])
	return sum, nil
}

// A sourceTree is layers put on each other.
type sourceTree struct {
	root   *branch
	limits treeLimits
	made   int // branches, some of which may be gone
}

// A branch is a name in it.
type branch struct {
	leaf *leaf // nil for a directory that no layer has an entry of
	kids map[string]*branch
}

func newSourceTree(limits treeLimits) *sourceTree {
	return &sourceTree{root: &branch{kids: map[string]*branch{}}, limits: limits}
}

// put puts a layer on what is there: first it removes what the layer says, then come its
// entries.
func (s *sourceTree) put(t *layerTree) error {
	links := map[string]*leaf{}
	for _, name := range t.order {
		if l := t.byName[name]; l.typ == tar.TypeLink {
			if b := s.find(l.link, 0); b != nil && b.leaf != nil {
				links[name] = b.leaf
			}
		}
	}
	for _, name := range t.order {
		dir, base := path.Split(name)
		if victim, ok := strings.CutPrefix(base, whPrefix); ok {
			if d := s.find(dir, 0); d == nil {
				continue
			} else if base == whOpaque {
				d.kids = map[string]*branch{}
			} else {
				delete(d.kids, victim)
			}
		}
	}
	for _, name := range t.order {
		dir, base := path.Split(name)
		l := t.byName[name]
		if to := links[name]; to != nil {
			l = to
		}
		switch {
		case name == "/":
			s.root.leaf = l
			continue
		case strings.HasPrefix(base, whPrefix):
			continue
		}
		d := s.dir(dir)
		b := d.kids[base]
		if b == nil || l.typ != tar.TypeDir || b.kids == nil {
			b = s.grow(d, base)
		}
		b.leaf = l
		if l.typ == tar.TypeDir && b.kids == nil {
			b.kids = map[string]*branch{}
		}
		if s.made > s.limits.names {
			return fmt.Errorf("%w: layers of more than %d names together, with the directories above them", ErrUnsupported, s.limits.names)
		}
	}
	return nil
}

// grow makes a branch, in place of what was there.
func (s *sourceTree) grow(d *branch, name string) *branch {
	b := &branch{}
	d.kids[name] = b
	s.made++
	return b
}

// maxLinks bounds how many symbolic links a path may lead through.
const maxLinks = 40

// find follows a path through symbolic links in its directories; nil if it leads nowhere.
func (s *sourceTree) find(p string, depth int) *branch {
	at, parts := s.root, fields(p)
	for i, name := range parts {
		next := at.kids[name]
		if next == nil {
			return nil
		}
		if i < len(parts)-1 && next.isLink() {
			if depth > maxLinks {
				return nil
			}
			to := next.target("/" + path.Join(parts[:i]...))
			return s.find(path.Join(to, path.Join(parts[i+1:]...)), depth+1)
		}
		at = next
	}
	return at
}

func fields(p string) []string {
	return strings.FieldsFunc(p, func(r rune) bool { return r == '/' })
}

func (b *branch) isLink() bool { return b.leaf != nil && b.leaf.typ == tar.TypeSymlink }

// target is where a symbolic link in the directory dir leads to.
func (b *branch) target(dir string) string {
	if path.IsAbs(b.leaf.link) {
		return path.Clean(b.leaf.link)
	}
	return path.Join(dir, b.leaf.link)
}

// dir finds the directory of an entry, through symbolic links that lead to one, and makes
// what is missing.
func (s *sourceTree) dir(p string) *branch {
	at, where, hops := s.root, []string{}, 0
	for _, name := range fields(p) {
		next, here := at.kids[name], append(where, name)
		for ; next != nil && next.isLink() && hops < maxLinks; hops++ {
			here = fields(next.target("/" + path.Join(here[:max(0, len(here)-1)]...)))
			next = s.find(path.Join(here...), 0)
		}
		if next == nil || next.kids == nil {
			next, here = s.grow(at, name), append(where, name)
			next.kids = map[string]*branch{}
		}
		at, where = next, here
	}
	return at
}

// compare reports how the image differs from the tree, and gives the number of names.
func (s *sourceTree) compare(ctx context.Context, im *rafs.Image, report func(name, why string)) (n int, err error) {
	index := chunkread.NewIndex(im)
	seen := map[string]bool{}
	err = imagewalk.Walk(ctx, im, im.Root(), "/", func(p string, in *rafs.Inode) error {
		n++
		seen[p] = true
		b := s.at(p)
		if b == nil {
			report(p, "the source has no such name")
			return nil
		}
		if b.leaf == nil || p == "/" {
			if !in.IsDir() {
				report(p, "should be a directory")
			}
			return nil
		}
		got, err := imageLeaf(im, index, in)
		if err != nil {
			return fmt.Errorf("%q: %w", p, err)
		}
		want := *b.leaf
		if want.chunks != got.chunks && want.typ == tar.TypeReg {
			report(p, "has other chunks than in its layer")
		}
		got.sum, got.chunks = want.sum, want.chunks
		if why := want.differs(got); why != "" {
			report(p, why)
		}
		return nil
	})
	if err == nil {
		s.root.missing("/", seen, report)
	}
	return n, err
}

// at finds a name without following links.
func (s *sourceTree) at(p string) *branch {
	at := s.root
	for name := range strings.FieldsFuncSeq(p, func(r rune) bool { return r == '/' }) {
		if at = at.kids[name]; at == nil {
			return nil
		}
	}
	return at
}

// missing reports the names below b that were not seen.
func (b *branch) missing(p string, seen map[string]bool, report func(name, why string)) {
	if !seen[p] {
		report(p, "missing")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(b.kids)) {
		b.kids[name].missing(path.Join(p, name), seen, report)
	}
}

// leafTypes are the types of entries by the type bits of modes.
var leafTypes = map[uint32]byte{
	rafs.ModeRegular: tar.TypeReg, rafs.ModeDir: tar.TypeDir, rafs.ModeSymlink: tar.TypeSymlink,
	rafs.ModeChar: tar.TypeChar, rafs.ModeBlock: tar.TypeBlock, rafs.ModeFIFO: tar.TypeFifo,
}

// imageLeaf is a file of the image in the form of a layer's.
func imageLeaf(im *rafs.Image, index *chunkread.Index, n *rafs.Inode) (*leaf, error) {
	a := n.Attr()
	l := &leaf{typ: leafTypes[a.Mode&rafs.ModeType], mode: a.Mode & 0o7777, uid: int(a.UID), gid: int(a.GID), mtime: a.Mtime*1e9 + int64(a.MtimeNsec)}
	var err error
	switch l.typ {
	case tar.TypeReg:
		l.size = int64(a.Size)
		l.chunks, err = chunkSum(im, index, n)
	case tar.TypeSymlink:
		var target []byte
		target, err = n.Symlink()
		l.link, l.mode = string(target), 0o777
	case tar.TypeChar, tar.TypeBlock:
		l.rdev = a.Rdev
	}
	if err != nil {
		return nil, err
	}
	l.xattrs, err = imageXattrs(n)
	return l, err
}

// imageXattrs are those with a value: Go's reader of tars knows no others.
func imageXattrs(n *rafs.Inode) (map[string]string, error) {
	if !n.HasXattrs() {
		return nil, nil
	}
	names, err := n.AppendXattrNames(nil)
	if err != nil {
		return nil, err
	}
	var xs map[string]string
	for name := range bytes.SplitSeq(bytes.TrimSuffix(names, []byte{0}), []byte{0}) {
		v, ok, err := n.Xattr(name)
		if err != nil {
			return nil, err
		}
		if ok && len(v) > 0 {
			if xs == nil {
				xs = map[string]string{}
			}
			xs[string(name)] = string(v)
		}
	}
	return xs, nil
}
