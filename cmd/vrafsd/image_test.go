package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// An imageFixture is an image on disk with a cache directory.
type imageFixture struct {
	*testimage.Image
	cache string
}

// smallImage makes a v6 image with lz4 of the small tree.
func smallImage(t testing.TB) *imageFixture {
	t.Helper()
	return makeImage(t, testimage.Options{Version: rafs.V6, Compressor: rafs.CompressorLZ4, Tree: testtree.Options{Seed: 1}})
}

func makeImage(t testing.TB, o testimage.Options) *imageFixture {
	t.Helper()
	return &imageFixture{testimage.Make(t, o), t.TempDir()}
}

// blobBytes is the size of the image's blobs.
func (im *imageFixture) blobBytes(t *testing.T) (n float64) {
	t.Helper()
	blobs, err := os.ReadDir(im.BlobDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs {
		fi, err := b.Info()
		if err != nil {
			t.Fatal(err)
		}
		n += float64(fi.Size())
	}
	return n
}

// v1 is a configuration as nydus-snapshotter writes it, with more keys of the top
// level.
func (im *imageFixture) v1(more map[string]any) string {
	c := map[string]any{
		"device": map[string]any{
			"backend": map[string]any{"type": "localfs", "config": map[string]any{"dir": im.BlobDir}},
			"cache":   map[string]any{"type": "blobcache", "config": map[string]any{"work_dir": im.cache}},
		},
		"mode": "direct", "digest_validate": false, "iostats_files": false, "enable_xattr": true,
	}
	for k, v := range more {
		c[k] = v
	}
	text, _ := json.Marshal(c)
	return string(text)
}

// mountBody is the body of a mount request; config "" is v1(nil).
func (im *imageFixture) mountBody(config string) string {
	if config == "" {
		config = im.v1(nil)
	}
	return im.mountCmd(config, nil)
}

// mountCmd is the body of a mount request with more keys, or others.
func (im *imageFixture) mountCmd(config string, more map[string]any) string {
	cmd := map[string]any{"fs_type": "rafs", "source": im.Bootstrap, "config": config}
	maps.Copy(cmd, more)
	text, _ := json.Marshal(cmd)
	return string(text)
}

// imageOf makes an image of a directory.
func imageOf(t testing.TB, source string) *imageFixture {
	t.Helper()
	return makeImage(t, testimage.Options{Version: rafs.V6, Source: source})
}

// oneFile is an image with one file, f.
func oneFile(t testing.TB, text string) *imageFixture {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return imageOf(t, dir)
}

// A randomImage has files of random bytes, f0 and so on.
type randomImage struct {
	*imageFixture
	files map[string][]byte
	blob  string // the id of its only blob
}

func newRandomImage(t *testing.T, files, size int) *randomImage {
	t.Helper()
	im := &randomImage{files: map[string][]byte{}}
	source := t.TempDir()
	for i := range files {
		name, data := fmt.Sprint("f", i), make([]byte, size)
		_, _ = rand.Read(data)
		im.files[name] = data
		if err := os.WriteFile(filepath.Join(source, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	im.imageFixture = imageOf(t, source)
	blobs, err := os.ReadDir(im.BlobDir)
	if err != nil || len(blobs) != 1 {
		t.Fatalf("%d blobs, %v", len(blobs), err)
	}
	im.blob = blobs[0].Name()
	return im
}
