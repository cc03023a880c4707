package passthrough_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/passthrough"
	"vrafs/internal/testenv"
)

// TestFilesAreTheirCallers makes things as a user of the guest, with modes that this
// process's umask would change.
func TestFilesAreTheirCallers(t *testing.T) {
	testenv.Need(t, testenv.Root)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { // only its owner may write: the guest's kernel decides, not the host's
		t.Fatal(err)
	}
	c := client(t, serve(t, dir, 0, passthrough.Options{}))
	c.Tweak = func(h *fusesrv.InHeader) { h.UID, h.GID = 1234, 5678 }
	var got []fusesrv.EntryOut
	o, err := fusesrvtest.Create(c, fusesrv.RootID, "file", unix.O_RDWR, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, o.Entry)
	for _, make := range []func() (fusesrv.EntryOut, error){
		func() (fusesrv.EntryOut, error) { return fusesrvtest.Mkdir(c, fusesrv.RootID, "dir", 0o1777) },
		func() (fusesrv.EntryOut, error) {
			return fusesrvtest.Mknod(c, fusesrv.RootID, "pipe", unix.S_IFIFO|0o622, 0)
		},
		func() (fusesrv.EntryOut, error) { return fusesrvtest.Symlink(c, fusesrv.RootID, "link", "target") },
	} {
		e, err := make()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	for i, mode := range []uint32{unix.S_IFREG | 0o666, unix.S_IFDIR | 0o1777, unix.S_IFIFO | 0o622, unix.S_IFLNK | 0o777} {
		if a := got[i].Attr; a.UID != 1234 || a.GID != 5678 || a.Mode != mode {
			t.Errorf("mode %o of %d:%d, want %o of 1234:5678", a.Mode, a.UID, a.GID, mode)
		}
	}
	// Below a set-group-id directory the group is the directory's.
	if err := errors.Join(os.Chown(filepath.Join(dir, "dir"), 0, 42), os.Chmod(filepath.Join(dir, "dir"), os.ModeSetgid|0o777)); err != nil {
		t.Fatal(err)
	}
	if o, err := fusesrvtest.Create(c, got[1].NodeID, "inside", unix.O_RDWR, 0o644); err != nil || o.Entry.Attr.UID != 1234 || o.Entry.Attr.GID != 42 {
		t.Errorf("%d:%d, %v", o.Entry.Attr.UID, o.Entry.Attr.GID, err)
	}
	// The thread is ours again.
	c.Tweak = nil
	if o, err := fusesrvtest.Create(c, fusesrv.RootID, "ours", unix.O_RDWR, 0o600); err != nil || o.Entry.Attr.UID != 0 || o.Entry.Attr.GID != 0 {
		t.Errorf("%d:%d, %v", o.Entry.Attr.UID, o.Entry.Attr.GID, err)
	}
	c.Tweak = func(h *fusesrv.InHeader) { h.UID = ^uint32(0) }
	if _, err := fusesrvtest.Mkdir(c, fusesrv.RootID, "nobody's", 0o755); !errors.Is(err, unix.EOVERFLOW) {
		t.Errorf("made by a user without a number: %v", err)
	}
}

// TestWritersTakeSetIDBits writes, truncates and opens as a guest says that has left the
// bits to the server.
func TestWritersTakeSetIDBits(t *testing.T) {
	testenv.Need(t, testenv.Root)
	dir := t.TempDir()
	c := client(t, serve(t, dir, 0, passthrough.Options{}))
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("text"), 0o755); err != nil {
		t.Fatal(err)
	}
	e, err := fusesrvtest.Lookup(c, fusesrv.RootID, "file")
	if err != nil {
		t.Fatal(err)
	}
	o, err := fusesrvtest.Open(c, fusesrv.OpOpen, e.NodeID, unix.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	write := func(flags uint32) error {
		_, err := fusesrvtest.Write(c, e.NodeID, fusesrv.WriteIn{FH: o.FH, WriteFlags: flags}, []byte("x"))
		return err
	}
	size := func(valid uint32, n uint64) error {
		_, err := fusesrvtest.Setattr(c, e.NodeID, fusesrv.SetattrIn{Valid: fusesrv.FattrSize | valid, Size: n})
		return err
	}
	for _, tt := range []struct {
		name string
		do   func() error
		kept bool
	}{
		{"write", func() error { return write(0) }, true},
		{"write_killing", func() error { return write(fusesrv.WriteKillSuidgid) }, false},
		{"truncate", func() error { return size(0, 2) }, true},
		{"truncate_killing", func() error { return size(fusesrv.FattrKillSuidgid, 1) }, false},
		{"open_killing", func() error {
			in := fusesrv.OpenIn{Flags: unix.O_RDWR | unix.O_TRUNC, OpenFlags: fusesrv.OpenKillSuidgid}
			_, err := c.Call(fusesrv.OpOpen, e.NodeID, fusesrvtest.Args(t, in), 16)
			return err
		}, false},
	} {
		if err := unix.Chmod(path, 0o6755); err != nil {
			t.Fatal(err)
		}
		err := tt.do()
		var st unix.Stat_t
		if e := unix.Stat(path, &st); e != nil {
			t.Fatal(e)
		}
		if kept := st.Mode&0o6000 != 0; kept != tt.kept || err != nil {
			t.Errorf("%s: mode %o, %v", tt.name, st.Mode&0o7777, err)
		}
	}
}

// TestMountsComeAndGo mounts below the shared directory while it is served.
func TestMountsComeAndGo(t *testing.T) {
	testenv.Need(t, testenv.Root)
	dir, fds := t.TempDir(), passthrough.NewDescriptors(10_000)
	at, file := filepath.Join(dir, "volume"), filepath.Join(dir, "file")
	if err := errors.Join(os.Mkdir(at, 0o755), os.WriteFile(file, []byte("below"), 0o644)); err != nil {
		t.Fatal(err)
	}
	c := client(t, serve(t, dir, 0, passthrough.Options{Descriptors: fds}))
	below, err := fusesrvtest.Lookup(c, fusesrv.RootID, "volume")
	if err != nil {
		t.Fatal(err)
	}
	used := fds.Used()
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	over, err := fusesrvtest.Lookup(c, fusesrv.RootID, "volume")
	if err != nil || over.NodeID == below.NodeID || over.Attr.Ino == below.Attr.Ino {
		t.Fatalf("node %d inode %#x, below it node %d inode %#x, %v", over.NodeID, over.Attr.Ino, below.NodeID, below.Attr.Ino, err)
	}
	if _, err := fusesrvtest.Mkdir(c, over.NodeID, "inside", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := fusesrvtest.Mkdir(c, over.NodeID, "refused", 0o755); !errors.Is(err, unix.EROFS) {
		t.Errorf("made in what is read-only: %v", err)
	}
	if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if e, err := fusesrvtest.Lookup(c, over.NodeID, "inside"); err != nil {
		t.Errorf("in a mount that is gone, and held: %v", err)
	} else if err := fusesrvtest.Forget(c, e.NodeID, 2); err != nil { // Mkdir and Lookup
		t.Fatal(err)
	}
	if e, err := fusesrvtest.Lookup(c, fusesrv.RootID, "volume"); err != nil || e.NodeID != below.NodeID {
		t.Errorf("node %d without the mount, %v; want %d", e.NodeID, err, below.NodeID)
	}
	if err := fusesrvtest.Forget(c, over.NodeID, 1); err != nil {
		t.Fatal(err)
	}
	if n := fds.Used(); n != used {
		t.Errorf("%d descriptors after everything of the mount was forgotten, before it %d", n, used)
	}
}

// TestReadOnlyIsOfTheMount shares one file by two ways, one of them read-only.
func TestReadOnlyIsOfTheMount(t *testing.T) {
	testenv.Need(t, testenv.Root)
	dir := t.TempDir()
	for _, name := range []string{"rw", "ro"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "rw/file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ro := filepath.Join(dir, "ro")
	if err := errors.Join(unix.Mount(filepath.Join(dir, "rw"), ro, "", unix.MS_BIND, ""), unix.Mount("", ro, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(ro, unix.MNT_DETACH) })
	c := client(t, serve(t, dir, 0, passthrough.Options{}))
	var files [2]fusesrv.EntryOut
	for i, name := range []string{"rw", "ro"} {
		e, err := fusesrvtest.Lookup(c, fusesrv.RootID, name)
		if err == nil {
			files[i], err = fusesrvtest.Lookup(c, e.NodeID, "file")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if files[0].NodeID == files[1].NodeID || files[0].Attr.Ino != files[1].Attr.Ino {
		t.Errorf("nodes %d and %d, inodes %#x and %#x", files[0].NodeID, files[1].NodeID, files[0].Attr.Ino, files[1].Attr.Ino)
	}
	if _, err := fusesrvtest.Open(c, fusesrv.OpOpen, files[0].NodeID, unix.O_RDWR); err != nil {
		t.Error(err)
	}
	if _, err := fusesrvtest.Open(c, fusesrv.OpOpen, files[1].NodeID, unix.O_RDWR); !errors.Is(err, unix.EROFS) {
		t.Errorf("opened for writing through the read-only mount: %v", err)
	}
}

// TestNodeIDsAreNotGivenOutTwice forgets everything again and again.
func TestNodeIDsAreNotGivenOutTwice(t *testing.T) {
	testenv.Need(t, testenv.Root)
	for _, o := range []passthrough.Options{{}, {NoHandles: true}} {
		dir, fds := t.TempDir(), passthrough.NewDescriptors(10_000)
		o.Descriptors = fds
		s := serve(t, dir, 0, o)
		c := client(t, s)
		used, seen := fds.Used(), map[uint64]bool{}
		for range testenv.Rounds(5000) {
			e, err := fusesrvtest.Mkdir(c, fusesrv.RootID, "name", 0o755)
			if err != nil {
				t.Fatal(err)
			}
			if seen[e.NodeID] {
				t.Fatalf("node %d again", e.NodeID)
			}
			seen[e.NodeID] = true
			err = errors.Join(fusesrvtest.Remove(c, fusesrv.OpRmdir, fusesrv.RootID, "name"), fusesrvtest.Forget(c, e.NodeID, 1))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fusesrvtest.Getattr(c, e.NodeID); !errors.Is(err, unix.ESTALE) {
				t.Fatalf("node %d is known after it was forgotten: %v", e.NodeID, err)
			}
		}
		if s.fs.Nodes() != 0 || fds.Used() != used {
			t.Errorf("%d nodes and %d descriptors are left", s.fs.Nodes(), fds.Used()-used)
		}
	}
}

// TestTrustedAttributesPass sets what overlayfs keeps in an upper layer.
func TestTrustedAttributesPass(t *testing.T) {
	testenv.Need(t, testenv.TrustedAttr)
	dir := t.TempDir()
	c := client(t, serve(t, dir, 0, passthrough.Options{}))
	e, err := fusesrvtest.Mkdir(c, fusesrv.RootID, "dir", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	const name = "trusted.overlay.opaque"
	if err := fusesrvtest.Setxattr(c, e.NodeID, name, []byte("y"), 0); err != nil {
		t.Fatal(err)
	}
	var b [8]byte
	if n, err := unix.Lgetxattr(filepath.Join(dir, "dir"), name, b[:]); err != nil || string(b[:n]) != "y" {
		t.Errorf("on the host %q, %v", b[:n], err)
	}
	if v, err := fusesrvtest.Getxattr(c, e.NodeID, name); err != nil || string(v) != "y" {
		t.Errorf("got %q, %v", v, err)
	}
}
