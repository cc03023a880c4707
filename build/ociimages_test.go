package build_test

import (
	"os"
	"path/filepath"
	"testing"

	"vrafs/build"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testoci"
	"vrafs/rafs"
)

// ociImages are images that other tools made.
var ociImages = []struct {
	name string
	make func(testing.TB) *testoci.Image
}{{"nginx", testoci.Nginx}, {"odd", testoci.Odd}}

// mergedImage builds each layer of im as converters do, and merges them.
func mergedImage(t *testing.T, im *testoci.Image, o build.Options) (boot, blobs string) {
	t.Helper()
	blobs, boot = t.TempDir(), filepath.Join(t.TempDir(), "image.boot")
	o.InlineMeta, o.BlobTOC, o.Whiteout = true, o.Version != rafs.V5, build.WhiteoutNone
	var layers []build.Layer
	for _, l := range im.Layers(t) {
		layers = append(layers, builtLayer(t, im.Blob(l.Digest), blobs, o))
	}
	if _, err := build.Merge(t.Context(), layers, build.Sink{Bootstrap: boot}, build.MergeOptions{}); err != nil {
		t.Fatal(err)
	}
	return boot, blobs
}

// builtLayer builds one layer into a blob that has its own bootstrap.
func builtLayer(t *testing.T, tar, blobs string, o build.Options) build.Layer {
	t.Helper()
	f, err := os.Open(tar)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	res, err := build.Build(t.Context(), build.Stream(build.TypeTar, f, tar), build.Sink{BlobDir: blobs}, o)
	if err != nil {
		t.Fatal(err)
	}
	return build.Layer{Image: openImage(t, filepath.Join(blobs, res.BlobID), blobs)}
}

func TestMergedLayersGiveTheTreeThatUmociUnpacks(t *testing.T) {
	testenv.Long(t)
	for _, tt := range ociImages {
		t.Run(tt.name, func(t *testing.T) {
			im := tt.make(t)
			boot, blobs := mergedImage(t, im, build.Options{Compressor: rafs.CompressorLZ4})
			got, err := testimage.Scan(boot, blobs)
			if err != nil {
				t.Fatal(err)
			}
			im.Compare(t, got)
		})
	}
}
