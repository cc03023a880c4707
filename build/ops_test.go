package build_test

import (
	"bytes"
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

func TestUnpackedImageBuildsTheSameTree(t *testing.T) {
	testenv.Need(t, testenv.Root)
	for name, o := range imageKinds {
		t.Run(name, func(t *testing.T) {
			o.Tree = testtree.Small(11)
			im := testimage.Make(t, o)
			var tar bytes.Buffer
			sockets := map[string]bool{}
			err := build.Unpack(t.Context(), made(t, im), &tar, build.UnpackOptions{Skipped: func(p string) { sockets[p[1:]] = true }})
			if err != nil {
				t.Fatal(err)
			}
			again := buildStream(t, bytes.NewReader(tar.Bytes()), build.TypeTar, build.Options{Version: o.Version, ChunkSize: o.ChunkSize})
			var want []testtree.Entry
			for _, e := range im.Scan(t) {
				if !sockets[e.Path] {
					want = append(want, e)
				}
			}
			if len(sockets) == 0 {
				t.Error("the tree has no socket to leave out")
			}
			testimage.Compare(t, want, again, testtree.DiffOptions{})
		})
	}
}

func TestUnpackedTarIsTheSameForTheSameImage(t *testing.T) {
	testenv.Need(t, testenv.Root)
	im := testimage.Make(t, testimage.Options{Compressor: rafs.CompressorZstd, Tree: testtree.Small(12)})
	var tars [2]bytes.Buffer
	for i, workers := range []int{1, 8} {
		if err := build.Unpack(t.Context(), made(t, im), &tars[i], build.UnpackOptions{Workers: workers}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(tars[0].Bytes(), tars[1].Bytes()) {
		t.Error("1 and 8 workers give different tars")
	}
}

func TestReadBootstrapFindsItInEveryLayout(t *testing.T) {
	testenv.Need(t, testenv.Root)
	for _, layout := range []testimage.Layout{testimage.Separate, testimage.Inline, testimage.InlineTOC} {
		im := testimage.Make(t, testimage.Options{Layout: layout, Tree: testtree.Small(13)})
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
