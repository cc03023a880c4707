package build_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vrafs/build"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// layered merges small layers, each with a file of its own, one that the next
// layer replaces, and one that all share. It gives the merged image and its blobs.
func layered(t *testing.T, layers int, o build.Options) (bootstrap, blobs string) {
	t.Helper()
	blobs = t.TempDir()
	var list []build.Layer
	for i := range layers {
		dir := t.TempDir()
		for _, c := range []change{
			file(fmt.Sprint("own", i), strings.Repeat(fmt.Sprint("own ", i), 3000)),
			file("replaced", strings.Repeat(fmt.Sprint("replaced by ", i), 9000)),
			file(fmt.Sprint("shared", i), strings.Repeat("in every layer", 2000)),
		} {
			if err := c(dir); err != nil {
				t.Fatal(err)
			}
		}
		list = append(list, buildLayer(t, dir, blobs, o))
	}
	bootstrap = filepath.Join(t.TempDir(), "merged")
	if _, err := build.Merge(t.Context(), list, build.Sink{Bootstrap: bootstrap}, build.MergeOptions{}); err != nil {
		t.Fatal(err)
	}
	return bootstrap, blobs
}

func scan(t *testing.T, bootstrap, blobs string) []testtree.Entry {
	t.Helper()
	entries, err := testimage.Scan(bootstrap, blobs)
	steps(t, err)
	return entries
}

func TestCompactMergesSmallBlobsAndKeepsTheTree(t *testing.T) {
	testenv.Need(t, testenv.Root)
	for _, o := range []build.Options{
		{Version: rafs.V5, Compressor: rafs.CompressorLZ4},
		{Compressor: rafs.CompressorZstd},
		{Compressor: rafs.CompressorZstd, BatchSize: 0x10000},
	} {
		bootstrap, blobs := layered(t, 3, o)
		before := scan(t, bootstrap, blobs)
		out := filepath.Join(t.TempDir(), "compact")
		into := t.TempDir()
		r, err := build.Compact(t.Context(), openImage(t, bootstrap, blobs), build.Sink{Bootstrap: out, BlobDir: into},
			build.CompactOptions{CompactBlobSize: 10 << 20, MaxCompactSize: 100 << 20})
		steps(t, err)
		if len(r.Blobs) != 1 {
			t.Errorf("blobs %q, want one", r.Blobs)
		}
		testimage.Compare(t, before, scan(t, out, into), testtree.DiffOptions{})
	}
}

func TestCompactRebuildsBlobsWithFewUsedChunks(t *testing.T) {
	testenv.Need(t, testenv.Root)
	bootstrap, blobs := layered(t, 2, build.Options{})
	before := scan(t, bootstrap, blobs)
	im := openImage(t, bootstrap, blobs)
	for _, tt := range []struct {
		ratio   int
		rebuilt bool
	}{{1, false}, {90, true}} {
		out := filepath.Join(t.TempDir(), "compact")
		r, err := build.Compact(t.Context(), im, build.Sink{Bootstrap: out, BlobDir: blobs}, build.CompactOptions{MinUsedRatio: tt.ratio})
		steps(t, err)
		img, err := rafs.Open(im.Data, rafs.Options{Name: im.Name})
		steps(t, err)
		if kept := slices.Contains(r.Blobs, img.Blobs()[0].ID); kept == tt.rebuilt {
			t.Errorf("ratio %d: the blob with the replaced file kept: %v", tt.ratio, kept)
		}
		testimage.Compare(t, before, scan(t, out, blobs), testtree.DiffOptions{})
	}
}

func TestOptimizeCopiesListedFilesIntoOneBlob(t *testing.T) {
	testenv.Need(t, testenv.Root)
	for _, o := range []build.Options{{Version: rafs.V5, Compressor: rafs.CompressorZstd}, {Compressor: rafs.CompressorZstd}} {
		bootstrap, blobs := layered(t, 2, o)
		before := scan(t, bootstrap, blobs)
		out := filepath.Join(t.TempDir(), "optimized")
		files := []build.PrefetchFile{{Path: "/own0"}, {Path: "/replaced", Ranges: [][2]uint64{{10, 1}}}}
		r, err := build.Optimize(t.Context(), openImage(t, bootstrap, blobs), files, build.Sink{Bootstrap: out, BlobDir: blobs})
		steps(t, err)
		last := r.Blobs[len(r.Blobs)-1]
		if len(r.Blobs) != 3 || r.BlobID != last {
			t.Fatalf("blobs %q, new %q: want the new one last of 3", r.Blobs, r.BlobID)
		}
		testimage.Compare(t, before, scan(t, out, blobs), testtree.DiffOptions{})
		im := openImage(t, out, blobs)
		img, err := rafs.Open(im.Data, rafs.Options{Name: im.Name})
		steps(t, err)
		if b := img.Blobs()[2]; o.Version != rafs.V5 && (b.ChunkCount != 2 || !b.Features.Has(rafs.BlobSeparatedPrefetch)) {
			t.Errorf("prefetch blob has %d chunks and features %v", b.ChunkCount, b.Features)
		}
	}
}

func TestCompactRefusesDamagedChunks(t *testing.T) {
	testenv.Need(t, testenv.Root)
	bootstrap, blobs := layered(t, 2, build.Options{})
	list, err := os.ReadDir(blobs)
	steps(t, err)
	for _, e := range list {
		f, err := os.OpenFile(filepath.Join(blobs, e.Name()), os.O_WRONLY, 0)
		steps(t, err)
		if _, err := f.WriteAt([]byte("damage"), 100); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	into := t.TempDir()
	out := filepath.Join(into, "compact")
	_, err = build.Compact(t.Context(), openImage(t, bootstrap, blobs), build.Sink{Bootstrap: out, BlobDir: into}, build.CompactOptions{CompactBlobSize: 1 << 20, MaxCompactSize: 1 << 20})
	if err == nil || !strings.Contains(err.Error(), "chunk does not match its digest") {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(into); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestChunkDictHoldsWhatImagesShareAndBuildsUseIt(t *testing.T) {
	testenv.Need(t, testenv.Root)
	blobs := t.TempDir()
	var images []build.Image
	for i := range 2 {
		dir := t.TempDir()
		for _, c := range []change{file("shared", strings.Repeat("in both", 3000)), file("own", strings.Repeat(fmt.Sprint(i), 3000))} {
			if err := c(dir); err != nil {
				t.Fatal(err)
			}
		}
		images = append(images, buildLayer(t, dir, blobs, build.Options{}).Image)
	}
	dict := filepath.Join(t.TempDir(), "dict")
	r, err := build.ChunkDict(t.Context(), images, build.Sink{Bootstrap: dict}, build.ChunkDictOptions{})
	steps(t, err)
	if want := []string{images[0].Name}; !slices.Equal(r.Blobs, want) {
		t.Errorf("blobs %q, want %q", r.Blobs, want)
	}
	dir := t.TempDir()
	for _, c := range []change{file("a", strings.Repeat("in both", 3000)), file("b", "new")} {
		if err := c(dir); err != nil {
			t.Fatal(err)
		}
	}
	in := openImage(t, dict, blobs)
	out := filepath.Join(t.TempDir(), "image")
	res, err := build.Build(t.Context(), build.Dir(dir), build.Sink{Bootstrap: out, BlobDir: blobs}, build.Options{ChunkDict: &in})
	steps(t, err)
	if len(res.Blobs) != 2 || !slices.Contains(res.Blobs, images[0].Name) || res.DedupCount != 1 {
		t.Errorf("blobs %q, %d chunks shared: want the dictionary's blob and one chunk", res.Blobs, res.DedupCount)
	}
	want, err := testtree.Scan(dir, testtree.ScanOptions{})
	steps(t, err)
	testimage.Compare(t, want, scan(t, out, blobs), testtree.DiffOptions{SkipRoot: true})
}

func TestStatCountsSharedChunksOnce(t *testing.T) {
	testenv.Need(t, testenv.Root)
	blobs := t.TempDir()
	var images []build.Image
	for i := range 2 {
		dir := t.TempDir()
		for _, c := range []change{file("shared", strings.Repeat("in both", 3000)), file("again", strings.Repeat("in both", 3000)),
			file("own", strings.Repeat(fmt.Sprint(i), 5000)), directory("d", 0o755), symlink("s", "own")} {
			if err := c(dir); err != nil {
				t.Fatal(err)
			}
		}
		images = append(images, buildLayer(t, dir, blobs, build.Options{}).Image)
	}
	r, err := build.Stat(t.Context(), images[:1], &images[1], build.StatOptions{})
	steps(t, err)
	got := r.Target
	got.ChunkSizes, got.FileSizes = [9]uint64{}, [45]uint64{}
	want := build.ImageStat{Dirs: 2, Files: 3, Symlinks: 1, Chunks: 3, FileSize: 47000, CompSize: 47000, UncompSize: 47000, PaddingSize: 2*3576 + 3192,
		DedupChunks: 2, DedupCompSize: 26000, DedupUncompSize: 26000, DedupPaddingSize: 3576 + 3192,
		OwnChunks: 1, OwnCompSize: 5000, OwnUncompSize: 5000, RefChunks: 1, RefCompSize: 21000, RefUncompSize: 21000}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if r.Target.ChunkSizes != [9]uint64{1: 1, 3: 2} || r.Target.FileSizes != [45]uint64{13: 1, 15: 2} {
		t.Errorf("histograms %v %v", r.Target.ChunkSizes, r.Target.FileSizes)
	}
}
