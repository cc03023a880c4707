package build_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/build"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// layerFile is a tar with one regular file per pair of name and content.
func layerFile(t *testing.T, pairs ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		h := tar.Header{Typeflag: tar.TypeReg, Name: pairs[i], Mode: 0o644, Size: int64(len(pairs[i+1]))}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(pairs[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "layer.tar")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestMergeSharesEqualChunksOfLayers without changing a file, on every version and also
// where the layers are compressed differently (v6).
func TestMergeSharesEqualChunksOfLayers(t *testing.T) {
	same, other := strings.Repeat("the same ", 20000), strings.Repeat("another ", 20000)
	for _, version := range []rafs.Version{rafs.V5, rafs.V6} {
		blobs := t.TempDir()
		o := build.Options{Version: version, InlineMeta: true, BlobTOC: version == rafs.V6, Whiteout: build.WhiteoutNone, Compressor: rafs.CompressorZstd}
		lower := builtLayer(t, layerFile(t, "a", same, "replaced", other), blobs, o)
		if version == rafs.V6 {
			o.Compressor = rafs.CompressorLZ4
		}
		layers := []build.Layer{lower, builtLayer(t, layerFile(t, "b", same, "replaced", same), blobs, o), builtLayer(t, layerFile(t, "c", other), blobs, o)}
		merge := func(share bool) (string, *build.Result) {
			boot := filepath.Join(t.TempDir(), "image.boot")
			r, err := build.Merge(t.Context(), layers, build.Sink{Bootstrap: boot}, build.MergeOptions{ShareChunks: share})
			if err != nil {
				t.Fatal(err)
			}
			return boot, r
		}
		apart, r := merge(false)
		if len(r.Blobs) != 3 {
			t.Errorf("v%d: %d blobs without sharing", version, len(r.Blobs))
		}
		shared, r := merge(true)
		if len(r.Blobs) != 2 {
			t.Errorf("v%d: %d blobs, want those of the lowest and the highest layer", version, len(r.Blobs))
		}
		want, err := testimage.Scan(apart, blobs)
		if err != nil {
			t.Fatal(err)
		}
		got, err := testimage.Scan(shared, blobs)
		if err != nil {
			t.Fatal(err)
		}
		testimage.Compare(t, want, got, testtree.DiffOptions{})
	}
}

// TestResultHasTheDigestOfTheBlob as a registry computes it, and a copy of the
// bootstrap that is in the blob.
func TestResultHasTheDigestOfTheBlob(t *testing.T) {
	for _, toc := range []bool{false, true} {
		f, err := os.Open(layerFile(t, "a", "data"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var blob, boot bytes.Buffer
		r, err := build.Build(t.Context(), build.Stream(build.TypeTar, f, "layer"), build.Sink{BlobWriter: &blob, BootstrapWriter: &boot},
			build.Options{InlineMeta: true, BlobTOC: toc, Compressor: rafs.CompressorZstd})
		if err != nil {
			t.Fatal(err)
		}
		if r.BlobDigest != sha256.Sum256(blob.Bytes()) || r.BlobSize != uint64(blob.Len()) {
			t.Errorf("toc %v: %v and %d bytes, want the digest and size of the blob", toc, r.BlobDigest, r.BlobSize)
		}
		if im, err := rafs.Open(boot.Bytes(), rafs.Options{Name: "x"}); err != nil || im.Root() == 0 {
			t.Errorf("toc %v: the copy of the bootstrap: %v", toc, err)
		}
	}
}
