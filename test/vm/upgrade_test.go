package vm

import (
	"testing"
	"time"

	"vrafs/internal/testenv"
	"vrafs/internal/testtree"
	"vrafs/test/vm/guestapi"
)

// TestUpgradeUnderALiveGuest replaces the daemon's program again and again while the
// guest reads two images past its cache and compares every byte. It sees no error, and
// the tree is whole afterwards; files stay the ones that they were.
func TestUpgradeUnderALiveGuest(t *testing.T) {
	needVM(t)
	tree := testtree.Make(t, testtree.Small(6))
	a, b := makeImage(t, variants[0], tree), makeImage(t, variants[1], tree)
	for _, series := range Series {
		t.Run(series, func(t *testing.T) {
			d := startDaemon(t, DaemonOptions{})
			s := &share{tag: "kataShared", device: Filesystem{Socket: d.Socket, Queues: 2, Gone: d.Gone()}, manifest: a.manifest}
			m := bootWith(t, series, Options{}, s)
			s.mount(t, m)
			check(t, d.Mount(t.Context(), "/rafs/a/lowerdir", a.Bootstrap, a.BlobDir))
			check(t, d.Mount(t.Context(), "/rafs/b/lowerdir", b.Bootstrap, b.BlobDir))
			do(t, m, guestapi.LoadStart, guestapi.LoadArgs{Path: s.dir() + "/rafs/a/lowerdir", Manifest: s.manifestFile(), Readers: 4})
			worst := time.Duration(0)
			rounds := testenv.Rounds(100)
			for i := range rounds {
				do(t, m, guestapi.LoadWait, guestapi.LoadWaitArgs{Files: 5})
				pause, err := d.Upgrade(t.Context(), i+1)
				check(t, err)
				worst = max(worst, pause)
			}
			do(t, m, guestapi.LoadWait, guestapi.LoadWaitArgs{Files: 20})
			r := call[guestapi.LoadResult](t, m, guestapi.LoadStop, nil)
			if len(r.Errors) != 0 {
				t.Errorf("reads failed: %q", r.Errors)
			}
			t.Logf("%d upgrades, %d files read meanwhile, longest pause %v", rounds, r.Files, worst)
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
