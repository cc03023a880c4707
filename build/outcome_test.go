package build_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"vrafs/build"
	"vrafs/internal/bootload"
	"vrafs/internal/opener"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// output is everything a build writes.
type output struct {
	boot, blob bytes.Buffer
	res        *build.Result
}

func buildInto(t *testing.T, src build.Source, o build.Options) *output {
	t.Helper()
	var out output
	sink := build.Sink{BlobWriter: &out.blob}
	if !o.InlineMeta {
		sink.BootstrapWriter = &out.boot
	}
	res, err := build.Build(t.Context(), src, sink, o)
	steps(t, err)
	out.res = res
	return &out
}

func TestBytesDoNotDependOnWorkers(t *testing.T) {
	tree := tarTree(t)
	tar := gnuTar(t, tree, "--format=pax", "-S")
	for _, o := range []build.Options{
		{Compressor: rafs.CompressorZstd},
		{Compressor: rafs.CompressorLZ4, BatchSize: 0x10000, InlineMeta: true, BlobTOC: true},
		{Version: rafs.V5, Digester: rafs.DigesterSHA256, ChunkSize: 0x10000},
		{Encrypt: true, Key: [32]byte{1}, IV: [16]byte{2}, Compressor: rafs.CompressorLZ4},
	} {
		var want *output
		for _, workers := range []int{1, 8} {
			for _, src := range []func() build.Source{
				func() build.Source { return build.Dir(tree) },
				func() build.Source { return build.Stream(build.TypeTar, bytes.NewReader(tar), "tar") },
			} {
				o.Workers = workers
				got := buildInto(t, src(), o)
				if src().Type() == build.TypeTar {
					again := buildInto(t, src(), o)
					if !bytes.Equal(got.blob.Bytes(), again.blob.Bytes()) || !bytes.Equal(got.boot.Bytes(), again.boot.Bytes()) {
						t.Errorf("%+v: two builds of one tar differ", o)
					}
					continue
				}
				if want == nil {
					want = got
				}
				if !bytes.Equal(got.blob.Bytes(), want.blob.Bytes()) || !bytes.Equal(got.boot.Bytes(), want.boot.Bytes()) {
					t.Errorf("%+v: other bytes than with one worker", o)
				}
			}
		}
	}
}

func TestRepeatableLeavesOwnersOut(t *testing.T) {
	tree := smallTree(t)
	out := buildInto(t, build.Dir(tree), build.Options{Repeatable: true})
	im, err := rafs.Open(out.boot.Bytes(), rafs.Options{})
	steps(t, err)
	if im.Flags()&rafs.FlagExplicitUIDGID != 0 {
		t.Error("the image claims explicit owners")
	}
}

func TestFailedBuildRemovesItsOutputs(t *testing.T) {
	dir := t.TempDir()
	sinks := map[string]build.Sink{
		"files":     {Blob: filepath.Join(dir, "blob"), Bootstrap: filepath.Join(dir, "boot")},
		"directory": {BlobDir: dir},
		"cache":     {CacheDir: dir, Bootstrap: filepath.Join(dir, "boot")},
	}
	tree := tarTree(t)
	tar := gnuTar(t, tree, "--format=pax")
	for name, sink := range sinks {
		for _, cut := range []int{len(tar) / 2, 700} {
			src := build.Stream(build.TypeTar, bytes.NewReader(tar[:cut]), "cut.tar")
			if _, err := build.Build(t.Context(), src, sink, build.Options{}); !errors.Is(err, build.ErrSource) {
				t.Errorf("%s: error %v, want one of class ErrSource", name, err)
			}
		}
		// Everything is written but the bootstrap.
		whole := sink
		whole.Bootstrap = filepath.Join(dir, "missing", "boot")
		if _, err := build.Build(t.Context(), build.Dir(tree), whole, build.Options{}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: error %v, want that the directory is missing", name, err)
		}
		left, err := os.ReadDir(dir)
		steps(t, err)
		if len(left) != 0 {
			t.Errorf("%s: %v is left behind", name, left)
		}
	}
}

// A failing writer takes a number of bytes and no more.
type failing struct{ room int }

var errFull = errors.New("no room")

func (f *failing) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestBuildEndsWhenTheSinkFails(t *testing.T) {
	tree := smallTree(t)
	for room := 1; room < 16<<20; room *= 8 {
		sink := build.Sink{BlobWriter: &failing{room}, BootstrapWriter: io.Discard}
		_, err := build.Build(t.Context(), build.Dir(tree), sink, build.Options{Compressor: rafs.CompressorLZ4})
		if err != nil && !errors.Is(err, errFull) {
			t.Errorf("room for %d: error %v", room, err)
		}
	}
}

func TestCancelledBuildEnds(t *testing.T) {
	tree := smallTree(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := build.Build(ctx, build.Dir(tree), build.Sink{BlobWriter: io.Discard, BootstrapWriter: io.Discard}, build.Options{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestContradictingOptionsAreRefused(t *testing.T) {
	tests := []struct {
		name string
		o    build.Options
		sink build.Sink
	}{
		{"version", build.Options{Version: 4}, build.Sink{}},
		{"chunk_size", build.Options{ChunkSize: 5000}, build.Sink{}},
		{"gzip", build.Options{Compressor: rafs.CompressorGzip}, build.Sink{}},
		{"batch_v5", build.Options{BatchSize: 4096, Version: rafs.V5}, build.Sink{}},
		{"batch_size", build.Options{BatchSize: 2 << 20}, build.Sink{}},
		{"toc_v5", build.Options{BlobTOC: true, Version: rafs.V5}, build.Sink{}},
		{"encrypt_v5", build.Options{Encrypt: true, Version: rafs.V5}, build.Sink{}},
		{"equal_keys", build.Options{Encrypt: true, Key: [32]byte(bytes.Repeat([]byte{7}, 32))}, build.Sink{}},
		{"inline_with_id", build.Options{InlineMeta: true, BlobID: "x"}, build.Sink{}},
		{"inline_with_bootstrap", build.Options{InlineMeta: true}, build.Sink{Bootstrap: "x"}},
		{"cache_and_blob", build.Options{}, build.Sink{CacheDir: "x", Blob: "y"}},
		{"cache_compressed", build.Options{Compressor: rafs.CompressorZstd}, build.Sink{CacheDir: "x"}},
		{"long_id", build.Options{BlobID: string(make([]byte, 65))}, build.Sink{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := build.Build(t.Context(), build.Dir(t.TempDir()), tt.sink, tt.o); !errors.Is(err, build.ErrOptions) {
				t.Errorf("error %v, want one of class ErrOptions", err)
			}
		})
	}
}

func TestDuplicateDataIsStoredOnce(t *testing.T) {
	dir := t.TempDir()
	data := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	for _, name := range []string{"a", "b", "c"} {
		steps(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
	}
	out := buildInto(t, build.Dir(dir), build.Options{})
	if n := out.res.DataSize; n != uint64(len(data)) {
		t.Errorf("%d bytes stored, want %d", n, len(data))
	}
	if out.res.DedupCount != 4 || out.res.DedupSize != 2*uint64(len(data)) {
		t.Errorf("%d chunks, %d bytes not stored again; want 4 and %d", out.res.DedupCount, out.res.DedupSize, 2*len(data))
	}
}

// inlined takes the bootstrap out of an image's blob.
func inlined(t *testing.T, im *testimage.Image) *build.Image {
	t.Helper()
	boot, err := bootload.Open(opener.Local(), im.Bootstrap)
	steps(t, err)
	t.Cleanup(func() { steps(t, boot.Close()) })
	return &build.Image{Name: boot.Name, Data: boot.Bytes()}
}

func TestChunkDictionaryAndParentShareChunks(t *testing.T) {
	tree := smallTree(t)
	for _, v := range []rafs.Version{rafs.V5, rafs.V6} {
		base := testimage.Make(t, testimage.Options{Source: tree, Version: v, Layout: testimage.Inline})
		for _, o := range []build.Options{
			{Version: v, ChunkDict: inlined(t, base)},
			{Version: v, Parent: inlined(t, base)},
		} {
			out := buildInto(t, build.Dir(tree), o)
			if out.res.DataSize != 0 || out.res.BlobID != "" || len(out.res.Blobs) != 1 || out.res.Blobs[0] != base.Result.BlobID {
				t.Errorf("v%d: %d bytes stored, blobs %q; want nothing but %s", v, out.res.DataSize, out.res.Blobs, base.Result.BlobID)
			}
			boot := filepath.Join(t.TempDir(), "image.boot")
			steps(t, os.WriteFile(boot, out.boot.Bytes(), 0o600))
			got, err := testimage.Scan(boot, base.BlobDir)
			steps(t, err)
			want, err := testtree.Scan(tree, testtree.ScanOptions{})
			steps(t, err)
			testimage.Compare(t, testimage.Expected(want, v), got, testtree.DiffOptions{SkipRoot: true})
		}
	}
}

func TestPrefetchPatternsFillTheTableAndOrderTheData(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "m", "z"} {
		steps(t, os.Mkdir(filepath.Join(dir, name), 0o755),
			os.WriteFile(filepath.Join(dir, name, "f"), []byte("data of "+name), 0o644))
	}
	patterns := []string{"/z", "/m/f", "/z/f", "/nowhere", "relative"}
	for _, v := range []rafs.Version{rafs.V5, rafs.V6} {
		out := buildInto(t, build.Dir(dir), build.Options{Version: v, Prefetch: build.Prefetch{Policy: build.PrefetchFS, Patterns: patterns}})
		im, err := rafs.Open(out.boot.Bytes(), rafs.Options{})
		steps(t, err)
		if got := im.Prefetch(); len(got) != 2 {
			t.Errorf("v%d: %d prefetch entries, want 2", v, len(got))
		}
		if !bytes.HasPrefix(out.blob.Bytes(), []byte("data of zdata of mdata of a")) && v == rafs.V5 {
			t.Errorf("v%d: data begins with %.30q", v, out.blob.Bytes())
		}
	}
	out := buildInto(t, build.Dir(dir), build.Options{Version: rafs.V5, Prefetch: build.Prefetch{Policy: build.PrefetchBlob, Patterns: patterns}})
	im, err := rafs.Open(out.boot.Bytes(), rafs.Options{})
	steps(t, err)
	if b := im.Blobs()[0]; b.PrefetchOff != 0 || b.PrefetchSize != 18 || len(im.Prefetch()) != 0 {
		t.Errorf("prefetch range %d+%d, %d entries; want 0+18 and none", b.PrefetchOff, b.PrefetchSize, len(im.Prefetch()))
	}
}
