package main

import (
	"encoding/json"
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
	text, _ := json.Marshal(map[string]any{"fs_type": "rafs", "source": im.Bootstrap, "config": config})
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
