package imagefs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/imagefs"
	"vrafs/fusesrv/mountfs"
	"vrafs/internal/bootload"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// find follows names from the root.
func find(t testing.TB, c fusesrvtest.Caller, names ...string) fusesrv.EntryOut {
	t.Helper()
	e := fusesrv.EntryOut{NodeID: fusesrv.RootID}
	for _, name := range names {
		var err error
		if e, err = fusesrvtest.Lookup(c, e.NodeID, name); err != nil || e.NodeID == 0 {
			t.Fatalf("lookup %v: node %d, %v", names, e.NodeID, err)
		}
	}
	return e
}

const forever = 1 << 32

func TestAnswersAreThoseOfNydusd(t *testing.T) {
	for _, v := range []rafs.Version{rafs.V5, rafs.V6} {
		t.Run(string('0'+rune(v)), func(t *testing.T) {
			s, d := serve(t, v, fusesrvtest.StackOptions{Image: imagefs.Options{Generation: 77}})
			root, err := fusesrvtest.Getattr(d, fusesrv.RootID)
			if err != nil || root.Attr.Mode != 0o40755 || root.Attr.Mtime == 0 || root.Attr.Blksize != 4096 || root.AttrValid < forever {
				t.Errorf("root: got %+v, %v", root, err)
			}
			e := find(t, d, "kinds", "one-byte")
			if e.Generation != 77 || e.EntryValid < forever || e.AttrValid < forever || e.NodeID != e.Attr.Ino ||
				e.Attr.Nlink != 1 || e.Attr.Atime != e.Attr.Mtime || e.Attr.Ctime != e.Attr.Mtime || e.Attr.Blocks != 1 {
				t.Errorf("entry: got %+v", e)
			}
			if _, err := fusesrvtest.Lookup(d, fusesrv.RootID, "none"); err != syscall.ENOENT {
				t.Errorf("missing name in the root, where mountpoints may come: got %v, want ENOENT", err)
			}
			if none, err := fusesrvtest.Lookup(d, find(t, d, "kinds").NodeID, "none"); err != nil || none.NodeID != 0 || none.EntryValid < forever {
				t.Errorf("missing name: got %+v, %v", none, err)
			}
			statfs, err := d.Call(fusesrv.OpStatfs, e.NodeID, nil, 80)
			want := fusesrvtest.Args(t, fusesrv.StatfsOut{Bsize: 512, Namelen: 255})
			if err != nil || !bytes.Equal(statfs, want) {
				t.Errorf("statfs: got %x, %v, want %x", statfs, err, want)
			}
			o, err := fusesrvtest.Open(d, fusesrv.OpOpen, e.NodeID, 0)
			if err != nil || o.FH != 0 || o.OpenFlags != fusesrv.OpenKeepCache|fusesrv.OpenNoFlush {
				t.Errorf("open: got %+v, %v", o, err)
			}
			o, err = fusesrvtest.Open(d, fusesrv.OpOpendir, fusesrv.RootID, 0)
			if err != nil || o.OpenFlags != fusesrv.OpenKeepCache|fusesrv.OpenCacheDir {
				t.Errorf("opendir: got %+v, %v", o, err)
			}
			for _, flags := range []uint32{syscall.O_WRONLY, syscall.O_RDWR, syscall.O_RDONLY | syscall.O_TRUNC} {
				if _, err := fusesrvtest.Open(d, fusesrv.OpOpen, e.NodeID, flags); err != syscall.EROFS {
					t.Errorf("open with flags %#x: got %v, want EROFS", flags, err)
				}
			}
			if up := find(t, d, "kinds", ".."); up.NodeID != fusesrv.RootID {
				t.Errorf(`lookup of ".." below the root: got node %d`, up.NodeID)
			}
			if s.Images.Root() == fusesrv.RootID {
				return
			}
			if _, err := fusesrvtest.Getattr(d, s.Images.Root()); err != syscall.ESTALE {
				t.Errorf("the root by its other id: got %v, want ESTALE", err)
			}
		})
	}
}

// serve serves a small image.
func serve(t testing.TB, v rafs.Version, o fusesrvtest.StackOptions) (*fusesrvtest.Stack, *fusesrvtest.Direct) {
	t.Helper()
	s := fusesrvtest.Serve(t, small(t, testimage.Options{Version: v, Compressor: rafs.CompressorLZ4}), o)
	return s, s.Start(t)
}

func TestErrors(t *testing.T) {
	_, d := serve(t, rafs.V6, fusesrvtest.StackOptions{})
	dir, file, link := find(t, d, "kinds").NodeID, find(t, d, "kinds", "one-byte").NodeID, find(t, d, "kinds", "link").NodeID
	a := func(parts ...any) []byte { return fusesrvtest.Args(t, parts...) }
	read := a(fusesrv.ReadIn{Size: 100})
	tests := []struct {
		name string
		op   fusesrv.Opcode
		node uint64
		args []byte
		want syscall.Errno
	}{
		{"read a directory", fusesrv.OpRead, dir, read, syscall.EISDIR},
		{"list a file", fusesrv.OpReaddir, file, read, syscall.ENOTDIR},
		{"open a directory as a file", fusesrv.OpOpen, dir, a(fusesrv.OpenIn{}), syscall.EISDIR},
		{"open a symlink", fusesrv.OpOpen, link, a(fusesrv.OpenIn{}), syscall.EINVAL},
		{"open a file as a directory", fusesrv.OpOpendir, file, a(fusesrv.OpenIn{}), syscall.ENOTDIR},
		{"look up below a file", fusesrv.OpLookup, file, a("x"), syscall.ENOTDIR},
		{"look up no name", fusesrv.OpLookup, dir, a(""), syscall.EINVAL},
		{"look up a path", fusesrv.OpLookup, dir, a("a/b"), syscall.EINVAL},
		{"look up a name without end", fusesrv.OpLookup, dir, []byte("abc"), syscall.EINVAL},
		{"look up a long name", fusesrv.OpLookup, dir, a(string(make256())), syscall.ENAMETOOLONG},
		{"read a link that is none", fusesrv.OpReadlink, file, nil, syscall.EINVAL},
		{"unknown node", fusesrv.OpGetattr, 1<<39 - 1, a(fusesrv.GetattrIn{}), syscall.ESTALE},
		{"node of a mount that is not there", fusesrv.OpGetattr, 7<<40 | file, a(fusesrv.GetattrIn{}), syscall.ESTALE},
		{"xattr that is not there", fusesrv.OpGetxattr, file, a(fusesrv.GetxattrIn{Size: 9}, "user.none"), syscall.ENODATA},
		{"xattr without room", fusesrv.OpGetxattr, find(t, d, "xattrs", "large").NodeID, a(fusesrv.GetxattrIn{Size: 9}, "user.large"), syscall.ERANGE},
		{"write", fusesrv.OpWrite, file, a(fusesrv.WriteIn{Size: 1}, []byte("x")), syscall.EROFS},
		{"make a directory", fusesrv.OpMkdir, dir, a(fusesrv.MkdirIn{}, "x"), syscall.EROFS},
		{"remove a name", fusesrv.OpUnlink, dir, a("one-byte"), syscall.EROFS},
		{"change attributes", fusesrv.OpSetattr, file, a(fusesrv.SetattrIn{}), syscall.EROFS},
		{"set an xattr", fusesrv.OpSetxattr, file, a(fusesrv.GetxattrIn{Size: 1}, "user.x", []byte("y")), syscall.EROFS},
		{"ioctl", fusesrv.OpIoctl, file, a(fusesrv.IoctlIn{}), syscall.ENOTTY},
		{"seek to data behind the end", fusesrv.OpLseek, file, a(fusesrv.LseekIn{Offset: 1, Whence: fusesrv.SeekData}), syscall.ENXIO},
		{"seek by another rule", fusesrv.OpLseek, file, a(fusesrv.LseekIn{}), syscall.EINVAL},
		{"entry that does not fit", fusesrv.OpReaddir, dir, a(fusesrv.ReadIn{Size: 20}), syscall.EINVAL},
	}
	for _, tt := range tests {
		if _, err := d.Call(tt.op, tt.node, tt.args, 300); err != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

func make256() []byte { return bytes.Repeat([]byte("n"), 256) }

func TestListingsGoOnAtAnyCookie(t *testing.T) {
	for _, v := range []rafs.Version{rafs.V5, rafs.V6} {
		_, d := serve(t, v, fusesrvtest.StackOptions{})
		dir := find(t, d, "names").NodeID
		whole, err := fusesrvtest.List(d, true, dir, 1<<20)
		if err != nil || len(whole) < 20 || whole[0].Name != "." || whole[1].Name != ".." {
			t.Fatalf("%v: got %d entries, %v", v, len(whole), err)
		}
		for i, e := range whole {
			if dots := i < 2; dots != (e.Entry.NodeID == 0) {
				t.Errorf("%v: %q has node %d", v, e.Name, e.Entry.NodeID)
			}
			for _, plus := range []bool{true, false} {
				rest, err := fusesrvtest.Readdir(d, plus, dir, 0, e.Next, 1<<20)
				if err != nil || len(rest) != len(whole)-i-1 || len(rest) > 0 && rest[0].Name != whole[i+1].Name {
					t.Fatalf("%v: after %q: got %d entries, %v, want %d", v, e.Name, len(rest), err, len(whole)-i-1)
				}
			}
		}
	}
}

func TestReadsAreClampedToTheFile(t *testing.T) {
	s, d := serve(t, rafs.V6, fusesrvtest.StackOptions{})
	s.Warm(t, d)
	e := find(t, d, "xattrs", "large")
	size := e.Attr.Size
	tests := []struct {
		off  uint64
		n    int
		want uint64
	}{
		{0, 1, 1}, {0, 1 << 20, size}, {size - 1, 10, 1}, {size, 10, 0}, {size + 1, 10, 0}, {1<<64 - 1, 10, 0}, {3, 0, 0},
	}
	for _, tt := range tests {
		b, err := fusesrvtest.Read(d, e.NodeID, 0, tt.off, tt.n)
		if err != nil || uint64(len(b)) != tt.want {
			t.Errorf("%d bytes at %d of %d: got %d, %v, want %d", tt.n, tt.off, size, len(b), err, tt.want)
		}
	}
	b, err := d.Call(fusesrv.OpLseek, e.NodeID, fusesrvtest.Args(t, fusesrv.LseekIn{Offset: 2, Whence: fusesrv.SeekHole}), 8)
	if err != nil || !bytes.Equal(b, fusesrvtest.Args(t, fusesrv.LseekOut{Offset: size})) {
		t.Errorf("SEEK_HOLE: got %x, %v, want the file's end", b, err)
	}
}

func TestStatxSaysWhatGetattrSays(t *testing.T) {
	_, d := serve(t, rafs.V6, fusesrvtest.StackOptions{})
	for _, name := range []string{"char-large-numbers", "one-byte", "link"} {
		e := find(t, d, "kinds", name)
		b, err := d.Call(fusesrv.OpStatx, e.NodeID, fusesrvtest.Args(t, fusesrv.StatxIn{Mask: 0xfff}), 288)
		want := fusesrv.StatxOut{AttrValid: e.AttrValid, Statx: e.Attr.Statx(0x7ff)}
		if err != nil || !bytes.Equal(b, fusesrvtest.Args(t, want)) {
			t.Errorf("%s: got %x, %v, want %+v", name, b, err, want)
		}
		if name == "char-large-numbers" && (want.Statx.RdevMajor != 4095 || want.Statx.RdevMinor != 1048575) {
			t.Errorf("device %d:%d, want 4095:1048575", want.Statx.RdevMajor, want.Statx.RdevMinor)
		}
	}
}

func TestImageWithoutXattrs(t *testing.T) {
	testenv.Need(t, testenv.Root)
	o := testtree.Small(4)
	o.NoXattrs = true
	im := testimage.Make(t, testimage.Options{Version: rafs.V6, Tree: o})
	getxattr := fusesrvtest.Args(t, fusesrv.GetxattrIn{}, "security.capability")
	for _, tt := range []struct {
		name string
		o    fusesrvtest.StackOptions
		want syscall.Errno
	}{
		{"images only", fusesrvtest.StackOptions{Tree: mountfs.Options{ImagesOnly: true}}, syscall.ENOSYS},
		{"enable_xattr", fusesrvtest.StackOptions{Tree: mountfs.Options{ImagesOnly: true}, Image: imagefs.Options{Xattr: true}}, syscall.ENODATA},
		{"any connection", fusesrvtest.StackOptions{}, syscall.ENODATA},
	} {
		s := fusesrvtest.Serve(t, im, tt.o)
		if _, err := s.Start(t).Call(fusesrv.OpGetxattr, fusesrv.RootID, getxattr, 8); err != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestValidateFindsChangedInodes(t *testing.T) {
	im := small(t, testimage.Options{Version: rafs.V5})
	s := fusesrvtest.Serve(t, im, fusesrvtest.StackOptions{Image: imagefs.Options{Validate: true}})
	compare(t, im, s.Start(t), 4)

	// One bit of a symlink's target, behind its inode.
	b, err := os.ReadFile(im.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte("../kinds/./nowhere"))
	if at < 0 {
		t.Fatal("no target in the bootstrap")
	}
	b[at] ^= 1
	changed := *im
	changed.Bootstrap = filepath.Join(t.TempDir(), "changed")
	if err := os.WriteFile(changed.Bootstrap, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, validate := range []bool{false, true} {
		s := fusesrvtest.Serve(t, &changed, fusesrvtest.StackOptions{Image: imagefs.Options{Validate: validate}})
		d := s.Start(t)
		_, err := fusesrvtest.Lookup(d, fusesrv.RootID, "kinds")
		if (err != nil) != validate || validate && err != syscall.EIO {
			t.Errorf("validate %v: the directory of the changed link: got %v", validate, err)
		}
	}
}

func TestValidateIsRefusedWithoutDigests(t *testing.T) {
	im := small(t, testimage.Options{Version: rafs.V6})
	boot, err := bootload.Open(opener.Local(), im.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = boot.Close() }()
	if _, err := imagefs.New(boot.Image, boot.Bytes(), nil, imagefs.Options{Validate: true}); !errors.Is(err, imagefs.ErrUnsupported) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
}
