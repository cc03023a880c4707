package testtree

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func (g *generator) makeKinds() {
	g.dir("kinds")
	g.dir("kinds", "empty-dir")
	g.file(nil, "kinds", "empty")
	g.file([]byte("x"), "kinds", "one-byte")
	g.node(unix.S_IFIFO|0o644, 0, "kinds", "fifo")
	if !g.o.TarSafe {
		g.node(unix.S_IFSOCK|0o755, 0, "kinds", "socket")
	}
	g.symlink("empty", "kinds", "link")
	g.symlink("../kinds/./nowhere", "kinds", "dangling")
	g.symlink("/etc/passwd", "kinds", "absolute")
	g.symlink(strings.Repeat("s/", 500), "kinds", "long-target")
	g.symlink(strings.Repeat("t", 4095), "kinds", "longest-target")
	g.symlink("ziel-\xc3\xa4-\xff", "kinds", "odd-target")
	if g.o.Unprivileged {
		return
	}
	g.node(unix.S_IFCHR|0o666, unix.Mkdev(1, 3), "kinds", "char")
	g.node(unix.S_IFCHR|0o600, unix.Mkdev(4095, 1048575), "kinds", "char-large-numbers")
	g.node(unix.S_IFBLK|0o660, unix.Mkdev(8, 1), "kinds", "block")
	g.node(unix.S_IFBLK|0o660, unix.Mkdev(259, 300), "kinds", "block-large-minor")
}

// oddNames are file names that tools get wrong. None starts with .wh., which
// layers read as a deletion.
var oddNames = []string{
	strings.Repeat("n", 255), strings.Repeat("n", 254), strings.Repeat("é", 127) + "x",
	"größe", "日本語のファイル名", "emoji-🐧", "Ω≈ç√∫", "e\u0301-combining", "é-composed",
	"\xff\xfe-not-utf8", "latin1-\xe4\xf6\xfc", strings.Repeat("\x80", 255), "\xc3", "\xed\xa0\x80-surrogate",
	" leading", "trailing ", "two  spaces", "tab\there", "new\nline", "return\rhere", "bell\a", "\x01\x02\x7f",
	"-rf", "--help", "*", "?", "[a-z]", "$HOME", "`id`", "a;b", "a&b", "a|b", "a>b", "'quote'", "\"double\"", "back\\slash",
	"\\x41", "%s%n%00", "#hash", "~", "...", "..hidden", ".hidden", "a:b", "CON", "nul.txt", "a", "A", "aa", "a.", "a.b", "a-b", "a0",
	"lost+found", ".git", "Makefile~", "{}", "!", "@", "=", "+", ",", "^",
}

func (g *generator) makeNames() {
	g.dir("names")
	for i, name := range oddNames {
		switch i % 4 {
		case 0:
			g.dir("names", name)
			g.file([]byte(name), "names", name, "inside")
		case 1:
			g.symlink(name, "names", name)
		default:
			g.file([]byte(name), "names", name)
		}
	}
}

// posixACL encodes an access control list as the kernel stores it in
// system.posix_acl_*: version 2, then (tag, perm, id) entries.
func posixACL(entries ...[3]uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return b
}

// fileCapability encodes security.capability, revision 2: cap_net_raw effective.
func fileCapability() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0x02000001)
	for _, v := range []uint32{1 << 13, 0, 0, 0} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

func (g *generator) makeXattrs() {
	const none = 0xffffffff
	g.dir("xattrs")
	f := g.file([]byte("user attributes"), "xattrs", "user")
	g.xattr(f, "user.name", []byte("value"))
	g.xattr(f, "user.empty", nil)
	g.xattr(f, "user.binary", []byte{0, 1, 2, 0xff, 0, '\n'})
	g.xattr(f, "user."+strings.Repeat("k", 250), []byte("longest name"))
	g.xattr(g.file([]byte("large"), "xattrs", "large"), "user.large", g.content(3000))
	many := g.file([]byte("many"), "xattrs", "many")
	for i := range 40 {
		g.xattr(many, fmt.Sprintf("user.key%02d", i), fmt.Appendf(nil, "value %d", i))
	}
	for i := range 30 { // equal sets: a builder may share them
		g.xattr(g.file([]byte{byte(i)}, "xattrs", fmt.Sprintf("shared%02d", i)), "user.shared", []byte("the same value in thirty files"))
	}
	g.xattr(g.dir("xattrs", "dir"), "user.on-directory", []byte("yes"))
	if g.o.Unprivileged {
		return
	}
	g.xattr(g.file([]byte("capability"), "xattrs", "capability"), "security.capability", fileCapability())
	g.xattr(g.file([]byte("trusted"), "xattrs", "trusted"), "trusted.vrafs", []byte("only root sees this"))
	g.xattr(g.file([]byte("security"), "xattrs", "security"), "security.vrafs", []byte("label"))
	// ACL_USER_OBJ 1, ACL_USER 2, ACL_GROUP_OBJ 4, ACL_MASK 16, ACL_OTHER 32.
	acl := posixACL([3]uint32{1, 6, none}, [3]uint32{2, 4, 1000}, [3]uint32{2, 7, 70000}, [3]uint32{4, 4, none}, [3]uint32{16, 7, none}, [3]uint32{32, 4, none})
	g.xattr(g.file([]byte("acl"), "xattrs", "acl"), "system.posix_acl_access", acl)
	d := g.dir("xattrs", "acl-dir")
	g.xattr(d, "system.posix_acl_access", acl)
	g.xattr(d, "system.posix_acl_default", acl)
	g.node(unix.S_IFIFO|0o600, 0, "xattrs", "fifo")
	g.xattr(g.path("xattrs", "fifo"), "trusted.on-fifo", []byte("f"))
	g.symlink("user", "xattrs", "link")
	g.xattr(g.path("xattrs", "link"), "trusted.on-link", []byte("l"))
}

func (g *generator) makeLinks() {
	g.dir("links")
	g.dir("links", "a")
	g.dir("links", "b")
	first := g.file([]byte("linked in one directory"), "links", "a", "first")
	g.hardlink(first, "links", "a", "second")
	across := g.file(g.content(70_000), "links", "b", "across")
	g.hardlink(across, "links", "a", "across")
	g.hardlink(across, "links", "across")
	empty := g.file(nil, "links", "b", "empty")
	g.hardlink(empty, "links", "a", "empty")
	crowd := g.file([]byte("one of many"), "links", "crowd-000")
	for i := 1; i < 100; i++ {
		g.hardlink(crowd, "links", fmt.Sprintf("crowd-%03d", i))
	}
	g.symlink("first", "links", "a", "soft")
	g.hardlink(g.path("links", "a", "soft"), "links", "b", "soft-too")
	g.hardlink(g.path("kinds", "fifo"), "links", "fifo")
	named := g.file([]byte("attributes and links"), "links", "attr")
	g.xattr(named, "user.linked", []byte("once"))
	g.hardlink(named, "links", "b", "attr")
}

// makeSizes makes files around every border a chunk, block or page has.
func (g *generator) makeSizes() {
	g.dir("sizes")
	for _, base := range []int{512, 4096, 8192, 65536, 128 << 10, 1 << 20, 2 << 20} {
		for _, d := range []int{-1, 0, 1} {
			g.file(g.content(base+d), "sizes", fmt.Sprintf("%07d", base+d))
		}
	}
	g.file(g.content(3<<20+12345), "sizes", "several-chunks")
	zeros := make([]byte, 1<<20+4096)
	g.file(zeros, "sizes", "zeros")
	zeros[1<<20] = 1
	g.file(zeros, "sizes", "zeros-but-one")
}

// sparseFile makes a file of the given size with data at the given offsets only.
func (g *generator) sparseFile(size int64, offsets []int64, parts ...string) {
	p := g.file(nil, parts...)
	if g.err != nil {
		return
	}
	f, err := os.OpenFile(p, os.O_WRONLY, 0)
	if err != nil {
		g.check(err)
		return
	}
	defer func() { g.check(f.Close()) }()
	g.check(f.Truncate(size))
	for _, off := range offsets {
		if _, err := f.WriteAt(g.content(5000), off); err != nil {
			g.check(err)
		}
	}
	g.setTime(p, g.someTime(), 1)
}

func (g *generator) makeSparse() {
	g.dir("sparse")
	g.sparseFile(3<<20, nil, "sparse", "only-hole")
	g.sparseFile(5<<20+17, []int64{0, 2<<20 - 2500, 5<<20 + 17 - 5000}, "sparse", "islands")
	g.sparseFile(2<<20, []int64{1 << 20}, "sparse", "middle")
	if g.o.HugeSparse {
		const gib = 1 << 30
		g.sparseFile(4*gib+3<<20+99, []int64{0, gib + 777, 4*gib - 2500, 4*gib + 1<<20}, "sparse", "huge")
	}
}

func (g *generator) makeModes() {
	g.dir("modes")
	for _, mode := range []uint32{0, 0o001, 0o020, 0o400, 0o111, 0o222, 0o444, 0o777, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777, 0o7000} {
		p := g.file(fmt.Appendf(nil, "%o", mode), "modes", fmt.Sprintf("f%04o", mode))
		g.finish(p, mode, 0, 0)
		d := g.dir("modes", fmt.Sprintf("d%04o", mode))
		if g.err == nil && (!g.o.Unprivileged || mode&0o500 == 0o500) {
			g.check(unix.Chmod(d, mode))
		}
	}
}

func (g *generator) makeOwners() {
	if g.o.Unprivileged {
		return
	}
	g.dir("owners")
	for i, id := range []int{1, 1000, 65534, 65535, 65536, 70000, 1 << 24, 1<<31 - 1, 1 << 31, 1<<32 - 2} {
		p := g.file([]byte{byte(i)}, "owners", fmt.Sprintf("uid-%d", id))
		g.finish(p, 0o640, id, 7)
		p = g.file([]byte{byte(i)}, "owners", fmt.Sprintf("gid-%d", id))
		g.finish(p, 0o604, 7, id)
		d := g.dir("owners", fmt.Sprintf("dir-%d", id))
		if g.err == nil {
			g.check(unix.Lchown(d, id, id))
		}
	}
}

// makeTimes stays within what ext4 stores: 1901 to 2446.
func (g *generator) makeTimes() {
	g.dir("times")
	for _, t := range []struct {
		name      string
		sec, nsec int64
	}{
		{"epoch", 0, 0}, {"epoch-nsec", 0, 1}, {"before-epoch", -1, 999_999_999}, {"1950", -631_152_000, 5},
		{"1902", -2_145_916_800, 0}, {"2038-last", 1<<31 - 1, 999_999_999}, {"2038-after", 1 << 31, 0},
		{"2106-last", 1<<32 - 1, 1}, {"2106-after", 1 << 32, 500_000_000}, {"2400", 13_569_465_600, 42}, {"nsec", 1_600_000_000, 999_999_999},
	} {
		g.setTime(g.file([]byte(t.name), "times", t.name), t.sec, t.nsec)
		g.symlink(t.name, "times", t.name+"-link")
		g.setTime(g.path("times", t.name+"-link"), t.sec, t.nsec)
	}
}

func (g *generator) makeDuplicates() {
	g.dir("duplicates")
	same := g.content(1<<20 + 300_000)
	for i := range 4 {
		g.file(same, "duplicates", fmt.Sprintf("same%d", i))
	}
	same[len(same)-1]++
	g.file(same, "duplicates", "last-byte-differs")
	same[0]++
	g.file(same, "duplicates", "first-byte-differs")
}

func (g *generator) makeDeep() {
	parts := []string{"deep"}
	g.dir(parts...)
	for i := range 60 {
		parts = append(parts, fmt.Sprintf("level-%02d-%s", i, strings.Repeat("d", i%40)))
		g.dir(parts...)
	}
	g.file([]byte("the bottom"), append(parts, "bottom")...)
}

func (g *generator) makeBigDir() {
	g.dir("big")
	for i := range g.o.BigDir {
		name := fmt.Sprintf("entry-%05d%s", i, strings.Repeat("x", g.rng.IntN(60)))
		switch i % 5 {
		case 0:
			g.file(fmt.Appendf(nil, "%d", i), "big", name)
		case 1:
			g.symlink("entry", "big", name)
		default:
			g.file(nil, "big", name)
		}
	}
}

// makeRandom fills up to the wanted number of names with ordinary directories.
func (g *generator) makeRandom() {
	g.dir("random")
	dirs := [][]string{{"random"}}
	for n := 0; g.names < g.o.Entries && g.err == nil; n++ {
		parent := dirs[g.rng.IntN(len(dirs))]
		at := append(append([]string{}, parent...), fmt.Sprintf("%c%05d", 'a'+rune(g.rng.IntN(26)), n))
		switch k := g.rng.IntN(100); {
		case k < 10 && len(at) < 12:
			g.dir(at...)
			dirs = append(dirs, at)
		case k < 20:
			g.symlink("../x", at...)
		case k < 22:
			g.node(unix.S_IFIFO|0o600, 0, at...)
		case k < 90 || g.data >= g.o.DataBytes:
			g.finish(g.file(g.content(g.rng.IntN(3000)), at...), 0o600|uint32(g.rng.IntN(0o100)), g.rng.IntN(3)*1000, 0)
		default:
			g.file(g.content(g.rng.IntN(200_000)), at...)
		}
	}
}
