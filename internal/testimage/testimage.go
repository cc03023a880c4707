// Package testimage makes small images for tests of other packages, and reads
// images back into the form in which testtree compares trees.
//
//	testtree ---> source directory --build--> bootstrap + blobs
//	                    |                          |
//	              testtree.Scan                  Scan
//	                    v                          v
//	                 []Entry  <----- Diff ----> []Entry
//
// Scan goes through package rafs and checks the digest of each chunk; it shares
// nothing with the caches that serve images. It reads images of any origin.
//
// Trust: the images that are made are the tests' own; Scan ends with an error on
// a malformed one. Concurrency: functions may run side by side. Source: the
// points to show of the image issue.
package testimage

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"vrafs/build"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// A Layout says where the bootstrap of an image is.
type Layout uint8

// Layouts.
const (
	Separate    Layout = iota // a file of its own
	SeparateTOC               // a file of its own, the blob has a table of contents
	Inline                    // at the end of the blob
	InlineTOC                 // in the blob, found by its table of contents
)

// Options choose an image. The zero value is version 6, uncompressed, BLAKE3,
// with a separate bootstrap, of the small tree.
type Options struct {
	Version    rafs.Version
	Compressor rafs.Compressor
	Digester   rafs.Digester
	ChunkSize  uint32 // 0: 1 MiB
	BatchSize  uint32
	Encrypt    bool
	Layout     Layout
	Prefetch   build.Prefetch
	// Source is the directory to build from; empty: a new tree as Tree says.
	Source string
	Tree   testtree.Options
}

// An Image is a finished image on disk.
type Image struct {
	// Bootstrap is a file that holds the bootstrap: itself, or the blob it is in.
	Bootstrap string
	BlobDir   string // blobs named by their ids
	Tree      string // the directory the image was made from
	Result    *build.Result

	expected func() ([]testtree.Entry, error)
}

// Make builds an image in a temporary directory of the test.
func Make(t testing.TB, o Options) *Image {
	t.Helper()
	im := &Image{Tree: o.Source}
	if im.Tree == "" {
		im.Tree = testtree.Make(t, o.Tree)
	}
	im.expected = sync.OnceValues(func() ([]testtree.Entry, error) {
		tree, err := testtree.Scan(im.Tree, testtree.ScanOptions{})
		return Expected(tree, im.Result.Version), err
	})
	dir := t.TempDir()
	im.BlobDir = filepath.Join(dir, "blobs")
	if err := os.Mkdir(im.BlobDir, 0o755); err != nil {
		t.Fatal(err)
	}
	sink := build.Sink{BlobDir: im.BlobDir}
	if o.Layout == Separate || o.Layout == SeparateTOC {
		sink.Bootstrap = filepath.Join(dir, "image.boot")
	}
	var err error
	im.Result, err = build.Build(t.Context(), build.Dir(im.Tree), sink, o.build())
	if err != nil {
		t.Fatalf("build an image of %s: %v", im.Tree, err)
	}
	im.Bootstrap = sink.Bootstrap
	if im.Bootstrap == "" {
		im.Bootstrap = im.Result.BlobPath
	}
	return im
}

// build translates o.
func (o *Options) build() build.Options {
	return build.Options{
		Version: o.Version, Compressor: o.Compressor, Digester: o.Digester,
		ChunkSize: o.ChunkSize, BatchSize: o.BatchSize, Encrypt: o.Encrypt, Prefetch: o.Prefetch,
		InlineMeta: o.Layout == Inline || o.Layout == InlineTOC,
		BlobTOC:    o.Layout == InlineTOC || o.Layout == SeparateTOC,
	}
}

// Scan is the package's Scan of im.
func (im *Image) Scan(t testing.TB) []testtree.Entry {
	t.Helper()
	entries, err := Scan(im.Bootstrap, im.BlobDir)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// CheckTree fails the test if im, read back, differs from the tree it was made
// from. The root's own attributes are left out: images do not keep its mtime.
func (im *Image) CheckTree(t testing.TB) {
	t.Helper()
	im.compare(t, im.Scan(t))
}

// Expected is what an image of the given version can show of a tree: v5 has hard
// links of regular files only, other names are files of their own.
func Expected(tree []testtree.Entry, v rafs.Version) []testtree.Entry {
	tree = slices.Clone(tree)
	if v != rafs.V5 {
		return tree
	}
	for i := range tree {
		e := &tree[i]
		if kind := e.Mode & rafs.ModeType; kind != rafs.ModeRegular && kind != rafs.ModeDir {
			e.Nlink, e.Link = 1, ""
		}
	}
	return tree
}

// CompareMount fails the test if what is mounted at dir differs from the tree that
// the image was made of.
func (im *Image) CompareMount(t testing.TB, dir string) {
	t.Helper()
	got, err := testtree.Scan(dir, testtree.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	im.compare(t, got)
}

// compare compares with the tree, which is looked at once.
func (im *Image) compare(t testing.TB, got []testtree.Entry) {
	t.Helper()
	want, err := im.expected()
	if err != nil {
		t.Fatal(err)
	}
	Compare(t, want, got, testtree.DiffOptions{SkipRoot: true})
}

// Compare fails the test with the first differences between two scans.
func Compare(t testing.TB, want, got []testtree.Entry, o testtree.DiffOptions) {
	t.Helper()
	lines := testtree.Diff(want, got, o)
	for _, l := range lines[:min(len(lines), 20)] {
		t.Error(l)
	}
	if len(lines) > 20 {
		t.Errorf("and %d more differences", len(lines)-20)
	}
}
