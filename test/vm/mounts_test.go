package vm

import (
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testtree"
	"vrafs/test/vm/guestapi"
)

// TestImagesComeAndGoUnderALiveGuest mounts and unmounts images through the API of
// a daemon that started empty, as Kata does for every container.
func TestImagesComeAndGoUnderALiveGuest(t *testing.T) {
	needVM(t)
	images := map[string]*image{}
	for seed, v := range variants[:2] {
		tree := testtree.Make(t, testtree.Options{Seed: uint64(seed), Entries: 600, BigDir: 20, DataBytes: 1 << 20})
		addProgram(t, tree)
		images[v.name] = makeImage(t, v, tree)
	}
	a, b := images[variants[0].name], images[variants[1].name]
	for _, series := range Series {
		t.Run(series, func(t *testing.T) {
			d := startDaemon(t, DaemonOptions{})
			s := &share{tag: "kataShared", device: Filesystem{Socket: d.Socket, Gone: d.Gone()}, manifest: a.manifest}
			m := bootWith(t, series, Options{Files: map[string][]byte{"a": a.manifest, "b": b.manifest}}, s)
			s.mount(t, m)

			check(t, d.Mount(t.Context(), "/first", a.Bootstrap, a.BlobDir))
			seen(t, m, s, "/first", "a")
			check(t, d.Mount(t.Context(), "/containers/second", b.Bootstrap, b.BlobDir))
			seen(t, m, s, "/containers/second", "b")
			seen(t, m, s, "/first", "a")

			check(t, d.Unmount(t.Context(), "/first"))
			gone(t, m, s, "/first")
			seen(t, m, s, "/containers/second", "b")

			// The same place shows another image at once, round after round.
			for round := range testenv.Rounds(300) {
				im, name := a, "a"
				if round%2 == 1 {
					im, name = b, "b"
				}
				check(t, d.Mount(t.Context(), "/first", im.Bootstrap, im.BlobDir))
				if round < 2 {
					seen(t, m, s, "/first", name)
				} else {
					runs(t, m, s, "/first")
				}
				check(t, d.Unmount(t.Context(), "/first"))
				gone(t, m, s, "/first")
			}
			seen(t, m, s, "/containers/second", "b")
		})
	}
}

// seen fails the test unless the guest sees the image with that manifest at place.
func seen(t *testing.T, m *Machine, s *share, place, manifest string) {
	t.Helper()
	compare(t, m, guestapi.CompareArgs{Path: s.dir() + place, Manifest: guestapi.FilesDir + "/" + manifest})
}

// runs executes the program in the image at place.
func runs(t *testing.T, m *Machine, s *share, place string) {
	t.Helper()
	argv := []string{s.dir() + place + "/" + programInTree}
	if r := call[guestapi.RunResult](t, m, guestapi.Run, guestapi.RunArgs{Argv: argv}); r.Output != argv[0]+"\n" {
		t.Errorf("exit code %d, output %q", r.Code, r.Output)
	}
}

// gone fails the test if anything of an image is left at place. The directory
// itself may stay, empty.
func gone(t *testing.T, m *Machine, s *share, place string) {
	t.Helper()
	var r guestapi.ListResult
	err := m.Call(guestapi.List, guestapi.PathArgs{Path: s.dir() + place}, &r)
	if err == nil && len(r.Names) > 0 {
		t.Errorf("%s was unmounted and still shows %v", place, r.Names)
	}
}
