package devfuse_test

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/mountfs"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// TestWholeTreesReadBack compares the tree of the project's promises and a Debian
// with what the kernel shows of their images: with nothing cached, out of the
// kernel's caches, out of ours, and as the lower layer of an overlay.
func TestWholeTreesReadBack(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE, testenv.Overlay)
	testenv.Long(t)
	for i, source := range []struct {
		name string
		dir  func(testing.TB) string
	}{
		{"large", func(t testing.TB) string { return testtree.Make(t, testtree.Large(4)) }},
		{"debian", testtree.DebianRoot},
	} {
		dir := source.dir(t)
		want, err := testtree.Scan(dir, testtree.ScanOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for k, o := range wholeImages(dir) {
			if !testenv.Soak() && k != 2*(i+1) {
				continue // two of twelve are enough
			}
			t.Run(fmt.Sprintf("%s_v%d_%v", source.name, o.Version, o.Compressor), func(t *testing.T) {
				readsBack(t, testimage.Make(t, o), testimage.Expected(want, o.Version))
			})
		}
	}
}

// wholeImages is every kind of image of a directory.
func wholeImages(dir string) (all []testimage.Options) {
	for _, v := range []rafs.Version{rafs.V5, rafs.V6} {
		for _, c := range []rafs.Compressor{rafs.CompressorNone, rafs.CompressorLZ4, rafs.CompressorZstd} {
			all = append(all, testimage.Options{Version: v, Compressor: c, Source: dir})
		}
	}
	return all
}

func readsBack(t *testing.T, im *testimage.Image, want []testtree.Entry) {
	t.Helper()
	m := mountImage(t, im, fusesrvtest.StackOptions{Tree: mountfs.Options{ImagesOnly: true, NoOpen: true}})
	for _, when := range []string{"nothing cached", "in the kernel's caches", "in our cache"} {
		if when == "in our cache" {
			dropCaches(t)
		}
		scanEqual(t, when, want, m.Dir(), testtree.DiffOptions{SkipRoot: true})
	}
	scanEqual(t, "under an overlay", want, mountOverlay(t, m.Dir()), testtree.DiffOptions{SkipRoot: true})
}

// mountOverlay mounts an overlay with a new upper layer over lower.
func mountOverlay(t *testing.T, lower string) (merged string) {
	t.Helper()
	merged = t.TempDir()
	layers := "lowerdir=" + lower + ",upperdir=" + t.TempDir() + ",workdir=" + t.TempDir()
	if err := unix.Mount("overlay", merged, "overlay", 0, layers); err != nil {
		t.Fatal("overlay: ", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(merged, unix.MNT_DETACH) })
	return merged
}

func scanEqual(t *testing.T, when string, want []testtree.Entry, dir string, o testtree.DiffOptions) {
	t.Helper()
	got, err := testtree.Scan(dir, testtree.ScanOptions{})
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	t.Logf("%s: %d names", when, len(got))
	testimage.Compare(t, want, got, o)
}
