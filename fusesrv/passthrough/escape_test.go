package passthrough_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/passthrough"
	"vrafs/internal/testenv"
	"vrafs/internal/testtree"
)

// An outside is a directory beside a shared one, which nothing may reach.
type outside struct {
	dir    string
	before []testtree.Entry
}

const secret = "nobody in the guest may see this"

// besides makes a directory to share and one that is not, both below parent.
func besides(t *testing.T) (share string, o *outside) {
	t.Helper()
	top := t.TempDir()
	share, o = filepath.Join(top, "share"), &outside{dir: filepath.Join(top, "outside")}
	for _, dir := range []string{share, o.dir, filepath.Join(o.dir, "dir")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"file", "dir/file"} {
		if err := os.WriteFile(filepath.Join(o.dir, name), []byte(secret), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if o.before, err = testtree.Scan(o.dir, testtree.ScanOptions{}); err != nil {
		t.Fatal(err)
	}
	return share, o
}

// untouched fails the test if anything there has changed.
func (o *outside) untouched(t *testing.T) {
	t.Helper()
	after, err := testtree.Scan(o.dir, testtree.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := testtree.Diff(o.before, after, testtree.DiffOptions{}); len(diff) != 0 {
		t.Errorf("outside of the shared directory:\n%s", strings.Join(diff, "\n"))
	}
}

// An attempt is one request with names or nodes of the guest's choice.
type attempt struct {
	name string
	try  func(c fusesrvtest.Caller, dir uint64, name string) error
}

// attempts is every request that takes a name.
func attempts() []attempt {
	opened := func(o fusesrvtest.Created, err error) error { return err }
	made := func(_ fusesrv.EntryOut, err error) error { return err }
	return []attempt{
		{"create", func(c fusesrvtest.Caller, dir uint64, name string) error {
			return opened(fusesrvtest.Create(c, dir, name, unix.O_RDWR|unix.O_TRUNC, 0o644))
		}},
		{"mkdir", func(c fusesrvtest.Caller, dir uint64, name string) error {
			return made(fusesrvtest.Mkdir(c, dir, name, 0o755))
		}},
		{"mknod", func(c fusesrvtest.Caller, dir uint64, name string) error {
			return made(fusesrvtest.Mknod(c, dir, name, unix.S_IFREG|0o644, 0))
		}},
		{"symlink", func(c fusesrvtest.Caller, dir uint64, name string) error {
			return made(fusesrvtest.Symlink(c, dir, name, "target"))
		}},
		{"link", func(c fusesrvtest.Caller, dir uint64, name string) error {
			e, err := fusesrvtest.Create(c, fusesrv.RootID, "old", unix.O_RDWR, 0o644)
			if err != nil {
				return nil // it is the link that counts
			}
			return made(fusesrvtest.Link(c, e.Entry.NodeID, dir, name))
		}},
		{"unlink", func(c fusesrvtest.Caller, dir uint64, name string) error {
			return fusesrvtest.Remove(c, fusesrv.OpUnlink, dir, name)
		}},
		{"rmdir", func(c fusesrvtest.Caller, dir uint64, name string) error {
			return fusesrvtest.Remove(c, fusesrv.OpRmdir, dir, name)
		}},
		{"rename_from", func(c fusesrvtest.Caller, dir uint64, name string) error {
			return fusesrvtest.Rename(c, dir, name, fusesrv.RootID, "stolen", 0)
		}},
		{"rename_to", func(c fusesrvtest.Caller, dir uint64, name string) error {
			_, _ = fusesrvtest.Create(c, fusesrv.RootID, "old", unix.O_RDWR, 0o644)
			return fusesrvtest.Rename(c, fusesrv.RootID, "old", dir, name, 0)
		}},
		{"exchange", func(c fusesrvtest.Caller, dir uint64, name string) error {
			_, _ = fusesrvtest.Create(c, fusesrv.RootID, "old", unix.O_RDWR, 0o644)
			return fusesrvtest.Rename(c, fusesrv.RootID, "old", dir, name, unix.RENAME_EXCHANGE)
		}},
	}
}

func TestNamesDoNotLeadOut(t *testing.T) {
	testenv.Need(t, testenv.Root)
	share, out := besides(t)
	c := client(t, serve(t, share, 0, passthrough.Options{}))
	for _, name := range []string{"..", ".", "../outside", "../outside/file", "/etc/passwd", "a/b", "./x", "x/", "", "a\x00b/../..",
		strings.Repeat("../", 20) + "etc/passwd", strings.Repeat("n", 256), "..\x00", "//"} {
		for _, a := range attempts() {
			if err := a.try(c, fusesrv.RootID, name); err == nil && !strings.Contains(name, "\x00") {
				t.Errorf("%s of %q worked", a.name, name)
			}
		}
		if e, err := fusesrvtest.Lookup(c, fusesrv.RootID, name); err == nil && e.NodeID != fusesrv.RootID && !strings.Contains(name, "\x00") {
			t.Errorf("lookup of %q found node %d", name, e.NodeID)
		}
	}
	out.untouched(t)
}

// TestParentOfTheRootIsTheRoot asks as a guest does that exports the file system.
func TestParentOfTheRootIsTheRoot(t *testing.T) {
	testenv.Need(t, testenv.Root)
	share, _ := besides(t)
	c := client(t, serve(t, share, 0, passthrough.Options{}))
	sub, err := fusesrvtest.Mkdir(c, fusesrv.RootID, "sub", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range []uint64{fusesrv.RootID, sub.NodeID} {
		if e, err := fusesrvtest.Lookup(c, node, ".."); err != nil || e.NodeID != fusesrv.RootID {
			t.Errorf("above node %d is node %d, %v", node, e.NodeID, err)
		}
	}
	deep, err := fusesrvtest.Mkdir(c, sub.NodeID, "deep", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := fusesrvtest.Lookup(c, deep.NodeID, ".."); err != nil || e.NodeID != sub.NodeID {
		t.Errorf("above %d is node %d, %v; want %d", deep.NodeID, e.NodeID, err, sub.NodeID)
	}
	if e, err := fusesrvtest.Lookup(c, deep.NodeID, "."); err != nil || e.NodeID != deep.NodeID {
		t.Errorf("node %d itself is %d, %v", deep.NodeID, e.NodeID, err)
	}
}

func TestADirectoryThatWasMovedOutHasNoParent(t *testing.T) {
	testenv.Need(t, testenv.Root)
	share, _ := besides(t)
	c := client(t, serve(t, share, 0, passthrough.Options{}))
	sub, err := fusesrvtest.Mkdir(c, fusesrv.RootID, "sub", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(share, "sub"), filepath.Join(filepath.Dir(share), "moved")); err != nil {
		t.Fatal(err)
	}
	if e, err := fusesrvtest.Lookup(c, sub.NodeID, ".."); !errors.Is(err, unix.ESTALE) {
		t.Errorf("node %d is above what was moved out, %v", e.NodeID, err)
	}
}

// TestSymlinksAreTheGuestsToFollow tries everything on links that lead out.
func TestSymlinksAreTheGuestsToFollow(t *testing.T) {
	testenv.Need(t, testenv.Root)
	for _, o := range []passthrough.Options{{}, {NoHandles: true}} {
		share, out := besides(t)
		for name, target := range map[string]string{"file": "../outside/file", "dir": "../outside/dir", "abs": filepath.Join(out.dir, "file"), "up": ".."} {
			if err := os.Symlink(target, filepath.Join(share, name)); err != nil {
				t.Fatal(err)
			}
		}
		c := client(t, serve(t, share, 0, o))
		for _, name := range []string{"file", "dir", "abs", "up"} {
			e, err := fusesrvtest.Lookup(c, fusesrv.RootID, name)
			if err != nil || e.Attr.Mode&unix.S_IFMT != unix.S_IFLNK {
				t.Fatalf("%s: mode %o, %v", name, e.Attr.Mode, err)
			}
			tryLink(t, c, name, e.NodeID)
		}
		out.untouched(t)
	}
}

// tryLink uses the node of a symlink as if it were what it leads to.
func tryLink(t *testing.T, c fusesrvtest.Caller, name string, link uint64) {
	t.Helper()
	refused := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s of %s worked", what, name)
		}
	}
	for _, flags := range []uint32{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR | unix.O_TRUNC} {
		_, err := fusesrvtest.Open(c, fusesrv.OpOpen, link, flags)
		refused("open", err)
		_, err = fusesrvtest.Create(c, fusesrv.RootID, name, flags, 0o644)
		refused("create", err)
	}
	_, err := fusesrvtest.Open(c, fusesrv.OpOpendir, link, 0)
	refused("opendir", err)
	for _, below := range []string{"file", "new"} {
		_, err = fusesrvtest.Lookup(c, link, below)
		refused("lookup below", err)
		for _, a := range attempts() {
			refused(a.name+" below", a.try(c, link, below))
		}
	}
	_, err = fusesrvtest.Setattr(c, link, fusesrv.SetattrIn{Valid: fusesrv.FattrSize})
	refused("truncate", err)
	refused("setxattr", fusesrvtest.Setxattr(c, link, "user.x", []byte("x"), 0))
	// These change the link itself.
	_, _ = fusesrvtest.Setattr(c, link, fusesrv.SetattrIn{Valid: fusesrv.FattrMode, Mode: 0o777})
	_, _ = fusesrvtest.Setattr(c, link, fusesrv.SetattrIn{Valid: fusesrv.FattrUID, UID: 7})
	_, _ = fusesrvtest.Setattr(c, link, fusesrv.SetattrIn{Valid: fusesrv.FattrMtime, Mtime: 7})
	_ = fusesrvtest.Setxattr(c, link, "trusted.x", []byte("x"), 0)
}

// TestRacesDoNotLeadOut exchanges names on the host while a client uses them: a
// directory with a link that leads out, a file with a link to a file, and a file with a
// FIFO, whose opening would never end.
func TestRacesDoNotLeadOut(t *testing.T) {
	testenv.Need(t, testenv.Root)
	for name, o := range map[string]passthrough.Options{"handles": {}, "descriptors": {NoHandles: true}} {
		t.Run(name, func(t *testing.T) { raceOut(t, o) })
	}
}

func raceOut(t *testing.T, o passthrough.Options) {
	share, out := besides(t)
	in := func(name string) string { return filepath.Join(share, name) }
	for _, err := range []error{
		os.Mkdir(in("dir"), 0o755), os.WriteFile(in("dir/file"), []byte("ours"), 0o644), os.Symlink("../outside/dir", in("dir.other")),
		os.WriteFile(in("file"), []byte("ours"), 0o644), os.Symlink("../outside/file", in("file.other")),
		os.WriteFile(in("pipe"), []byte("ours"), 0o644), unix.Mkfifo(in("pipe.other"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, share, 0, o)
	first := client(t, s)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for _, name := range []string{"dir", "file", "pipe"} {
		wg.Go(func() {
			for !stop.Load() {
				_ = unix.Renameat2(unix.AT_FDCWD, in(name), unix.AT_FDCWD, in(name+".other"), unix.RENAME_EXCHANGE)
			}
		})
	}
	defer wg.Wait()
	defer stop.Store(true)
	var users sync.WaitGroup
	for range 2 {
		c := fusesrvtest.NewDirect(t, s.server)
		users.Go(func() {
			for range testenv.Rounds(20_000) {
				for _, name := range []string{"dir", "file", "pipe"} {
					useRacing(t, c, name)
				}
			}
		})
	}
	users.Wait()
	_ = first
	out.untouched(t)
}

// useRacing uses whatever a name leads to at this moment.
func useRacing(t *testing.T, c *fusesrvtest.Direct, name string) {
	e, err := fusesrvtest.Lookup(c, fusesrv.RootID, name)
	if err != nil {
		return
	}
	if below, err := fusesrvtest.Lookup(c, e.NodeID, "file"); err == nil {
		readOurs(t, c, below.NodeID)
	}
	readOurs(t, c, e.NodeID)
	_, _ = fusesrvtest.Create(c, e.NodeID, "new", unix.O_RDWR, 0o644)
	_ = fusesrvtest.Remove(c, fusesrv.OpUnlink, e.NodeID, "new")
	if o, err := fusesrvtest.Create(c, fusesrv.RootID, name, unix.O_WRONLY, 0o644); err == nil {
		_ = fusesrvtest.Release(c, fusesrv.OpRelease, o.Entry.NodeID, o.Open.FH)
	}
	_, _ = fusesrvtest.Setattr(c, e.NodeID, fusesrv.SetattrIn{Valid: fusesrv.FattrMode, Mode: 0o755})
	_ = fusesrvtest.Forget(c, e.NodeID, 1)
}

// readOurs reads a file, if it can be opened.
func readOurs(t *testing.T, c *fusesrvtest.Direct, node uint64) {
	o, err := fusesrvtest.Open(c, fusesrv.OpOpen, node, unix.O_RDONLY)
	if err != nil {
		return
	}
	if b, err := fusesrvtest.Read(c, node, o.FH, 0, 100); err != nil || string(b) != "ours" {
		t.Errorf("node %d: read %q, %v", node, b, err)
	}
	if err := fusesrvtest.Release(c, fusesrv.OpRelease, node, o.FH); err != nil {
		t.Error(err)
	}
}
