// Command convert makes an image of layers with nydus-snapshotter's converter
// library, which runs nydus-image and streams to and from it through FIFOs.
//
//	layer.tar --Pack--> out/blobs/<digest> --Merge--> out/bootstrap.tar
//	                            `-----------Unpack--> out/<digest>.tar
//
// What it made is said in JSON on the standard output: the digests of the packed
// layers in order, and those of the blobs that the merged image needs.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/nydus-snapshotter/pkg/converter"
	"github.com/opencontainers/go-digest"
)

// A conversion is what to do with the layers.
type conversion struct {
	pack   converter.PackOption
	out    string
	unpack bool
}

// A result is what was made.
type result struct {
	Layers []digest.Digest `json:"layers"`
	Blobs  []digest.Digest `json:"blobs"`
}

func main() {
	var c conversion
	flag.StringVar(&c.pack.BuilderPath, "builder", "nydus-image", "the image builder")
	flag.StringVar(&c.pack.FsVersion, "fs-version", "6", "5 or 6")
	flag.StringVar(&c.pack.Compressor, "compressor", "zstd", "of the blobs")
	flag.StringVar(&c.pack.ChunkSize, "chunk-size", "", "in bytes, hexadecimal")
	flag.StringVar(&c.pack.BatchSize, "batch-size", "", "in bytes, hexadecimal")
	flag.BoolVar(&c.pack.OCIRef, "oci-ref", false, "refer to layers, which are compressed with gzip, instead of storing them again")
	flag.BoolVar(&c.unpack, "unpack", false, "unpack each blob into a tar again")
	flag.StringVar(&c.out, "out", ".", "where everything goes")
	flag.Parse()
	r, err := c.run(context.Background(), flag.Args())
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "convert:", err)
		os.Exit(1)
	}
}

func (c *conversion) run(ctx context.Context, tars []string) (*result, error) {
	c.pack.WorkDir, c.pack.PrefetchPatterns = c.out, "/"
	if err := os.MkdirAll(filepath.Join(c.out, "blobs"), 0o755); err != nil {
		return nil, err
	}
	r := &result{}
	var layers []converter.Layer
	for _, tar := range tars {
		l, err := c.layer(ctx, tar)
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", tar, err)
		}
		layers, r.Layers = append(layers, *l), append(r.Layers, l.Digest)
	}
	var err error
	if r.Blobs, err = c.merge(ctx, layers); err != nil {
		return nil, fmt.Errorf("merge: %w", err)
	}
	for i := 0; c.unpack && i < len(layers); i++ {
		if err := c.unpackLayer(ctx, &layers[i]); err != nil {
			return nil, fmt.Errorf("unpack %s: %w", tars[i], err)
		}
	}
	return r, nil
}

// layer packs one layer and opens the blob.
func (c *conversion) layer(ctx context.Context, path string) (*converter.Layer, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	l := &converter.Layer{}
	original := digest.SHA256.Digester()
	if l.Digest, err = c.packBlob(ctx, io.TeeReader(in, original.Hash())); err != nil {
		return nil, err
	}
	if c.pack.OCIRef {
		d := original.Digest()
		l.OriginalDigest = &d
	}
	l.ReaderAt, err = local.OpenReader(c.blobPath(l.Digest))
	return l, err
}

func (c *conversion) blobPath(d digest.Digest) string {
	return filepath.Join(c.out, "blobs", d.Encoded())
}

// packBlob streams a layer through the builder and keeps the blob under its digest.
func (c *conversion) packBlob(ctx context.Context, layer io.Reader) (digest.Digest, error) {
	temp := filepath.Join(c.out, "blob")
	blob, err := os.Create(temp)
	if err != nil {
		return "", err
	}
	defer blob.Close()
	sum := digest.SHA256.Digester()
	w, err := converter.Pack(ctx, io.MultiWriter(blob, sum.Hash()), c.pack)
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(w, layer); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return sum.Digest(), os.Rename(temp, c.blobPath(sum.Digest()))
}

// merge writes the tar of the bootstrap layer.
func (c *conversion) merge(ctx context.Context, layers []converter.Layer) ([]digest.Digest, error) {
	boot, err := os.Create(filepath.Join(c.out, "bootstrap.tar"))
	if err != nil {
		return nil, err
	}
	defer boot.Close()
	return converter.Merge(ctx, layers, boot, converter.MergeOption{
		WorkDir: c.out, BuilderPath: c.pack.BuilderPath, FsVersion: c.pack.FsVersion, PrefetchPatterns: "/", WithTar: true, OCIRef: c.pack.OCIRef,
	})
}

// unpackLayer writes the tar that a blob was made from.
func (c *conversion) unpackLayer(ctx context.Context, l *converter.Layer) error {
	tar, err := os.Create(filepath.Join(c.out, l.Digest.Encoded()+".tar"))
	if err != nil {
		return err
	}
	defer tar.Close()
	return converter.Unpack(ctx, l.ReaderAt, tar, converter.UnpackOption{WorkDir: c.out, BuilderPath: c.pack.BuilderPath})
}
