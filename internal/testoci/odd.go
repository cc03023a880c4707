package testoci

import (
	"archive/tar"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vrafs/internal/testenv"
)

// oddVersion counts up when Odd changes.
const oddVersion = "1"

// manyEntries is how many names the largest directory of Odd has in its lowest layer.
const manyEntries = 8000

// Odd has in its layers what is rare: attributes at the ends of their ranges, names
// of every kind, whiteouts of everything and of nothing, every change of type, hard
// links over layers, holes, and headers of three formats.
func Odd(t testing.TB) *Image {
	t.Helper()
	testenv.Need(t, testenv.GNUTar, testenv.TrustedAttr)
	im := kept(t, "odd", oddVersion, func(dir string) error {
		if err := umoci("new", "--image", layoutTag(dir)); err != nil {
			return err
		}
		layers, err := oddLayers(dir)
		if err != nil {
			return err
		}
		for _, l := range layers {
			path := filepath.Join(dir, "layer.tar")
			if err := os.WriteFile(path, l, 0o600); err != nil {
				return err
			}
			if err := umoci("raw", "add-layer", "--image", layoutTag(dir), path); err != nil {
				return err
			}
		}
		return os.Remove(filepath.Join(dir, "layer.tar"))
	})
	// Of names the layer that removes what is in it says nothing; the others are
	// directories that only other entries imply.
	im.untimed = []string{"names", "names/to", "implied", "opaque-of-nothing"}
	return im
}

// oddLayers are the layers, the lowest first. dir is a place to work in.
func oddLayers(dir string) (layers [][]byte, err error) {
	for _, make := range []func(*tarball){oddBase, oddChanges, oddEmpty, oddAgain} {
		b := newTarball()
		make(b)
		l, err := b.finish()
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
	}
	for _, format := range []string{"gnu", "posix"} {
		l, err := oddGNU(filepath.Join(dir, "gnu"), format)
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
	}
	return layers, nil
}

// oddBase has what later layers change, and what needs no second layer to be odd.
func oddBase(b *tarball) {
	b.dir(".", mode(0o750))
	oddAttributes(b)
	oddNames(b)
	b.dir("many")
	for i := range manyEntries {
		b.text(fmt.Sprintf("many/%04d", i), fmt.Sprint(i))
	}
	b.file("implied/by/a/file") // whose parents have no entries
	b.dir("links")
	b.file("links/first", mode(0o600), owner(3, 4))
	b.link("links/second", "links/first")
	b.link("links/absolute", "/links/first")
	b.symlink("links/sym", "first")
	b.link("links/sym-second", "links/sym")
	b.fifo("links/fifo")
	b.link("links/fifo-second", "links/fifo")
	b.file("links/removed-first")
	b.link("links/removed-second", "links/removed-first")
	b.dir("inner")
	b.symlink("through", "inner") // later layers write through it
	b.dir("gone")
	b.dir("opaque", xattr("user.below", "yes"))
	b.dir("types")
	for _, kind := range kinds {
		kind.add(b, "gone/"+kind.name)
		kind.add(b, "opaque/"+kind.name)
		for _, to := range kinds {
			kind.add(b, "types/"+kind.name+"-"+to.name)
		}
	}
	b.dir("opaque-removed")
	b.file("opaque-removed/below")
	b.dir("attributes-only", mode(0o700))
	b.file("attributes-only/kept")
	b.dir("kept-attributes", mode(0o711), owner(5, 6), xattr("user.kept", "yes"), at(1_000_000_000, 0))
	b.file("kept-attributes/below")
	b.file("zeros", at(0, 0))
}

// kinds are the types that an entry can have.
var kinds = []struct {
	name string
	add  func(b *tarball, name string)
}{
	{"file", func(b *tarball, name string) { b.file(name) }},
	{"empty", func(b *tarball, name string) { b.text(name, "") }},
	{"dir", func(b *tarball, name string) {
		b.dir(name)
		b.file(name + "/in")
		b.dir(name + "/deep")
		b.file(name + "/deep/er")
	}},
	{"symlink", func(b *tarball, name string) { b.symlink(name, "/nowhere/"+name) }},
	{"link", func(b *tarball, name string) { b.text(name+".first", name); b.link(name, name+".first") }},
	{"fifo", func(b *tarball, name string) { b.fifo(name) }},
	{"char", func(b *tarball, name string) { b.device(name, tar.TypeChar, 1, 3) }},
	{"block", func(b *tarball, name string) { b.device(name, tar.TypeBlock, 7, 200) }},
}

// oddAttributes has times, owners, modes, devices and extended attributes.
func oddAttributes(b *tarball) {
	b.dir("times")
	for _, sec := range []int64{-1 << 31, -1, 0, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 2<<32 + 77} {
		b.file(fmt.Sprintf("times/at%+d", sec), at(sec, 0))
		b.dir(fmt.Sprintf("times/dir%+d", sec), at(sec, 0))
	}
	b.file("times/nanosecond", at(1_234_567_890, 1))
	b.file("times/before-1970", at(-2, 250_000_000))
	b.symlink("times/symlink", "x", at(1, 999_999_999))
	b.dir("ids")
	for _, id := range []int{65534, 65536, 1 << 21, 1<<31 - 1, 1 << 31, 1<<32 - 2} {
		b.file(fmt.Sprintf("ids/file%d", id), owner(id, id-1))
		b.symlink(fmt.Sprintf("ids/symlink%d", id), "x", owner(id-1, id))
	}
	b.dir("modes")
	for _, m := range []int64{0, 0o111, 0o444, 0o1777, 0o2755, 0o4755, 0o7777} {
		b.file(fmt.Sprintf("modes/file%04o", m), mode(m))
		b.dir(fmt.Sprintf("modes/dir%04o", m), mode(m))
	}
	b.dir("devices")
	b.device("devices/null", tar.TypeChar, 1, 3, mode(0o666))
	b.device("devices/large", tar.TypeChar, 4095, 1<<20-1)
	b.device("devices/disk", tar.TypeBlock, 259, 70000)
	b.fifo("devices/fifo", mode(0o222), owner(70000, 70001))
	b.dir("xattrs", xattr("user.dir", "x"), xattr("security.capability", capability), xattr("trusted.overlay.note", "x"))
	b.file("xattrs/capability", xattr("security.capability", capability))
	b.file("xattrs/acl", mode(0o664), xattr("system.posix_acl_access", acl(6, 6, 4)))
	b.dir("xattrs/default-acl", xattr("system.posix_acl_default", acl(7, 5, 5)))
	b.file("xattrs/binary", xattr("user.bytes", "\x00\xff\n="), xattr("user.n\xe4me", "x"), xattr("trusted.t", "t"))
	var dozens []change
	for i := range 60 {
		dozens = append(dozens, xattr(fmt.Sprintf("user.number%02d", i), strings.Repeat("v", i+1)))
	}
	b.file("xattrs/dozens", dozens...)
	b.text("xattrs/large", "", xattr("user.large", strings.Repeat("large", 600)))
}

// capability is cap_net_bind_service+ep as VFS_CAP_REVISION_2 stores it.
const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// acl is the attribute of an access list: of the owner, a user 65537, the group, a mask
// and others.
func acl(owner, named, other byte) string {
	entry := func(tag, perm byte, id string) string { return string([]byte{tag, 0, perm, 0}) + id }
	const nobody, user = "\xff\xff\xff\xff", "\x01\x00\x01\x00"
	return "\x02\x00\x00\x00" + entry(1, owner, nobody) + entry(2, named, user) + entry(4, named, nobody) +
		entry(16, named, nobody) + entry(32, other, nobody)
}

// oddNames has names of every length and of any bytes, and paths as long as Linux
// takes them.
func oddNames(b *tarball) {
	b.dir("names")
	for _, name := range []string{
		"a b", "new\nline", "tab\t", `back\slash`, `"quoted"`, "-dash", "..two", "...", ".wh", "wh.", "~", "\x01\x7f",
		"gr\u00fc\u00df", "\u65e5\u672c\u8a9e", "latin\xfc", "\xff\xfe", "e\u0301", "\u00e9", "con", "a:b*?", strings.Repeat("n", 99),
		strings.Repeat("n", 100), strings.Repeat("n", 101), strings.Repeat("n", 255), strings.Repeat("\xc3\xa9", 127) + "\xc3", strings.Repeat("\xff", 255),
	} {
		b.text("names/"+name, name)
		b.symlink("names/to/"+name, name)
	}
	b.symlink("names/target", strings.Repeat("t/", 2000)+"\xff\xfe")
	deep := "names/deep"
	for len(deep) < 3800 {
		deep += "/" + strings.Repeat("d", 200)
	}
	b.text(deep+"/file", "deep")
	b.link("names/deep-link", deep+"/file")
}

// oddChanges removes, replaces and adds over oddBase.
func oddChanges(b *tarball) {
	for _, from := range kinds {
		b.whiteout("gone/" + from.name)
		for _, to := range kinds {
			to.add(b, "types/"+from.name+"-"+to.name)
		}
	}
	// Of nothing: in a directory that is there, in one that is not, and of what this
	// layer itself has.
	b.whiteout("gone/never-was")
	b.whiteout("never/was/anything")
	b.whiteout("never-at-all")
	b.file("gone/mine")
	b.whiteout("gone/mine")
	for i := range manyEntries / 2 {
		b.whiteout(fmt.Sprintf("many/%04d", 2*i))
	}
	b.file("opaque/before")
	b.opaque("opaque")
	b.file("opaque/after")
	b.file("opaque/dir/mine")
	b.opaque("opaque-removed")
	b.opaque("opaque-of-nothing")
	b.file("opaque-of-nothing/file")
	b.link("links/third", "links/first")          // a file of the lower layer
	b.link("links/sym-third", "links/sym-second") // a symbolic link of it
	b.link("links/fifo-third", "links/fifo")      // no regular file
	b.link("links/removed-third", "links/removed-first")
	b.whiteout("links/removed-first")
	b.dir("attributes-only", mode(0o755), owner(1, 2), at(5, 0))
	b.file("kept-attributes/above")
	b.file("through/symlink")
	b.text("zeros", string(make([]byte, 3<<20)), at(0, 0))
}

// oddEmpty has no entries.
func oddEmpty(*tarball) {}

// oddAgain brings back what was removed, and removes what came.
func oddAgain(b *tarball) {
	for i, kind := range kinds {
		kinds[len(kinds)-1-i].add(b, "gone/"+kind.name)
	}
	b.opaque("opaque")
	b.dir("opaque")
	b.whiteout("through")
	b.dir("through")
	b.file("through/dir")
	b.whiteout("links/third")
	b.text("links/first", "changed", owner(7, 8)) // its other names stay as they are
	b.link("links/fourth", "links/second")
	b.whiteout("implied/by")
	b.file("implied/again")
	b.whiteout("names/deep")
	b.opaque("attributes-only")
	b.text("many/0001", "changed")
	b.link("many/0002", "many/0003")
}

// oddGNU is a layer that GNU tar makes of a tree at dir, with files that have holes.
func oddGNU(dir, format string) ([]byte, error) {
	defer func() { _ = os.RemoveAll(dir) }()
	long := strings.Repeat("long/", 60) + strings.Repeat("l", 150)
	if err := os.MkdirAll(filepath.Join(dir, format, filepath.Dir(long)), 0o755); err != nil {
		return nil, err
	}
	holes := []struct {
		name string
		size int64
		data []int64 // offsets of a word
	}{
		{"all-hole", 5 << 20, nil},
		{"word-at-end", 9 << 20, []int64{9<<20 - 4}},
		{"many-holes", 4 << 20, every(100<<10, 4<<20)},
		{"large", 60 << 20, []int64{1 << 20, 50<<20 + 5}},
		{long, 1 << 20, []int64{4096}},
	}
	for _, h := range holes {
		if err := sparseFile(filepath.Join(dir, format, h.name), h.size, h.data); err != nil {
			return nil, err
		}
	}
	err := first(
		func() error {
			return os.Link(filepath.Join(dir, format, long), filepath.Join(dir, format, "link-to-long"))
		},
		func() error { return os.Symlink(long, filepath.Join(dir, format, "symlink-to-long")) },
	)
	if err != nil {
		return nil, err
	}
	return exec.Command(testenv.Program("tar"), "--format="+format, "--sparse", "--xattrs", "--sort=name", "--numeric-owner", "--owner=12", "--group=34",
		"--mtime=@1600000000.5", "--pax-option=delete=atime,delete=ctime,exthdr.name=%d/x/%f", "-C", dir, "-cf", "-", format).Output()
}

func every(step, end int64) (offs []int64) {
	for off := int64(0); off < end; off += step {
		offs = append(offs, off)
	}
	return slices.Clip(offs)
}

func sparseFile(path string, size int64, data []int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, off := range data {
		if _, err := f.WriteAt([]byte("word"), off); err != nil {
			return err
		}
	}
	return f.Truncate(size)
}
