package build

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"vrafs/rafs"
)

// FuzzTar builds images of several types from arbitrary bytes. Each must end in an error of class
// ErrSource or in an image that passes its check, the same on every number of
// workers.
func FuzzTar(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<18 {
			return
		}
		for _, kind := range []struct {
			typ     SourceType
			version rafs.Version
		}{{TypeTar, rafs.V6}, {TypeTar, rafs.V5}, {TypeTarRef, rafs.V6}, {TypeTarfs, rafs.V6}} {
			o := Options{Version: kind.version, ChunkSize: 4096, Compressor: rafs.CompressorLZ4, Workers: 1}
			first, err := fuzzBuild(kind.typ, data, o)
			if err != nil {
				if !errors.Is(err, ErrSource) {
					t.Fatalf("error of no class: %v", err)
				}
				continue
			}
			o.Workers = 3
			second, err := fuzzBuild(kind.typ, data, o)
			if err != nil || !bytes.Equal(first, second) {
				t.Fatalf("not the same with three workers: %v", err)
			}
		}
	})
}

// FuzzStargz builds images from arbitrary tables of contents. Each must end in an
// error of class ErrSource or in an image that passes its check.
func FuzzStargz(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<18 {
			return
		}
		for _, v := range []rafs.Version{rafs.V5, rafs.V6} {
			_, err := fuzzBuild(TypeEStargzIndex, data, Options{Version: v, BlobID: "layer", ChunkSize: 4096})
			if err != nil && !errors.Is(err, ErrSource) {
				t.Fatalf("error of no class: %v", err)
			}
		}
	})
}

// fuzzBuild gives bootstrap and blob, one after the other. Holes are limited to
// keep a round short.
func fuzzBuild(typ SourceType, data []byte, o Options) ([]byte, error) {
	var boot, blob bytes.Buffer
	b, err := newBuilder(Stream(typ, bytes.NewReader(data), "fuzz"), Sink{BlobWriter: &blob, BootstrapWriter: &boot}, o)
	if err != nil {
		return nil, err
	}
	b.limits.holes = 1000
	if err := b.run(context.Background()); err != nil {
		return nil, err
	}
	return append(boot.Bytes(), blob.Bytes()...), nil
}

// FuzzParent builds a small layer on an arbitrary parent bootstrap, and with it as
// chunk dictionary. It must end in an error of a known class or in an image that
// passes its check.
func FuzzParent(f *testing.F) {
	upper := fuzzTar("a/b", ".wh.c")
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<18 {
			return
		}
		base := &Image{Name: "parent", Data: data}
		o := Options{Version: rafs.Detect(data), ChunkSize: 4096, Compressor: rafs.CompressorNone, Workers: 1}
		if im, err := rafs.Open(data, rafs.Options{}); err == nil {
			o.ChunkSize, o.Repeatable = im.ChunkSize(), im.Flags()&rafs.FlagExplicitUIDGID == 0
			o.Digester, o.Compressor = im.Digester(), im.Compressor()
		}
		for _, o := range []Options{withParent(o, base), withDict(o, base), withParent(withDict(o, base), base)} {
			_, err := fuzzBuild(TypeTar, upper, o)
			blame(t, err)
		}
	})
}

// FuzzMerge merges arbitrary layers, on the lower one as parent too. It must end as
// FuzzParent must.
func FuzzMerge(f *testing.F) {
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		if len(lower) > 1<<17 || len(upper) > 1<<17 {
			return
		}
		a, b := Image{Name: "lower", Data: lower}, Image{Name: "upper", Data: upper}
		for _, layers := range [][]Layer{{{Image: a}, {Image: b}}, {{Image: b}}} {
			var o MergeOptions
			if len(layers) == 1 {
				o.Parent, o.ChunkDict, o.HaveBackend = &a, &a, true
			}
			_, err := Merge(context.Background(), layers, Sink{BootstrapWriter: io.Discard}, o)
			blame(t, err)
		}
	})
}

// blame fails unless err is of a class that says whose fault it is.
func blame(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, rafs.ErrCorrupt) && !errors.Is(err, rafs.ErrUnsupported) &&
		!errors.Is(err, ErrInconsistent) && !errors.Is(err, ErrOptions) && !errors.Is(err, ErrSource) {
		t.Fatalf("error of no class: %v", err)
	}
	if err != nil && strings.Contains(err.Error(), "check the result") {
		t.Fatal(err)
	}
}

func withParent(o Options, im *Image) Options {
	o.Parent = im
	return o
}

func withDict(o Options, im *Image) Options {
	o.ChunkDict = im
	return o
}

// fuzzTar packs files that hold their names.
func fuzzTar(names ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		_ = w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(name)), Mode: 0o644})
		_, _ = w.Write([]byte(name))
	}
	_ = w.Close()
	return b.Bytes()
}

// FuzzLayers builds two arbitrary tars as layers and merges them. It must end in an
// error of class ErrSource or in an image that passes its check.
func FuzzLayers(f *testing.F) {
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		if len(lower) > 1<<16 || len(upper) > 1<<16 {
			return
		}
		for _, version := range []rafs.Version{rafs.V5, rafs.V6} {
			var layers []Layer
			for _, data := range [][]byte{lower, upper} {
				var boot bytes.Buffer
				o := Options{Version: version, ChunkSize: 4096, Compressor: rafs.CompressorNone, Whiteout: WhiteoutNone, Workers: 1}
				b, err := newBuilder(Stream(TypeTar, bytes.NewReader(data), "fuzz"), Sink{BlobWriter: io.Discard, BootstrapWriter: &boot}, o)
				if err != nil {
					t.Fatal(err)
				}
				b.limits.holes = 1000
				if err := b.run(context.Background()); err != nil {
					return
				}
				layers = append(layers, Layer{Image: Image{Name: "layer", Data: boot.Bytes()}})
			}
			_, err := Merge(context.Background(), layers, Sink{BootstrapWriter: io.Discard}, MergeOptions{})
			if err != nil && !errors.Is(err, ErrSource) {
				t.Fatalf("error of no class: %v", err)
			}
			blame(t, err)
		}
	})
}
