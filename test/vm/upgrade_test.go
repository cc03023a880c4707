package vm

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vrafs/internal/testenv"
	"vrafs/internal/testsupervisor"
	"vrafs/internal/testtree"
	"vrafs/test/vm/guestapi"
)

// TestUpgradeUnderALiveGuest replaces the daemon's program again and again while the
// guest reads two images past its cache, does random things to files of a shared
// directory, and compares every byte. It sees no error, and the tree is whole afterwards;
// files stay the ones that they were.
func TestUpgradeUnderALiveGuest(t *testing.T) {
	needVM(t)
	tree := testtree.Make(t, testtree.Small(6))
	a, b := makeImage(t, variants[0], tree), makeImage(t, variants[1], tree)
	for _, series := range Series {
		t.Run(series, func(t *testing.T) {
			d := startDaemon(t, DaemonOptions{})
			s := &share{tag: "kataShared", device: Filesystem{Socket: d.Socket, Queues: 2, Gone: d.Gone()}, manifest: a.manifest}
			m := bootWith(t, series, Options{}, s)
			do(t, m, guestapi.Mount, guestapi.MountArgs{Source: s.tag, Path: s.dir(), Type: "virtiofs"})
			check(t, d.Mount(t.Context(), "/rafs/a/lowerdir", a.Bootstrap, a.BlobDir))
			check(t, d.Mount(t.Context(), "/rafs/b/lowerdir", b.Bootstrap, b.BlobDir))
			shared := t.TempDir()
			check(t, d.Share(t.Context(), "/containers", shared))
			do(t, m, guestapi.FsxStart, guestapi.FsxArgs{Path: s.dir() + "/containers", Files: 2})
			do(t, m, guestapi.LoadStart, guestapi.LoadArgs{Path: s.dir() + "/rafs/a/lowerdir", Manifest: s.manifestFile(), Readers: 4})
			worst := time.Duration(0)
			rounds := testenv.Rounds(100)
			for i := range rounds {
				do(t, m, guestapi.LoadWait, guestapi.LoadWaitArgs{Files: 5})
				pause, err := d.Upgrade(t.Context(), i+1)
				check(t, err)
				worst = max(worst, pause)
			}
			r, x := endLoads(t, m)
			if left, err := os.ReadDir(shared); err != nil || len(left) != 0 {
				t.Errorf("%d files are left in the shared directory, %v", len(left), err)
			}
			t.Logf("%d upgrades, %d files read and %d operations on shared ones meanwhile, longest pause %v", rounds, r.Files, x.Ops, worst)
			seen(t, m, s, "/rafs/a/lowerdir", s.tag)
			ids := call[guestapi.IDsResult](t, m, guestapi.IDs, guestapi.PathArgs{Path: s.dir()})
			if len(ids.Lines) != 0 || ids.Files < 100 {
				t.Errorf("%d files; unlike ones with the same numbers: %q", ids.Files, ids.Lines)
			}
			check(t, d.Unmount(t.Context(), "/rafs/a/lowerdir"))
			gone(t, m, s, "/rafs/a/lowerdir")
		})
	}
}

// endLoads ends what reads images and what changes shared files; neither has seen an error.
func endLoads(t *testing.T, m *Machine) (guestapi.LoadResult, guestapi.FsxResult) {
	t.Helper()
	do(t, m, guestapi.LoadWait, guestapi.LoadWaitArgs{Files: 20})
	r := call[guestapi.LoadResult](t, m, guestapi.LoadStop, nil)
	if len(r.Errors) != 0 {
		t.Errorf("reads failed: %q", r.Errors)
	}
	x := call[guestapi.FsxResult](t, m, guestapi.FsxStop, nil)
	if len(x.Errors) != 0 || x.Ops == 0 {
		t.Errorf("%d operations on shared files: %q", x.Ops, x.Errors)
	}
	return r, x
}

// TestOthersGoOnUnderALiveGuest has one process after the other go on for a guest, through a
// supervisor, while it does what it does in TestUpgradeUnderALiveGuest.
func TestOthersGoOnUnderALiveGuest(t *testing.T) {
	needVM(t)
	a := makeImage(t, variants[0], testtree.Make(t, testtree.Small(6)))
	for _, series := range Series {
		t.Run(series, func(t *testing.T) {
			sup, err := testsupervisor.New(filepath.Join(t.TempDir(), "supervisor.sock"))
			check(t, err)
			t.Cleanup(func() { _ = sup.Close() })
			d := startDaemon(t, DaemonOptions{Args: []string{"--supervisor", sup.Path, "--id", "vm"}})
			s := &share{tag: "kataShared", device: Filesystem{Socket: d.Socket, Queues: 2}, manifest: a.manifest}
			m := bootWith(t, series, Options{}, s)
			do(t, m, guestapi.Mount, guestapi.MountArgs{Source: s.tag, Path: s.dir(), Type: "virtiofs"})
			check(t, d.Mount(t.Context(), "/rafs/a/lowerdir", a.Bootstrap, a.BlobDir))
			shared := t.TempDir()
			check(t, d.Share(t.Context(), "/containers", shared))
			do(t, m, guestapi.FsxStart, guestapi.FsxArgs{Path: s.dir() + "/containers", Files: 2})
			do(t, m, guestapi.LoadStart, guestapi.LoadArgs{Path: s.dir() + "/rafs/a/lowerdir", Manifest: s.manifestFile(), Readers: 4})
			worst, rounds := 0.0, testenv.Rounds(50)
			for range rounds {
				do(t, m, guestapi.LoadWait, guestapi.LoadWaitArgs{Files: 5})
				pause, err := d.Follow(t.Context(), sup)
				check(t, err)
				worst = max(worst, pause)
			}
			r, x := endLoads(t, m)
			t.Logf("%d processes, %d files read and %d operations on shared ones meanwhile, longest pause %v s", rounds, r.Files, x.Ops, worst)
			seen(t, m, s, "/rafs/a/lowerdir", s.tag)
			check(t, d.Unmount(t.Context(), "/rafs/a/lowerdir"))
			gone(t, m, s, "/rafs/a/lowerdir")
		})
	}
}

// TestUpgradeUnderAPodThatWorks replaces the program again and again while git works in a
// container, whose changes go to the shared directory: it makes the same as on this host.
func TestUpgradeUnderAPodThatWorks(t *testing.T) {
	needVM(t)
	testenv.Need(t, testenv.Git)
	programs := t.TempDir()
	addHostPrograms(t, programs, "sh", "git", "git-upload-pack")
	makeRepository(t, filepath.Join(programs, "repository"))
	onHost := filepath.Join(t.TempDir(), "checkout")
	want := runGit(t, checkoutScript, filepath.Join(programs, "repository"), onHost)
	git := makeImage(t, variants[0], programs)
	for _, series := range Series {
		t.Run(series, func(t *testing.T) {
			p := startPod(t, series)
			a := p.start(t, "a", git)
			do(t, p.m, guestapi.Mount, guestapi.MountArgs{Source: "devtmpfs", Path: a.root + "/dev", Type: "devtmpfs"})
			stop := upgradeOn(t, p.d)
			got := p.run(t, a, checkoutScript, "/repository", "/checkout")
			t.Logf("%d upgrades", stop())
			if got != want {
				t.Errorf("not what git printed on this host: %s", firstDifference(strings.Split(want, "\n"), strings.Split(got, "\n")))
			}
			p.checkCheckout(t, a, onHost)
			p.checkNumbers(t)
		})
	}
}

// upgradeOn upgrades a daemon until it is stopped, which says how often that was.
func upgradeOn(t *testing.T, d *Daemon) (stop func() int) {
	var end atomic.Bool
	failed, n := make(chan error, 1), 0
	go func() {
		var err error
		for !end.Load() && err == nil {
			if _, err = d.Upgrade(t.Context(), n+1); err == nil {
				n++
				<-time.After(200 * time.Millisecond)
			}
		}
		failed <- err
	}()
	return func() int {
		t.Helper()
		end.Store(true)
		if err := <-failed; err != nil || n == 0 {
			t.Errorf("after %d upgrades: %v", n, err)
		}
		return n
	}
}
