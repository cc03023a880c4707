package containerd

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
)

// A file is what the comparison of trees is about.
type file struct {
	name string
	mode int64
	size int64
	sum  string // of the content
}

// list reads the entries of a tar; directories end without a slash.
func list(t testing.TB, in io.Reader) (files []file) {
	t.Helper()
	r := tar.NewReader(in)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
			return files
		}
		must(t, err)
		data, err := io.ReadAll(r)
		must(t, err)
		files = append(files, file{strings.TrimSuffix(h.Name, "/"), h.Mode, h.Size, digestOf(data)})
	}
}

// bootstrap takes the merged bootstrap out of the bootstrap layer.
func (c *conversion) bootstrap(t testing.TB) string {
	t.Helper()
	f, err := os.Open(filepath.Join(c.dir, "bootstrap.tar"))
	must(t, err)
	defer f.Close()
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		must(t, err)
		if h.Name == "image/image.boot" {
			data, err := io.ReadAll(r)
			path := filepath.Join(c.dir, "image.boot")
			must(t, err, os.WriteFile(path, data, 0o600))
			return path
		}
	}
}

// names lists what an image shows.
func (c *conversion) names(t testing.TB) (names []string) {
	t.Helper()
	entries, err := testimage.Scan(c.bootstrap(t), c.blobs())
	must(t, err)
	for _, e := range entries {
		names = append(names, e.Path)
	}
	slices.Sort(names)
	return names
}

// wantNames is the tree of the layers: what the lower one has that the upper one
// removes isn't there.
var wantNames = []string{"", "data", "data/file0", "data/file1", "data/file2", "data/file3", "data/file4", "data/file5", "data/file6", "data/file7", "reader", "sums"}

func TestConverterLibraryPacksMergesAndUnpacks(t *testing.T) {
	testenv.Need(t, needed...)
	testenv.Long(t)
	layers := [][]byte{programLayer(t), dataLayer(t)}
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"v6_zstd", []string{"-unpack"}},
		{"v6_uncompressed", []string{"-unpack", "-compressor", "none"}},
		{"v6_lz4_small_chunks", []string{"-unpack", "-compressor", "lz4_block", "-chunk-size", "0x10000"}},
		{"v5_zstd", []string{"-unpack", "-fs-version", "5"}},
		// Unpack gives the builder only the data of a blob. Where batches are in it is
		// said after them, so these can't be unpacked.
		{"v6_batches", []string{"-batch-size", "0x80000"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := convert(t, layers, tt.args...)
			if got := c.names(t); !slices.Equal(got, wantNames) {
				t.Errorf("merged tree %q, want %q", got, wantNames)
			}
			if tt.args[0] == "-unpack" {
				c.checkUnpacked(t, layers)
			}
		})
	}
}

// checkUnpacked compares what each blob was unpacked into with the layer.
func (c *conversion) checkUnpacked(t *testing.T, layers [][]byte) {
	t.Helper()
	if len(c.Layers) != len(layers) {
		t.Fatalf("%d packed layers, want %d", len(c.Layers), len(layers))
	}
	for i, digest := range c.Layers {
		_, name, _ := strings.Cut(digest, ":")
		f, err := os.Open(filepath.Join(c.dir, name+".tar"))
		must(t, err)
		got, want := list(t, f), list(t, bytes.NewReader(layers[i]))
		must(t, f.Close())
		if !slices.Equal(got, want) {
			t.Errorf("layer %d unpacked: %v, want %v", i, got, want)
		}
	}
}

func TestConverterLibraryRefersToLayersAsTheyAre(t *testing.T) {
	testenv.Need(t, needed...)
	testenv.Long(t)
	layers := [][]byte{compress(t, programLayer(t)), compress(t, dataLayer(t))}
	c := convert(t, layers, "-oci-ref")
	if len(c.Blobs) != len(layers) || len(c.Layers) != len(layers) {
		t.Fatalf("blobs %v of layers %v, want %d", c.Blobs, c.Layers, len(layers))
	}
	for i, l := range layers {
		if got := digestOf(l); c.Blobs[i] != got {
			t.Errorf("the image needs %s, layer %d is %s", c.Blobs[i], i, got)
		}
		_, name, _ := strings.Cut(c.Blobs[i], ":")
		must(t, os.WriteFile(filepath.Join(c.blobs(), name), l, 0o600))
		_, packed, _ := strings.Cut(c.Layers[i], ":")
		st, err := os.Stat(filepath.Join(c.blobs(), packed))
		must(t, err)
		if st.Size() > int64(len(l)/4) {
			t.Errorf("packed layer %d has %d bytes: the data was stored again", i, st.Size())
		}
	}
	if got := c.names(t); !slices.Equal(got, wantNames) {
		t.Errorf("merged tree %q, want %q", got, wantNames)
	}
}
