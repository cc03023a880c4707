package images

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testoci"
	"vrafs/internal/testtree"
)

// TestConverterLibraryConvertsRealImages: nydus-snapshotter's library packs each layer
// with our builder through FIFOs, merges, and unpacks each blob into a tar again. The
// image is the tree that umoci unpacks; so is what umoci makes of the tars.
func TestConverterLibraryConvertsRealImages(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.ImageTools, testenv.Snapshotter)
	testenv.Long(t)
	for _, tt := range []struct {
		name string
		make func(testing.TB) *testoci.Image
		args []string
		soak bool
	}{
		{"python", testoci.Python, []string{"-compressor", "lz4_block"}, true},
		{"nginx_v5", testoci.Nginx, []string{"-fs-version", "5"}, false},
		{"jvm", testoci.JVM, []string{"-compressor", "none", "-chunk-size", "0x40000"}, true},
		{"odd", testoci.Odd, nil, false},
	} {
		if tt.soak && !testenv.Soak() {
			continue // half a minute each
		}
		t.Run(tt.name, func(t *testing.T) {
			im := tt.make(t)
			c := convert(t, im, append([]string{"-unpack"}, tt.args...)...)
			got, err := testimage.Scan(c.bootstrap(t), filepath.Join(c.dir, "blobs"))
			must(t, err)
			im.Compare(t, got)
			got, err = testtree.Scan(testoci.Unpack(t, c.tars()...), testtree.ScanOptions{})
			must(t, err)
			im.Compare(t, got)
		})
	}
}

// A conversion is what the converter library made.
type conversion struct {
	Layers []string `json:"layers"` // digests of the packed layers
	Blobs  []string `json:"blobs"`
	dir    string
}

// convert runs the converter library with our builder over the layers of im.
func convert(t *testing.T, im *testoci.Image, args ...string) *conversion {
	t.Helper()
	dir, err := programs()
	must(t, err)
	builder := filepath.Join(dir, "nydus-image")
	if err := os.Symlink("vrafs", builder); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	c := &conversion{dir: t.TempDir()}
	args = append([]string{"-builder", builder, "-out", c.dir}, args...)
	for _, l := range im.Layers(t) {
		args = append(args, im.Blob(l.Digest))
	}
	cmd := exec.Command(testenv.Peer("convert"), args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	must(t, err, json.Unmarshal(out, c))
	return c
}

// tars are what the blobs were unpacked into.
func (c *conversion) tars() (paths []string) {
	for _, digest := range c.Layers {
		_, name, _ := strings.Cut(digest, ":")
		paths = append(paths, filepath.Join(c.dir, name+".tar"))
	}
	return paths
}

// bootstrap takes the merged bootstrap out of its layer.
func (c *conversion) bootstrap(t *testing.T) string {
	t.Helper()
	f, err := os.Open(filepath.Join(c.dir, "bootstrap.tar"))
	must(t, err)
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		must(t, err)
		if h.Name != "image/image.boot" {
			continue
		}
		path := filepath.Join(c.dir, "image.boot")
		text, err := io.ReadAll(r)
		must(t, err, os.WriteFile(path, text, 0o600))
		return path
	}
}
