package passthrough_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/passthrough"
	"vrafs/internal/testenv"
	"vrafs/internal/testtree"
)

// TestOverlayOnTopIsAsOnADisk does the same to two overlays over one tree, whose upper
// layers are in a shared directory and on the host's own file system.
func TestOverlayOnTopIsAsOnADisk(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE, testenv.Overlay)
	testenv.Long(t)
	lower := testtree.Make(t, testtree.Small(1))
	for _, tt := range []struct {
		name  string
		flags fusesrv.InitFlags
	}{{"plain", 0}, {"writeback", fusesrv.WritebackCache}} {
		t.Run(tt.name, func(t *testing.T) {
			backing := t.TempDir()
			shared := serve(t, backing, tt.flags, passthrough.Options{}).mount(t)
			theirs, ours := t.TempDir(), shared
			want, got := overlaid(t, lower, theirs), overlaid(t, lower, ours)
			for seed := range uint64(testenv.Rounds(10)) {
				wantDid, gotDid := change(t, want, seed), change(t, got, seed)
				if diff := firstDifference(wantDid, gotDid); diff != "" {
					t.Fatalf("seed %d: %s", seed, diff)
				}
			}
			// Where the layers are on two file systems, an inode that was copied up keeps
			// its number as long as it is in the cache, and its other names have another.
			unix.Sync()
			if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("2\n"), 0); err != nil {
				t.Fatal(err)
			}
			sameTree(t, "merged", want, got)
			if w, g := marks(t, theirs), marks(t, backing); !slices.Equal(w, g) {
				t.Errorf("upper layers: %s", firstDifference(w, g))
			}
		})
	}
}

// overlaid mounts an overlay over lower that keeps its changes below upper.
func overlaid(t *testing.T, lower, upper string) (merged string) {
	t.Helper()
	merged = t.TempDir()
	for _, dir := range []string{"fs", "work"} {
		if err := os.Mkdir(filepath.Join(upper, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	o := fmt.Sprintf("lowerdir=%s,upperdir=%s/fs,workdir=%s/work,index=off", lower, upper, upper)
	if err := unix.Mount("overlay", merged, "overlay", 0, o); err != nil {
		t.Fatal("overlay: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(merged, unix.MNT_DETACH) })
	return merged
}

func sameTree(t *testing.T, what, want, got string) {
	t.Helper()
	w, err := testtree.Scan(want, testtree.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	g, err := testtree.Scan(got, testtree.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d names", what, len(w))
	if diff := testtree.Diff(w, g, testtree.DiffOptions{SkipDirTimes: !testenv.Soak()}); len(diff) != 0 {
		t.Errorf("%s: %d differences:\n%s", what, len(diff), strings.Join(diff[:min(20, len(diff))], "\n"))
	}
}

// marks are the whiteouts and the opaque directories of an upper layer.
func marks(t *testing.T, upper string) (list []string) {
	t.Helper()
	all, err := testtree.Scan(filepath.Join(upper, "fs"), testtree.ScanOptions{NoData: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Mode&unix.S_IFMT == unix.S_IFCHR && e.Rdev == 0 {
			list = append(list, "whiteout "+e.Path)
		}
		for _, x := range e.Xattrs {
			if x.Name == "trusted.overlay.opaque" {
				list = append(list, "opaque "+e.Path+" "+x.Value)
			}
		}
	}
	return list
}

func firstDifference(want, got []string) string {
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(want):
			return "not wanted: " + got[i]
		case i >= len(got):
			return "missing: " + want[i]
		case want[i] != got[i]:
			return fmt.Sprintf("got %s, want %s", got[i], want[i])
		}
	}
	return ""
}

// A changer does random things to a tree, the same to every tree that is alike.
type changer struct {
	root  string
	r     *rand.Rand
	paths []string
	used  map[string]bool
	did   []string
}

// change makes some hundred changes and returns what came of each.
func change(t *testing.T, root string, seed uint64) []string {
	t.Helper()
	all, err := testtree.Scan(root, testtree.ScanOptions{NoData: true})
	if err != nil {
		t.Fatal(err)
	}
	c := &changer{root: root, r: rand.New(rand.NewPCG(seed, 1)), used: map[string]bool{}}
	for _, e := range all[1:] {
		c.paths = append(c.paths, e.Path)
	}
	ops := []func() (string, error){c.write, c.append, c.truncate, c.chmod, c.chown, c.times, c.xattr, c.unlink, c.removeAll,
		c.replaceDir, c.mkdir, c.mknod, c.symlink, c.link, c.rename, c.exchange, c.renameOver}
	for range 200 {
		what, err := ops[c.r.IntN(len(ops))]()
		var e unix.Errno
		errors.As(err, &e)
		c.did = append(c.did, fmt.Sprintf("%s: %d", what, e))
	}
	c.settle(t)
	return c.did
}

// settle gives what was changed a time that does not depend on the clock, and what is
// special a copy in the upper layer. In the long run that is everything.
func (c *changer) settle(t *testing.T) {
	t.Helper()
	all, err := testtree.Scan(c.root, testtree.ScanOptions{NoData: true})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(all) // directories after what is in them
	for i, e := range all {
		top, _, _ := strings.Cut(e.Path, "/")
		if !testenv.Soak() && !c.used[e.Path] && !slices.Contains([]string{"modes", "xattrs", "kinds", "links"}, top) {
			continue
		}
		ts := []unix.Timespec{{Sec: int64(i)}, {Sec: int64(i), Nsec: 5}}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(c.root, e.Path), ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatalf("%q: %v", e.Path, err)
		}
	}
}

func (c *changer) any() string {
	p := c.paths[c.r.IntN(len(c.paths))]
	c.used[p] = true
	return p
}

func (c *changer) at(rel string) string { return filepath.Join(c.root, rel) }

// fresh is a name that is not there yet, in the directory of another.
func (c *changer) fresh() string {
	rel := path.Join(path.Dir(c.any()), fmt.Sprintf("new-%x", c.r.Uint64()))
	c.paths = append(c.paths, rel)
	c.used[rel] = true
	return rel
}

func (c *changer) opened(rel string, flags int, use func(fd int) error) error {
	fd, err := unix.Open(c.at(rel), flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return err
	}
	return errors.Join(use(fd), unix.Close(fd))
}

func (c *changer) regular(rel string) bool {
	var st unix.Stat_t
	return unix.Lstat(c.at(rel), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size < 1<<20
}

func (c *changer) write() (string, error) {
	p := c.any()
	if c.r.IntN(2) == 0 {
		p = c.fresh()
	} else if !c.regular(p) {
		return "no write to " + p, nil
	}
	off, data := c.r.Int64N(10_000), []byte(strings.Repeat(p, 20))
	return "write " + p, c.opened(p, unix.O_WRONLY|unix.O_CREAT, func(fd int) error { _, err := unix.Pwrite(fd, data, off); return err })
}

func (c *changer) append() (string, error) {
	p := c.any()
	if !c.regular(p) {
		return "no append to " + p, nil
	}
	return "append " + p, c.opened(p, unix.O_WRONLY|unix.O_APPEND, func(fd int) error { _, err := unix.Write(fd, []byte("more")); return err })
}

func (c *changer) truncate() (string, error) {
	p, n := c.any(), c.r.Int64N(20_000)
	if !c.regular(p) {
		return "no truncate of " + p, nil
	}
	return "truncate " + p, unix.Truncate(c.at(p), n)
}

func (c *changer) chmod() (string, error) {
	p, mode := c.any(), c.r.Uint32N(0o10000)
	var st unix.Stat_t
	if unix.Lstat(c.at(p), &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return "no chmod of " + p, nil
	}
	return "chmod " + p, unix.Chmod(c.at(p), mode)
}

func (c *changer) chown() (string, error) {
	p := c.any()
	return "chown " + p, unix.Lchown(c.at(p), c.r.IntN(3000), c.r.IntN(3000))
}

func (c *changer) times() (string, error) {
	p := c.any()
	ts := []unix.Timespec{{Sec: c.r.Int64N(1 << 31)}, {Nsec: unix.UTIME_OMIT}}
	return "times of " + p, unix.UtimesNanoAt(unix.AT_FDCWD, c.at(p), ts, unix.AT_SYMLINK_NOFOLLOW)
}

func (c *changer) xattr() (string, error) {
	p, n := c.any(), c.r.IntN(4)
	name, value := "trusted.test", []byte(strings.Repeat("v", c.r.IntN(200)))
	if n == 0 {
		return "remove xattr of " + p, unix.Lremovexattr(c.at(p), name)
	}
	return "xattr of " + p, unix.Lsetxattr(c.at(p), name, value, 0)
}

func (c *changer) unlink() (string, error) {
	p := c.any()
	return "unlink " + p, unix.Unlink(c.at(p))
}

func (c *changer) removeAll() (string, error) {
	p := c.any()
	if c.r.IntN(5) != 0 || strings.Count(p, "/") < 1 {
		return "nothing", nil
	}
	return "remove all of " + p, os.RemoveAll(c.at(p))
}

// replaceDir puts an empty directory in the place of one, which makes it opaque.
func (c *changer) replaceDir() (string, error) {
	p := c.any()
	var st unix.Stat_t
	if unix.Lstat(c.at(p), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || strings.Count(p, "/") < 1 {
		return "no directory at " + p, nil
	}
	return "replace " + p, errors.Join(os.RemoveAll(c.at(p)), unix.Mkdir(c.at(p), 0o755))
}

func (c *changer) mkdir() (string, error) {
	p := c.fresh()
	return "mkdir " + p, unix.Mkdir(c.at(p), 0o1777)
}

func (c *changer) mknod() (string, error) {
	p := c.fresh()
	kind := []uint32{unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFREG}[c.r.IntN(5)]
	return "mknod " + p, unix.Mknod(c.at(p), kind|0o644, int(unix.Mkdev(1, 3)))
}

func (c *changer) symlink() (string, error) {
	p := c.fresh()
	return "symlink " + p, unix.Symlink(c.any(), c.at(p))
}

func (c *changer) link() (string, error) {
	old, p := c.any(), c.fresh()
	return "link " + old + " to " + p, unix.Link(c.at(old), c.at(p))
}

func (c *changer) rename() (string, error) {
	old, p := c.any(), c.fresh()
	return "rename " + old + " to " + p, unix.Rename(c.at(old), c.at(p))
}

func (c *changer) renameOver() (string, error) {
	old, p := c.any(), c.any()
	return "rename " + old + " over " + p, unix.Rename(c.at(old), c.at(p))
}

func (c *changer) exchange() (string, error) {
	a, b := c.any(), c.any()
	return "exchange " + a + " and " + b, unix.Renameat2(unix.AT_FDCWD, c.at(a), unix.AT_FDCWD, c.at(b), unix.RENAME_EXCHANGE)
}
