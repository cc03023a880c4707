package build_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"vrafs/backend/localfs"
	"vrafs/build"
	"vrafs/internal/bootload"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// openImage opens an image with the blobs in dir as input of an operation.
func openImage(t *testing.T, bootstrap, dir string) build.Image {
	t.Helper()
	b, err := bootload.Open(opener.Local(), bootstrap)
	steps(t, err)
	t.Cleanup(func() { b.Close() })
	blobs, err := localfs.New(opener.Local(), localfs.Options{Dir: dir})
	steps(t, err)
	return build.Image{Name: b.Name, Data: b.Bytes(), Blobs: blobs}
}

func made(t *testing.T, im *testimage.Image) build.Image {
	return openImage(t, im.Bootstrap, im.BlobDir)
}

// smallSource is a directory with two files.
func smallSource(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	steps(t, file("a", strings.Repeat("some data ", 2000))(dir), file("b", "b")(dir))
	return dir
}

// imageKinds are options that between them use every way to store a chunk.
var imageKinds = map[string]testimage.Options{
	"v5 lz4 sha256":        {Version: rafs.V5, Compressor: rafs.CompressorLZ4, Digester: rafs.DigesterSHA256},
	"v5 none":              {Version: rafs.V5},
	"v6 none":              {},
	"v6 zstd inline":       {Compressor: rafs.CompressorZstd, Layout: testimage.InlineTOC},
	"v6 zstd small chunks": {Compressor: rafs.CompressorZstd, ChunkSize: 0x1000, Layout: testimage.Inline},
	"v6 batch":             {Compressor: rafs.CompressorLZ4, BatchSize: 0x10000},
	"v6 encrypted batch":   {Compressor: rafs.CompressorZstd, BatchSize: 0x10000, Encrypt: true},
}

// quickTree has every kind of entry and little data: each test reads it many times.
func quickTree(seed uint64) testtree.Options {
	return testtree.Options{Seed: seed, Entries: 600, BigDir: 200, DataBytes: 1 << 20}
}

// largeTree is the large tree, in the long run with its huge file, which takes as
// long as all the rest.
func largeTree(seed uint64) testtree.Options {
	o := testtree.Large(seed)
	o.HugeSparse = testenv.Soak()
	return o
}

// unpacked unpacks an image straight into a build and gives the tree of that, and
// the sockets that were left out.
func unpacked(t *testing.T, im build.Image, o build.Options) ([]testtree.Entry, map[string]bool) {
	t.Helper()
	sockets := map[string]bool{}
	r, w := io.Pipe()
	go func() {
		w.CloseWithError(build.Unpack(t.Context(), im, w, build.UnpackOptions{Skipped: func(p string) { sockets[p[1:]] = true }}))
	}()
	defer r.Close()
	return buildStream(t, r, build.TypeTar, o), sockets
}

// checkUnpacked compares an image with what building its tar gives.
func checkUnpacked(t *testing.T, o testimage.Options) {
	t.Helper()
	im := testimage.Make(t, o)
	again, sockets := unpacked(t, made(t, im), build.Options{Version: o.Version, ChunkSize: o.ChunkSize})
	if len(sockets) == 0 {
		t.Error("the tree has no socket to leave out")
	}
	var want []testtree.Entry
	for _, e := range im.Scan(t) {
		if !sockets[e.Path] {
			want = append(want, e)
		}
	}
	testimage.Compare(t, want, again, testtree.DiffOptions{})
}

func TestUnpackedImageBuildsTheSameTree(t *testing.T) {
	testenv.Need(t, testenv.Root)
	tree := testtree.Make(t, quickTree(11))
	for name, o := range imageKinds {
		t.Run(name, func(t *testing.T) {
			o.Source = tree
			checkUnpacked(t, o)
		})
	}
}

func TestLargeImageUnpacksAndExportsIdentical(t *testing.T) {
	testenv.Need(t, testenv.Root)
	testenv.Long(t)
	tree := testtree.Make(t, largeTree(11))
	t.Run("unpack", func(t *testing.T) {
		checkUnpacked(t, testimage.Options{Compressor: rafs.CompressorLZ4, Layout: testimage.InlineTOC, Source: tree})
	})
	t.Run("export", func(t *testing.T) {
		testenv.Need(t, testenv.Erofs)
		checkExported(t, testimage.Options{Compressor: rafs.CompressorZstd, Source: tree})
	})
}

func TestUnpackedTarIsTheSameForTheSameImage(t *testing.T) {
	testenv.Need(t, testenv.Root)
	im := testimage.Make(t, testimage.Options{Compressor: rafs.CompressorZstd, ChunkSize: 0x1000, Tree: quickTree(12)})
	var tars [2]bytes.Buffer
	for i, workers := range []int{1, 8} {
		steps(t, build.Unpack(t.Context(), made(t, im), &tars[i], build.UnpackOptions{Workers: workers}))
	}
	if !bytes.Equal(tars[0].Bytes(), tars[1].Bytes()) {
		t.Error("1 and 8 workers give different tars")
	}
}

func TestReadBootstrapFindsItInEveryLayout(t *testing.T) {
	testenv.Need(t, testenv.Root)
	tree := smallSource(t)
	for _, layout := range []testimage.Layout{testimage.Separate, testimage.Inline, testimage.InlineTOC} {
		im := testimage.Make(t, testimage.Options{Layout: layout, Source: tree})
		files, err := localfs.New(opener.Local(), localfs.Options{File: im.Bootstrap})
		steps(t, err)
		b, err := files.Open(t.Context(), "any")
		steps(t, err)
		defer b.Close()
		got, err := build.ReadBootstrap(t.Context(), b)
		steps(t, err)
		if want := made(t, im).Data; !bytes.Equal(got, want) {
			t.Errorf("layout %d: %d bytes, want %d", layout, len(got), len(want))
		}
	}
}
