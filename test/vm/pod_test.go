package vm

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/internal/testtree"
	"vrafs/test/vm/guestapi"
)

// podDir is where Kata's agent mounts the device.
const podDir = "/run/kata-containers/shared"

// A pod is a machine with one daemon, which shares a directory and has an image for each
// container.
type pod struct {
	m   *Machine
	d   *Daemon
	dir string // what is shared, at /containers
}

func startPod(t *testing.T, series string) *pod {
	t.Helper()
	p := &pod{d: startDaemon(t, DaemonOptions{}), dir: t.TempDir()}
	check(t, p.d.Share(t.Context(), "/containers", p.dir))
	s := &share{tag: "kataShared", device: Filesystem{Socket: p.d.Socket, Gone: p.d.Gone()}}
	p.m = bootWith(t, series, Options{}, s)
	do(t, p.m, guestapi.Mount, guestapi.MountArgs{Source: s.tag, Path: podDir, Type: "virtiofs", Flags: unix.MS_NODEV})
	return p
}

// asRoot makes the shared directory one that programs can run in as their root, with an
// empty directory /files, and gives its path in the guest.
func (p *pod) asRoot(t *testing.T) string {
	t.Helper()
	root := podDir + "/containers"
	for at, fs := range map[string]string{"/dev": "devtmpfs", "/proc": "proc", "/sys": "sysfs"} {
		do(t, p.m, guestapi.Mount, guestapi.MountArgs{Source: fs, Path: root + at, Type: fs})
	}
	do(t, p.m, guestapi.Mkdir, guestapi.PathArgs{Path: root + "/files"})
	return root
}

// A container is an overlay in the guest over an image, with its upper layer in a
// directory of the host that was mounted below the shared one.
type container struct {
	id       string
	snapshot string // has fs and work, on this host
	root     string // in the guest
}

func (c *container) lower() string { return "/rafs/" + c.id + "/lowerdir" }

// start makes a container, step by step as Kata and its agent do.
func (p *pod) start(t *testing.T, id string, im *image) *container {
	t.Helper()
	c := &container{id: id, snapshot: t.TempDir(), root: podDir + "/containers/" + id + "/rootfs"}
	check(t, p.d.Mount(t.Context(), c.lower(), im.Bootstrap, im.BlobDir))
	at := filepath.Join(p.dir, id, "snapshotdir")
	for _, dir := range []string{filepath.Join(p.dir, id, "rootfs"), at, filepath.Join(c.snapshot, "fs"), filepath.Join(c.snapshot, "work")} {
		check(t, os.MkdirAll(dir, 0o755))
	}
	check(t, unix.Mount(c.snapshot, at, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	layers := podDir + "/containers/" + id + "/snapshotdir"
	do(t, p.m, guestapi.Mount, guestapi.MountArgs{Source: "overlay", Path: c.root, Type: "overlay",
		Data: "upperdir=" + layers + "/fs,workdir=" + layers + "/work,lowerdir=" + podDir + c.lower() + ",index=off"})
	return c
}

// run runs a shell script in a container and returns what it printed.
func (p *pod) run(t *testing.T, c *container, script string, args ...string) string {
	t.Helper()
	r := call[guestapi.RunResult](t, p.m, guestapi.Run, guestapi.RunArgs{
		Root: c.root, Argv: append([]string{"/bin/sh", "-c", script, "sh"}, args...), Env: gitEnv,
	})
	if r.Code != 0 {
		t.Fatalf("exit code %d\n%s", r.Code, r.Output)
	}
	t.Logf("ran in %v", r.Took.Round(time.Millisecond))
	return r.Output
}

// TestAPodOfTwoContainers has the layout of Kata's pods: two images come under a live
// guest, overlays over them keep their changes in the directory that is shared on the
// same connection. Git works in one of them as on this host, while the image of the
// other is taken away with its files open.
func TestAPodOfTwoContainers(t *testing.T) {
	needVM(t)
	testenv.Need(t, testenv.Git)
	programs, data := t.TempDir(), filepath.Join(testtree.Make(t, testtree.Small(8)), "sizes")
	addHostPrograms(t, programs, "sh", "git", "git-upload-pack")
	makeRepository(t, filepath.Join(programs, "repository"))
	onHost := filepath.Join(t.TempDir(), "checkout")
	want := runGit(t, checkoutScript, filepath.Join(programs, "repository"), onHost)
	git, other := makeImage(t, variants[0], programs), makeImage(t, variants[1], data)
	for _, series := range Series {
		t.Run(series, func(t *testing.T) {
			p := startPod(t, series)
			a, b := p.start(t, "a", git), p.start(t, "b", other)
			p.isImage(t, b.root, other)
			do(t, p.m, guestapi.Mount, guestapi.MountArgs{Source: "devtmpfs", Path: a.root + "/dev", Type: "devtmpfs"})
			if got := p.run(t, a, checkoutScript, "/repository", "/checkout"); got != want {
				t.Errorf("not what git printed on this host: %s", firstDifference(strings.Split(want, "\n"), strings.Split(got, "\n")))
			}
			p.checkCheckout(t, a, onHost)
			p.checkNumbers(t)
			p.takeAway(t, b, other)
			// The first has not noticed, and another takes the place of the second.
			if got := p.run(t, a, "cd /checkout && git fsck --full && git status --porcelain"); got != "" {
				t.Errorf("git printed %q", got)
			}
			c := p.start(t, "c", other)
			p.isImage(t, c.root, other)
			p.checkNumbers(t)
		})
	}
}

// isImage fails the test unless the guest sees an image at dir.
func (p *pod) isImage(t *testing.T, dir string, im *image) {
	t.Helper()
	p.compare(t, dir, im.manifest)
}

// compare has the guest compare a tree with a manifest, which it gets through the shared
// directory.
func (p *pod) compare(t *testing.T, dir string, manifest []byte) {
	t.Helper()
	const name = "manifest"
	check(t, os.WriteFile(filepath.Join(p.dir, name), manifest, 0o644))
	do(t, p.m, guestapi.DropCache, nil)
	compare(t, p.m, guestapi.CompareArgs{Path: dir, Manifest: podDir + "/containers/" + name})
	check(t, os.Remove(filepath.Join(p.dir, name)))
}

// firstDifference says where two lists differ first.
func firstDifference(want, got []string) string {
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			return fmt.Sprintf("line %d is %q, want %q", i, got[i], want[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(got), len(want))
}

// checkCheckout compares what git has made in the container's upper layer with what it
// has made of the same on this host, with what the guest sees, and has the host's git
// look at it.
func (p *pod) checkCheckout(t *testing.T, c *container, onHost string) {
	t.Helper()
	do(t, p.m, guestapi.DropCache, nil) // what is written is on the host
	upper := filepath.Join(c.snapshot, "fs/checkout")
	if diff := testtree.Diff(workTree(t, onHost), workTree(t, upper), testtree.DiffOptions{SkipXattrs: true}); len(diff) != 0 {
		t.Errorf("%d differences between checkouts:\n%s", len(diff), strings.Join(diff[:min(20, len(diff))], "\n"))
	}
	if out := runGit(t, `cd "$1" && git fsck --full && git status --porcelain`, upper); out != "" {
		t.Errorf("this host's git says of the guest's checkout %q", out)
	}
	all, err := testtree.Scan(upper, testtree.ScanOptions{})
	check(t, err)
	all = slices.Clone(all)
	for i := range all { // overlayfs keeps its own attributes to itself
		all[i].Xattrs = slices.DeleteFunc(all[i].Xattrs, func(x testtree.Xattr) bool { return strings.HasPrefix(x.Name, "trusted.overlay.") })
	}
	var b bytes.Buffer
	check(t, testtree.WriteManifest(&b, all))
	p.compare(t, c.root+"/checkout", b.Bytes())
}

// workTree scans a checkout without git's own directory and without times.
func workTree(t *testing.T, dir string) []testtree.Entry {
	t.Helper()
	all, err := testtree.Scan(dir, testtree.ScanOptions{Skip: []string{".git"}})
	check(t, err)
	for i := range all {
		all[i].Sec, all[i].Nsec = 0, 0
	}
	return all
}

// checkNumbers fails the test if unlike files anywhere in the pod have the same device
// and inode numbers.
func (p *pod) checkNumbers(t *testing.T) {
	t.Helper()
	ids := call[guestapi.IDsResult](t, p.m, guestapi.IDs, guestapi.PathArgs{Path: podDir})
	t.Logf("%d files", ids.Files)
	if len(ids.Lines) != 0 || ids.Files < 500 {
		t.Errorf("%d files; unlike ones with the same numbers: %q", ids.Files, ids.Lines)
	}
}

// takeAway unmounts a container's image with a file of it open twice, below the overlay
// and through it: both are read to their ends, whatever else is asked of the image fails.
func (p *pod) takeAway(t *testing.T, c *container, im *image) {
	t.Helper()
	const name, length = "several-chunks", 5000
	data := readFile(t, filepath.Join(im.Tree, name))
	open := []string{path.Join(podDir, c.lower(), name), path.Join(c.root, name)}
	for _, f := range open {
		do(t, p.m, guestapi.Hold, guestapi.PathArgs{Path: f})
	}
	do(t, p.m, guestapi.Write, guestapi.WriteArgs{Path: c.root + "/written", Data: "before"})
	do(t, p.m, guestapi.DropCache, nil)
	check(t, p.d.Unmount(t.Context(), c.lower()))
	for _, f := range open {
		var offsets []int64
		for off := 0; off < len(data); off += 100 << 10 {
			offsets = append(offsets, int64(off))
		}
		got := call[guestapi.ReadAtResult](t, p.m, guestapi.ReadAt, guestapi.ReadAtArgs{Path: f, Held: true, Offsets: offsets, Length: length})
		for i, off := range offsets {
			if want := hexDigest(data[off:min(int(off)+length, len(data))]); got.Digests[i] != want {
				t.Errorf("%s at %d: got digest %s, want %s", f, off, got.Digests[i], want)
			}
		}
	}
	do(t, p.m, guestapi.LetGo, nil)
	do(t, p.m, guestapi.DropCache, nil)
	for _, f := range open {
		if err := p.m.Call(guestapi.Hold, guestapi.PathArgs{Path: f}, nil); err == nil {
			t.Errorf("%s was opened after its image was unmounted", f)
		}
	}
	unmount(t, p.m, c.root)
	at := filepath.Join(p.dir, c.id, "snapshotdir")
	check(t, unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW))
	check(t, os.RemoveAll(filepath.Join(p.dir, c.id)))
	if b := readFile(t, filepath.Join(c.snapshot, "fs/written")); string(b) != "before" {
		t.Errorf("the upper layer has %q", b)
	}
}
