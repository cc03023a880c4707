package build_test

import (
	"archive/tar"
	"bytes"
	"io"
	"slices"
	"testing"

	"vrafs/build"
	"vrafs/rafs"
)

// TestUnpackLinksBeforeItRemoves: unpackers that do one entry after the other find the
// files below that links name, also where the same layer takes them away, opaquely or by
// name, or puts others in their place.
func TestUnpackLinksBeforeItRemoves(t *testing.T) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeLink, Name: "z/of-removed", Linkname: "removed"},
		{Typeflag: tar.TypeReg, Name: ".wh.removed"},
		{Typeflag: tar.TypeLink, Name: "z/of-hidden", Linkname: "opaque/sub/hidden"},
		{Typeflag: tar.TypeDir, Name: "opaque/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "opaque/.wh..wh..opq"},
		{Typeflag: tar.TypeLink, Name: "z/of-replaced", Linkname: "replaced"},
		{Typeflag: tar.TypeSymlink, Name: "replaced", Linkname: "x"},
		{Typeflag: tar.TypeLink, Name: "z/of-kept", Linkname: "kept"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var boot, blob, out bytes.Buffer
	_, err := build.Build(t.Context(), build.Stream(build.TypeTar, &layer, "layer"), build.Sink{BlobWriter: &blob, BootstrapWriter: &boot},
		build.Options{Whiteout: build.WhiteoutNone, InlineMeta: true, BlobTOC: true, Compressor: rafs.CompressorZstd})
	if err != nil {
		t.Fatal(err)
	}
	if err := build.Unpack(t.Context(), build.Image{Name: "layer", Data: boot.Bytes()}, &out, build.UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	want := []string{"z/of-hidden", "z/of-removed", "z/of-replaced", ".wh.removed", "opaque/", "opaque/.wh..wh..opq", "replaced", "z/of-kept"}
	if !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}
