package build

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"vrafs/rafs"
)

// FuzzTar builds an image from arbitrary bytes. It must end in an error of class
// ErrSource or in an image that passes its check, the same on every number of
// workers.
func FuzzTar(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<18 {
			return
		}
		for _, version := range []rafs.Version{rafs.V6, rafs.V5} {
			o := Options{Version: version, ChunkSize: 4096, Compressor: rafs.CompressorLZ4, Workers: 1}
			first, err := fuzzBuild(data, o)
			if err != nil {
				if !errors.Is(err, ErrSource) {
					t.Fatalf("error of no class: %v", err)
				}
				continue
			}
			o.Workers = 3
			second, err := fuzzBuild(data, o)
			if err != nil || !bytes.Equal(first, second) {
				t.Fatalf("not the same with three workers: %v", err)
			}
		}
	})
}

// fuzzBuild gives bootstrap and blob, one after the other. Holes are limited to
// keep a round short.
func fuzzBuild(data []byte, o Options) ([]byte, error) {
	var boot, blob bytes.Buffer
	b, err := newBuilder(Stream(TypeTar, bytes.NewReader(data), "fuzz"), Sink{BlobWriter: &blob, BootstrapWriter: &boot}, o)
	if err != nil {
		return nil, err
	}
	b.maxHoles = 1000
	if err := b.run(context.Background()); err != nil {
		return nil, err
	}
	return append(boot.Bytes(), blob.Bytes()...), nil
}
