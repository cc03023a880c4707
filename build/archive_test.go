package build_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/build"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// buildArchive builds an image that refers to data, which lies in the blob
// directory under its digest, and gives the image's tree.
func buildArchive(t *testing.T, data []byte, typ build.SourceType, o build.Options) ([]testtree.Entry, *build.Result) {
	t.Helper()
	dir := t.TempDir()
	sum := sha256.Sum256(data)
	id := hex.EncodeToString(sum[:])
	steps(t, os.WriteFile(filepath.Join(dir, id), data, 0o600))
	sink := build.Sink{BlobDir: dir}
	if !o.InlineMeta {
		sink.Bootstrap = filepath.Join(t.TempDir(), "image.boot")
	}
	res, err := build.Build(t.Context(), build.Stream(typ, bytes.NewReader(data), "layer"), sink, o)
	steps(t, err)
	if len(res.Blobs) != 1 || res.Blobs[0] != id {
		t.Errorf("blobs %q, want the archive's digest %s", res.Blobs, id)
	}
	boot := sink.Bootstrap
	if o.InlineMeta {
		boot = res.BlobPath
	}
	got, err := testimage.Scan(boot, dir)
	steps(t, err)
	return got, res
}

// packed compresses p with the standard library.
func packed(t *testing.T, p []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	steps(t, err)
	_, err = w.Write(p)
	steps(t, err, w.Close())
	return b.Bytes()
}

func TestImageOfReferencesReadsTheOriginalArchive(t *testing.T) {
	tree := tarTree(t)
	plain := gnuTar(t, tree, "--format=pax")
	want := scanTarred(t, tree)
	inline := build.Options{InlineMeta: true, BlobTOC: true, Prefetch: build.Prefetch{Policy: build.PrefetchFS, Patterns: []string{"/"}}}
	tests := []struct {
		name string
		data []byte
		o    build.Options
		long bool
	}{
		{name: "gzip", data: packed(t, plain, 6), o: inline},
		{name: "best", data: packed(t, plain, 9), long: true},
		{name: "fastest", data: packed(t, plain, 1), o: build.Options{BlobTOC: true}, long: true},
		{name: "stored", data: packed(t, plain, 0), o: inline},
		{name: "huffman_only", data: packed(t, plain, gzip.HuffmanOnly), o: build.Options{ChunkSize: 0x10000}, long: true},
		{name: "members", data: gzipped(t, plain[:100_000], plain[100_000:100_001], nil, plain[100_001:]), long: true},
		{name: "plain", data: plain, o: inline},
		{name: "plain_separate", data: plain, o: build.Options{ChunkSize: 0x1000}, long: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.long {
				testenv.Long(t)
			}
			t.Parallel()
			got, _ := buildArchive(t, tt.data, build.TypeTarRef, tt.o)
			testimage.Compare(t, want, got, testtree.DiffOptions{SkipRoot: true})
		})
	}
}

func TestSlicesOfDuplicatesAreDropped(t *testing.T) {
	var members [][]byte
	for i := range 40 {
		data := archive(t, fileEntry(fmt.Sprintf("f%02d", i), strings.Repeat("same", 2000+i/20)))
		members = append(members, data[:len(data)-1024])
	}
	got, res := buildArchive(t, gzipped(t, append(members, make([]byte, 1024))...), build.TypeTarRef, build.Options{})
	if len(got) != 41 || res.DedupCount != 38 {
		t.Errorf("%d names, %d chunks not stored again; want 41 and 38", len(got), res.DedupCount)
	}
}

func TestTarfsServesTheTarItself(t *testing.T) {
	tree := tarTree(t)
	plain := gnuTar(t, tree, "--format=pax")
	got, res := buildArchive(t, plain, build.TypeTarfs, build.Options{})
	testimage.Compare(t, scanTarred(t, tree), got, testtree.DiffOptions{SkipRoot: true})
	stored, err := os.ReadFile(res.BlobPath)
	steps(t, err)
	if !bytes.Equal(stored, plain) {
		t.Errorf("the blob has %d bytes, not those of the tar (%d)", len(stored), len(plain))
	}
	boot := filepath.Join(t.TempDir(), "image.boot")
	_, err = build.Build(t.Context(), build.Stream(build.TypeTarfs, bytes.NewReader(plain), "layer"), build.Sink{Bootstrap: boot}, build.Options{})
	steps(t, err)
	kernel, err := testtree.Scan(testimage.MountErofs(t, boot, []string{res.BlobPath}), testtree.ScanOptions{})
	steps(t, err)
	testimage.Compare(t, scanTarred(t, tree), kernel, testtree.DiffOptions{SkipRoot: true})
}

func TestReferencesRefuseWhatTheyCannotHold(t *testing.T) {
	tree := tarTree(t)
	plain := gnuTar(t, tree, "--format=pax")
	tests := []struct {
		name string
		typ  build.SourceType
		data []byte
		o    build.Options
		want error
	}{
		{"v5", build.TypeTarRef, plain, build.Options{Version: rafs.V5}, build.ErrOptions},
		{"blob_id", build.TypeTarRef, plain, build.Options{BlobID: "x"}, build.ErrOptions},
		{"encrypted", build.TypeTarfs, plain, build.Options{Encrypt: true}, build.ErrOptions},
		{"zstd", build.TypeTarRef, zstdCompressed(t, plain), build.Options{}, build.ErrSource},
		{"tarfs_of_gzip", build.TypeTarfs, packed(t, plain, 1), build.Options{}, build.ErrSource},
		{"sparse", build.TypeTarRef, gnuTar(t, tree, "--format=pax", "-S"), build.Options{}, build.ErrSource},
		{"cut", build.TypeTarRef, packed(t, plain, 6)[:5000], build.Options{}, build.ErrSource},
		{"index_without_id", build.TypeEStargzIndex, plain, build.Options{}, build.ErrOptions},
		{"index_inline", build.TypeEStargzIndex, plain, build.Options{BlobID: "x", InlineMeta: true}, build.ErrOptions},
		{"index_with_toc", build.TypeEStargzIndex, plain, build.Options{BlobID: "x", BlobTOC: true}, build.ErrOptions},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sink := build.Sink{BlobWriter: io.Discard, BootstrapWriter: io.Discard}
			_, err := build.Build(t.Context(), build.Stream(tt.typ, bytes.NewReader(tt.data), "layer"), sink, tt.o)
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want one of class %v", err, tt.want)
			}
		})
	}
}
