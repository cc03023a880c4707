package build_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/build"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// A change is one step of making a layer: it works in the layer's directory.
type change func(dir string) error

func file(name, data string) change {
	return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(data), 0o640) }
}

func directory(name string, mode uint32) change {
	return func(dir string) error { return unix.Mkdir(filepath.Join(dir, name), mode) }
}

func symlink(name, target string) change {
	return func(dir string) error { return os.Symlink(target, filepath.Join(dir, name)) }
}

func hardLink(from, to string) change {
	return func(dir string) error { return os.Link(filepath.Join(dir, from), filepath.Join(dir, to)) }
}

func device(name string, mode uint32, major, minor uint32) change {
	return func(dir string) error {
		return unix.Mknod(filepath.Join(dir, name), mode, int(unix.Mkdev(major, minor)))
	}
}

// deleted is an overlayfs whiteout.
func deleted(name string) change { return device(name, unix.S_IFCHR, 0, 0) }

// opaque makes a directory hide what is below.
func opaque(name string) change {
	return func(dir string) error {
		return unix.Setxattr(filepath.Join(dir, name), "trusted.overlay.opaque", []byte("y"), 0)
	}
}

// overlayLayers are three layers in which everything happens that layers can do
// to each other.
var overlayLayers = [][]change{
	{
		directory("dir", 0o755), file("dir/kept", "one"), file("dir/replaced", "one"), file("dir/deleted", "one"),
		directory("opaque", 0o700), file("opaque/hidden", "x"), directory("opaque/below", 0o755), file("opaque/below/hidden", "x"),
		directory("gone", 0o755), file("gone/with", "it"),
		directory("becomes-file", 0o755), file("becomes-file/inside", "x"),
		file("becomes-dir", "x"), symlink("becomes-regular", "dir"), file("becomes-symlink", "x"),
		file("link-a", "linked data"), hardLink("link-a", "dir/link-b"), hardLink("link-a", "link-c"),
		directory("deep", 0o755), directory("deep/er", 0o755), file("deep/er/est", "bottom"),
		device("null", unix.S_IFCHR|0o666, 1, 3), file("same", strings.Repeat("shared ", 4000)),
	},
	{
		directory("dir", 0o750), file("dir/replaced", "two"), deleted("dir/deleted"), file("dir/new", "two"),
		directory("opaque", 0o711), opaque("opaque"), file("opaque/visible", "two"), directory("opaque/below", 0o755), file("opaque/below/new", "y"),
		deleted("gone"), file("becomes-file", "now a file"), directory("becomes-dir", 0o755), file("becomes-dir/inside", "two"),
		file("becomes-regular", "was a symlink"), symlink("becomes-symlink", "dir/kept"),
		deleted("link-c"), file("same-again", strings.Repeat("shared ", 4000)), device("null", unix.S_IFCHR|0o600, 1, 3),
		directory("deep", 0o755), directory("deep/er", 0o555),
	},
	{
		directory("gone", 0o700), file("gone/back", "three"), directory("dir", 0o755), deleted("dir/kept"),
		file("dir/deleted", "is back"), directory("becomes-file", 0o755), file("becomes-file/again", "x"),
		directory("deep", 0o755), directory("deep/er", 0o755), deleted("deep/er/est"), file("deep/er/after", "three"),
		file("link-a", "link broken in this layer"), directory("opaque", 0o711), file("opaque/late", "three"),
	},
}

// makeLayers makes the directories of overlayLayers.
func makeLayers(t *testing.T) []string {
	t.Helper()
	var dirs []string
	for i, changes := range overlayLayers {
		dir := filepath.Join(t.TempDir(), fmt.Sprint("layer", i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			if err := c(dir); err != nil {
				t.Fatal(err)
			}
		}
		dirs = append(dirs, dir)
	}
	return dirs
}

// scanOverlay is the tree that the kernel's overlayfs makes of layers.
func scanOverlay(t *testing.T, layers []string) []testtree.Entry {
	t.Helper()
	lower := slices.Clone(layers)
	slices.Reverse(lower)
	dir := t.TempDir()
	if err := unix.Mount("overlay", dir, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(lower, ":")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, 0)
	entries, err := testtree.Scan(dir, testtree.ScanOptions{})
	steps(t, err)
	return entries
}

// unlinked forgets hard links: overlayfs shows the lower file's number of links,
// also of those an upper layer took away.
func unlinked(entries []testtree.Entry) []testtree.Entry {
	for i := range entries {
		if entries[i].Link == "" {
			entries[i].Nlink = 0
		}
	}
	return entries
}

// buildLayer builds dir alone, with its whiteouts kept as they are.
func buildLayer(t *testing.T, dir, blobs string, o build.Options) build.Layer {
	t.Helper()
	o.Whiteout, o.InlineMeta = build.WhiteoutNone, true
	path := filepath.Join(t.TempDir(), "layer")
	r, err := build.Build(t.Context(), build.Dir(dir), build.Sink{Blob: path}, o)
	steps(t, err)
	to := filepath.Join(blobs, r.BlobID)
	if err := os.Rename(path, to); err != nil {
		t.Fatal(err)
	}
	return build.Layer{Image: openImage(t, to, blobs)}
}

func TestMergedLayersAreTheTreeOfOverlayfs(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.Overlay, testenv.TrustedAttr)
	for _, v := range []rafs.Version{rafs.V5, rafs.V6} {
		t.Run(fmt.Sprint("v", v), func(t *testing.T) {
			dirs, blobs := makeLayers(t), t.TempDir()
			var layers []build.Layer
			for _, dir := range dirs {
				layers = append(layers, buildLayer(t, dir, blobs, build.Options{Version: v, Compressor: rafs.CompressorZstd}))
			}
			out := filepath.Join(t.TempDir(), "merged")
			r, err := build.Merge(t.Context(), layers, build.Sink{Bootstrap: out}, build.MergeOptions{Whiteout: build.WhiteoutOverlayfs})
			steps(t, err)
			if len(r.Blobs) != 3 {
				t.Errorf("blobs %q, want one per layer", r.Blobs)
			}
			got, err := testimage.Scan(out, blobs)
			steps(t, err)
			testimage.Compare(t, unlinked(scanOverlay(t, dirs)), unlinked(got), testtree.DiffOptions{SkipRoot: true})
		})
	}
}

func TestMergedTreesAreTheTreeOfOverlayfs(t *testing.T) {
	lower, upper, merged := layers(t)
	blobs := t.TempDir()
	check := func(spec build.WhiteoutSpec, diff testtree.DiffOptions) {
		t.Helper()
		list := []build.Layer{buildLayer(t, lower, blobs, build.Options{Compressor: rafs.CompressorLZ4}),
			buildLayer(t, upper, blobs, build.Options{Compressor: rafs.CompressorLZ4})}
		out := filepath.Join(t.TempDir(), "merged")
		_, err := build.Merge(t.Context(), list, build.Sink{Bootstrap: out}, build.MergeOptions{Whiteout: spec})
		steps(t, err)
		testimage.Compare(t, merged, scan(t, out, blobs), diff)
	}
	check(build.WhiteoutOverlayfs, testtree.DiffOptions{SkipRoot: true})
	ociWhiteouts(t, upper)
	check(build.WhiteoutOCI, testtree.DiffOptions{SkipRoot: true, SkipDirTimes: true})
}

func TestMergeDropsBlobsNothingRefersTo(t *testing.T) {
	testenv.Need(t, testenv.Root)
	blobs := t.TempDir()
	lower, upper := t.TempDir(), t.TempDir()
	for _, c := range []error{file("a", "lower")(lower), file("a", "upper")(upper)} {
		if c != nil {
			t.Fatal(c)
		}
	}
	layers := []build.Layer{buildLayer(t, lower, blobs, build.Options{}), buildLayer(t, upper, blobs, build.Options{})}
	r, err := build.Merge(t.Context(), layers, build.Sink{Bootstrap: filepath.Join(t.TempDir(), "m")}, build.MergeOptions{})
	steps(t, err)
	if want := []string{layers[1].Name}; !slices.Equal(r.Blobs, want) {
		t.Errorf("blobs %q, want %q", r.Blobs, want)
	}
}

func TestMergePutsBlobsOfTheDictionaryFirst(t *testing.T) {
	testenv.Need(t, testenv.Root)
	blobs := t.TempDir()
	shared := file("zz", strings.Repeat("from the dictionary", 1000))
	first, second := t.TempDir(), t.TempDir()
	steps(t, shared(first), file("aa", "own")(second), shared(second))
	dict := buildLayer(t, first, blobs, build.Options{})
	layer := buildLayer(t, second, blobs, build.Options{ChunkDict: &dict.Image})
	out := filepath.Join(t.TempDir(), "m")
	r, err := build.Merge(t.Context(), []build.Layer{layer}, build.Sink{Bootstrap: out}, build.MergeOptions{ChunkDict: &dict.Image})
	steps(t, err)
	if want := []string{dict.Name, layer.Name}; !slices.Equal(r.Blobs, want) {
		t.Errorf("blobs %q, want the dictionary's first: %q", r.Blobs, want)
	}
	if _, err := build.Merge(t.Context(), []build.Layer{layer}, build.Sink{Bootstrap: out}, build.MergeOptions{}); !errors.Is(err, build.ErrSource) {
		t.Errorf("two blobs of its own in one layer: %v", err)
	}
	want, err := testtree.Scan(second, testtree.ScanOptions{})
	steps(t, err)
	testimage.Compare(t, want, scan(t, out, blobs), testtree.DiffOptions{SkipRoot: true})
}

func TestMergeTakesIDsAndSizesFromTheRegistry(t *testing.T) {
	testenv.Need(t, testenv.Root)
	blobs, dir := t.TempDir(), t.TempDir()
	if err := file("a", "data")(dir); err != nil {
		t.Fatal(err)
	}
	layer := buildLayer(t, dir, blobs, build.Options{})
	id, toc := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	layer.BlobDigest, layer.OriginalBlobID = "sha256:"+id, "overridden"
	layer.BlobSize, layer.TOCDigest, layer.TOCSize = 123456, toc, 1024
	out := filepath.Join(t.TempDir(), "m")
	if _, err := build.Merge(t.Context(), []build.Layer{layer}, build.Sink{Bootstrap: out}, build.MergeOptions{}); err != nil {
		t.Fatal(err)
	}
	im := openImage(t, out, blobs)
	img, err := rafs.Open(im.Data, rafs.Options{Name: im.Name})
	steps(t, err)
	b := img.Blobs()[0]
	if b.ID != id || b.CompressedSize != 123456 || b.TOCDigest.String() != toc || b.TOCSize != 1024 || b.Features.Has(rafs.BlobInlinedFSMeta) {
		t.Errorf("blob %+v", b)
	}
}

func TestMergeRefusesLayersThatDoNotFitTogether(t *testing.T) {
	testenv.Need(t, testenv.Root)
	blobs, dir := t.TempDir(), t.TempDir()
	if err := file("a", "data")(dir); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		a, b build.Options
		want string
	}{
		{"versions", build.Options{Version: rafs.V5}, build.Options{Version: rafs.V6}, "version 5 and 6"},
		{"chunk sizes", build.Options{}, build.Options{ChunkSize: 0x1000}, "chunk size 0x100000 and 0x1000"},
		{"owners", build.Options{}, build.Options{Repeatable: true}, "explicit owners in one and not in the other"},
		{"v5 digesters", build.Options{Version: rafs.V5}, build.Options{Version: rafs.V5, Digester: rafs.DigesterSHA256}, "digester blake3 and sha256"},
		{"v5 compressors", build.Options{Version: rafs.V5}, build.Options{Version: rafs.V5, Compressor: rafs.CompressorZstd}, "compressor none and zstd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			layers := []build.Layer{buildLayer(t, dir, blobs, tt.a), buildLayer(t, dir, blobs, tt.b)}
			out := filepath.Join(t.TempDir(), "m")
			_, err := build.Merge(t.Context(), layers, build.Sink{Bootstrap: out}, build.MergeOptions{})
			if !errors.Is(err, build.ErrInconsistent) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("a bootstrap was written")
			}
		})
	}
}
