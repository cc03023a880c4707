package vm

import (
	"os"
	"path/filepath"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testtree"
	"vrafs/test/vm/guestapi"
)

// TestImagesComeAndGoUnderALiveGuest mounts and unmounts images through the API of
// a daemon that started empty, as Kata does for every container.
func TestImagesComeAndGoUnderALiveGuest(t *testing.T) {
	needVM(t)
	tree := testtree.Make(t, testtree.Small(4))
	var images [2]*image
	for i, part := range []string{"names", "xattrs"} {
		part = filepath.Join(tree, part)
		check(t, os.WriteFile(filepath.Join(part, "which"), []byte(part), 0o644))
		images[i] = makeImage(t, variants[i], part)
	}
	a, b := images[0], images[1]
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
				im := images[round%2]
				check(t, d.Mount(t.Context(), "/first", im.Bootstrap, im.BlobDir))
				isImage(t, m, s, "/first", im)
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

// isImage fails the test unless the file that tells the images apart is im's.
func isImage(t *testing.T, m *Machine, s *share, place string, im *image) {
	t.Helper()
	r := call[guestapi.ReadAtResult](t, m, guestapi.ReadAt, guestapi.ReadAtArgs{Path: s.dir() + place + "/which", Offsets: []int64{0}, Length: 4096})
	if r.Digests[0] != hexDigest([]byte(im.Tree)) {
		t.Errorf("%s is not the image of %s", place, im.Tree)
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
