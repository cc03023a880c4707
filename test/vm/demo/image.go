package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// An image is what vrafs made of the root file system.
type image struct {
	bootstrap string
	blobDir   string
	metadata  int64 // bytes of the bootstrap
	data      int64 // bytes of the blobs, compressed
	tree      int64 // bytes of the files in it
}

// convert runs vrafs as a person would and shows the command.
func convert(ctx context.Context, root *rootFS, work string) (*image, error) {
	im := &image{bootstrap: filepath.Join(work, "image.boot"), blobDir: filepath.Join(work, "blobs"), tree: root.bytes}
	if err := os.Mkdir(im.blobDir, 0o755); err != nil {
		return nil, err
	}
	args := []string{"create", "--fs-version", "6", "--compressor", "zstd", "--blob-dir", im.blobDir, "--bootstrap", im.bootstrap, root.dir}
	heading("Make an image of it")
	command(builder, args)
	start := time.Now()
	if out, err := exec.CommandContext(ctx, builder, args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s create: %w\n%s", builder, err, out)
	}
	took := time.Since(start)
	var err error
	if im.metadata, err = size(im.bootstrap); err != nil {
		return nil, err
	}
	blobs, err := filepath.Glob(filepath.Join(im.blobDir, "*"))
	if err != nil {
		return nil, err
	}
	for _, b := range blobs {
		n, err := size(b)
		if err != nil {
			return nil, err
		}
		im.data += n
	}
	note("%s of data, compressed, and %s of metadata, in %s", megabytes(im.data), megabytes(im.metadata), seconds(took))
	return im, nil
}

func size(path string) (int64, error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
