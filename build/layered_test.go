package build_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/build"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// mountOverlay mounts upper over lower (topmost first, joined by colons).
func mountOverlay(t *testing.T, lower, upper string) string {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.Overlay)
	work, merged := filepath.Join(t.TempDir(), "work"), t.TempDir()
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	opts := "lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work + ",redirect_dir=off,metacopy=off,index=off,xino=off"
	if err := unix.Mount("overlay", merged, "overlay", 0, opts); err != nil {
		t.Fatalf("mount overlay: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(merged, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return merged
}

// steps runs f on root and stops the test at an error.
func steps(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// changeTree does to a mounted tree what image layers do: it deletes, replaces,
// changes types, adds, and empties directories.
func changeTree(t *testing.T, root string) {
	t.Helper()
	at := func(p string) string { return filepath.Join(root, p) }
	steps(t,
		os.RemoveAll(at("big")),                            // a large directory goes
		os.Mkdir(at("big"), 0o750),                         // and comes back opaque
		os.WriteFile(at("big/only"), []byte("one"), 0o640), //
		os.RemoveAll(at("deep")),                           // a directory becomes a file
		os.WriteFile(at("deep"), []byte("flat"), 0o644),    //
		os.RemoveAll(at("times")),                          // a directory goes for good
		os.Remove(at("kinds/one-byte")),                    // a file becomes a directory
		os.MkdirAll(at("kinds/one-byte/sub"), 0o711),       //
		os.Chmod(at("xattrs"), 0o500),                      // only attributes change
		os.WriteFile(at("added"), []byte("new"), 0o600),    //
		os.Link(at("added"), at("added-too")),              //
		os.Symlink("added", at("added-link")),              //
		os.MkdirAll(at("fresh/a/b"), 0o755),                //
		os.WriteFile(at("fresh/a/b/c"), bytes.Repeat([]byte("x"), 3<<20), 0o644),
		unix.Lsetxattr(at("fresh"), "trusted.note", []byte("kept"), 0),
	)
}

// layers is a lower tree, an upper directory as overlayfs leaves it, and the
// tree that both together show.
func layers(t *testing.T) (lower, upper string, merged []testtree.Entry) {
	t.Helper()
	lower, upper = smallTree(t), t.TempDir()
	steps(t, os.Chmod(upper, 0o755))
	root := mountOverlay(t, lower, upper)
	for _, p := range []string{"big", "deep", "times", "kinds/one-byte", "xattrs"} {
		if _, err := os.Lstat(filepath.Join(root, p)); err != nil {
			t.Fatalf("the tree lacks what this test changes: %v", err)
		}
	}
	changeTree(t, root)
	merged, err := testtree.Scan(root, testtree.ScanOptions{})
	steps(t, err)
	return lower, upper, merged
}

// ociWhiteouts turns the whiteouts of overlayfs in dir into those of OCI.
func ociWhiteouts(t *testing.T, dir string) {
	t.Helper()
	steps(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		steps(t, unix.Lstat(p, &st))
		if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
			steps(t, os.Remove(p))
			return os.WriteFile(filepath.Join(filepath.Dir(p), ".wh."+d.Name()), nil, 0o600)
		}
		var v [8]byte
		if n, err := unix.Lgetxattr(p, "trusted.overlay.opaque", v[:]); err == nil && string(v[:n]) == "y" {
			steps(t, unix.Lremovexattr(p, "trusted.overlay.opaque"))
			return os.WriteFile(filepath.Join(p, ".wh..wh..opq"), nil, 0o600)
		}
		return nil
	}))
	// Notes that overlayfs leaves on what it copied up mean nothing to OCI.
	steps(t, filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		for _, name := range []string{"trusted.overlay.origin", "trusted.overlay.impure"} {
			if err := unix.Lremovexattr(p, name); err != nil && err != unix.ENODATA && err != unix.EPERM {
				return err
			}
		}
		return err
	}))
}

// readImage reads a bootstrap as input of another build.
func readImage(t *testing.T, path string) *build.Image {
	t.Helper()
	data, err := os.ReadFile(path)
	steps(t, err)
	return &build.Image{Name: filepath.Base(path), Data: data}
}

func TestLayerOnParentGivesTheOverlayTree(t *testing.T) {
	lower, upper, merged := layers(t)
	lowerTrees := map[rafs.Version]*testimage.Image{}
	for _, v := range []rafs.Version{rafs.V5, rafs.V6} {
		lowerTrees[v] = testimage.Make(t, testimage.Options{Source: lower, Version: v, Compressor: rafs.CompressorLZ4})
	}
	check := func(t *testing.T, v rafs.Version, src build.Source, spec build.WhiteoutSpec, diff testtree.DiffOptions) {
		t.Helper()
		base := lowerTrees[v]
		sink := build.Sink{BlobDir: base.BlobDir, Bootstrap: filepath.Join(t.TempDir(), "merged.boot")}
		res, err := build.Build(t.Context(), src, sink, build.Options{
			Version: v, Compressor: rafs.CompressorLZ4, Whiteout: spec, Parent: readImage(t, base.Bootstrap),
		})
		steps(t, err)
		if len(res.Blobs) != 2 || res.Blobs[0] != base.Result.BlobID || res.Blobs[1] != res.BlobID {
			t.Errorf("blobs %q, want those of the parent and the new one", res.Blobs)
		}
		got, err := testimage.Scan(sink.Bootstrap, base.BlobDir)
		steps(t, err)
		diff.SkipRoot = true
		testimage.Compare(t, testimage.Expected(merged, v), got, diff)
	}
	for _, v := range []rafs.Version{rafs.V5, rafs.V6} {
		check(t, v, build.Dir(upper), build.WhiteoutOverlayfs, testtree.DiffOptions{})
	}
	ociWhiteouts(t, upper)
	diff := testtree.DiffOptions{SkipDirTimes: true} // the whiteouts changed them
	check(t, rafs.V6, build.Dir(upper), build.WhiteoutOCI, diff)
	check(t, rafs.V6, build.Stream(build.TypeTar, bytes.NewReader(gnuTar(t, upper, "--format=pax")), "upper.tar"), build.WhiteoutOCI, diff)
}

func TestWhiteoutsOfTheLowestLayerVanish(t *testing.T) {
	dir := t.TempDir()
	steps(t,
		os.WriteFile(filepath.Join(dir, ".wh.gone"), nil, 0o644),
		os.Mkdir(filepath.Join(dir, "opaque"), 0o755),
		os.WriteFile(filepath.Join(dir, "opaque", ".wh..wh..opq"), nil, 0o644),
		os.WriteFile(filepath.Join(dir, "opaque", "kept"), nil, 0o644),
	)
	for spec, want := range map[build.WhiteoutSpec]int{build.WhiteoutOCI: 3, build.WhiteoutNone: 5} {
		im := filepath.Join(t.TempDir(), "image.boot")
		_, err := build.Build(t.Context(), build.Dir(dir), build.Sink{Bootstrap: im}, build.Options{Whiteout: spec})
		steps(t, err)
		got, err := testimage.Scan(im, "")
		steps(t, err)
		if len(got) != want {
			t.Errorf("spec %d: %d names, want %d: %v", spec, len(got), want, got)
		}
	}
}
