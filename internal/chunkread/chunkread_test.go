package chunkread_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"vrafs/backend"
	"vrafs/backend/localfs"
	"vrafs/internal/bootload"
	"vrafs/internal/chunkread"
	"vrafs/internal/imagewalk"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/rafs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// source makes a directory with a large file, two small ones and a copy.
func source(t *testing.T) (dir string, files map[string][]byte) {
	t.Helper()
	testenv.Need(t, testenv.Root)
	dir, files = t.TempDir(), map[string][]byte{}
	large := make([]byte, 300_001)
	for i := range large {
		large[i] = byte(i * 2654435761 >> 13)
	}
	files["large"], files["copy"] = large, large
	files["small"], files["tiny"] = bytes.Repeat([]byte("small"), 300), []byte("t")
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, files
}

// open makes an image of dir and a reader for it.
func open(t *testing.T, o testimage.Options) (*testimage.Image, *rafs.Image, *chunkread.Reader) {
	t.Helper()
	im := testimage.Make(t, o)
	b, err := bootload.Open(opener.Local(), im.Bootstrap)
	must(t, err)
	t.Cleanup(func() { b.Close() })
	blobs, err := localfs.New(opener.Local(), localfs.Options{Dir: im.BlobDir})
	must(t, err)
	r := chunkread.New(b.Image, blobs, chunkread.Options{})
	t.Cleanup(func() { r.Close() })
	return im, b.Image, r
}

// read gives the content of a file.
func read(t *testing.T, ctx context.Context, im *rafs.Image, r *chunkread.Reader, path string, workers int) ([]byte, error) {
	t.Helper()
	n, err := imagewalk.Find(im, path)
	must(t, err)
	var got []byte
	err = r.Stream(ctx, workers, chunkread.FileChunks(im, &n), func(p chunkread.Piece) error {
		got = append(got, p.Data...)
		return nil
	})
	return got, err
}

var kinds = map[string]testimage.Options{
	"v5":              {Version: rafs.V5, Compressor: rafs.CompressorLZ4, ChunkSize: 0x1000},
	"v6":              {Compressor: rafs.CompressorZstd, ChunkSize: 0x1000, Digester: rafs.DigesterSHA256},
	"batch":           {Compressor: rafs.CompressorZstd, ChunkSize: 0x10000, BatchSize: 0x4000},
	"encrypted batch": {Compressor: rafs.CompressorZstd, ChunkSize: 0x10000, BatchSize: 0x4000, Encrypt: true},
}

func TestStreamGivesFilesInOrder(t *testing.T) {
	dir, files := source(t)
	for name, o := range kinds {
		o.Source = dir
		_, im, r := open(t, o)
		for path, want := range files {
			for _, workers := range []int{1, 7} {
				got, err := read(t, t.Context(), im, r, path, workers)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %s with %d workers: %d bytes, %v; want %d", name, path, workers, len(got), err, len(want))
				}
			}
		}
	}
}

func TestNoDamagedByteIsEmitted(t *testing.T) {
	dir, files := source(t)
	for name, o := range kinds {
		o.Source = dir
		made, im, r := open(t, o)
		blob := filepath.Join(made.BlobDir, im.Blobs()[0].ID)
		data, err := os.ReadFile(blob)
		must(t, err)
		end := im.Blobs()[0].CompressedDataSize()
		if meta := im.Blobs()[0].MetaOff; meta != 0 {
			end = meta
		}
		refused := 0
		for off := uint64(0); off < end; off += end / 25 {
			bad := bytes.Clone(data)
			bad[off] ^= 0x40
			if err := os.WriteFile(blob, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			for path, want := range files {
				got, err := read(t, t.Context(), im, r, path, 2)
				if err != nil {
					refused++
				}
				if !bytes.HasPrefix(want, got) {
					t.Fatalf("%s: %s: wrong bytes after damage at %#x", name, path, off)
				}
			}
		}
		if refused == 0 {
			t.Errorf("%s: no damage was noticed", name)
		}
	}
}

func TestCheckMetaAcceptsWhatBuildsMake(t *testing.T) {
	dir, _ := source(t)
	for name, o := range kinds {
		o.Source = dir
		_, _, r := open(t, o)
		if err := r.CheckMeta(t.Context(), 0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckMetaNoticesEveryChangedByte(t *testing.T) {
	dir, _ := source(t)
	made, im, _ := open(t, testimage.Options{Source: dir, ChunkSize: 0x1000})
	b := &im.Blobs()[0]
	blob := filepath.Join(made.BlobDir, b.ID)
	data, err := os.ReadFile(blob)
	must(t, err)
	blobs, err := localfs.New(opener.Local(), localfs.Options{Dir: made.BlobDir})
	must(t, err)
	size := b.ChunkInfoSize() * uint64(b.ChunkCount)
	if b.MetaCompressedSize != size {
		t.Fatalf("the array of an uncompressed blob has %d bytes, want %d", b.MetaCompressedSize, size)
	}
	for off := b.MetaOff; off < b.MetaOff+size; off++ {
		if (off-b.MetaOff)%rafs.ChunkInfoV1Size == 0 {
			continue // the low byte of an offset, which is a multiple of 4096, is reserved
		}
		data[off] ^= 0x01
		must(t, os.WriteFile(blob, data, 0o644))
		data[off] ^= 0x01
		r := chunkread.New(im, blobs, chunkread.Options{})
		if err := r.CheckMeta(t.Context(), 0); err == nil {
			t.Errorf("byte %#x of %#x changed unnoticed", off-b.MetaOff, size)
		}
		r.Close()
	}
}

func TestTruncatedBlobIsAnError(t *testing.T) {
	dir, _ := source(t)
	made, im, r := open(t, testimage.Options{Source: dir})
	if err := os.Truncate(filepath.Join(made.BlobDir, im.Blobs()[0].ID), 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t, t.Context(), im, r, "large", 2); err == nil {
		t.Error("no error")
	}
}

func TestMissingBlobIsNotFound(t *testing.T) {
	dir, _ := source(t)
	made, im, r := open(t, testimage.Options{Source: dir})
	if err := os.Remove(filepath.Join(made.BlobDir, im.Blobs()[0].ID)); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t, t.Context(), im, r, "large", 2); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := read(t, t.Context(), im, chunkread.New(im, nil, chunkread.Options{}), "large", 2); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("without a place: got %v", err)
	}
}

func TestChunksWithoutDigestAreReadOnlyIfTheBlobIsNamed(t *testing.T) {
	dir, files := source(t)
	made, im, _ := open(t, testimage.Options{Source: dir})
	n, err := imagewalk.Find(im, "small")
	must(t, err)
	c, err := n.Chunk(0)
	must(t, err)
	if c, err = chunkread.NewIndex(im).Complete(c); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(made.Bootstrap)
	must(t, err)
	bare, err := rafs.Open(bytes.ReplaceAll(data, c.Digest[:], make([]byte, len(c.Digest))), rafs.Options{})
	must(t, err)
	blobs, err := localfs.New(opener.Local(), localfs.Options{Dir: made.BlobDir})
	must(t, err)
	for _, tt := range []struct {
		allowed string
		want    error
	}{{"", chunkread.ErrUnverified}, {"another", chunkread.ErrUnverified}, {bare.Blobs()[0].ID, nil}} {
		r := chunkread.New(bare, blobs, chunkread.Options{AllowUnverified: []string{tt.allowed}})
		got, err := read(t, t.Context(), bare, r, "small", 1)
		if !errors.Is(err, tt.want) || err == nil && !bytes.Equal(got, files["small"]) {
			t.Errorf("allowed %q: %d bytes, %v", tt.allowed, len(got), err)
		}
		r.Close()
	}
}

func TestCancelledStreamStops(t *testing.T) {
	dir, _ := source(t)
	_, im, r := open(t, testimage.Options{Source: dir, ChunkSize: 0x1000})
	ctx, cancel := context.WithCancel(t.Context())
	n, err := imagewalk.Find(im, "large")
	must(t, err)
	emitted := 0
	err = r.Stream(ctx, 2, chunkread.FileChunks(im, &n), func(chunkread.Piece) error {
		emitted++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || emitted >= 74 {
		t.Errorf("%d pieces, %v", emitted, err)
	}
}

func TestTagsKeepTheirPlaceAmongChunks(t *testing.T) {
	dir, _ := source(t)
	_, im, r := open(t, testimage.Options{Source: dir, ChunkSize: 0x10000})
	n, err := imagewalk.Find(im, "large")
	must(t, err)
	items := func(yield func(chunkread.Item, error) bool) {
		i := 0
		for item, err := range chunkread.FileChunks(im, &n) {
			if !yield(chunkread.Item{Tag: i}, nil) || !yield(item, err) {
				return
			}
			i++
		}
	}
	var order []any
	err = r.Stream(t.Context(), 3, items, func(p chunkread.Piece) error {
		if p.Tag == nil {
			order = append(order, int(p.Chunk.Index))
		} else {
			order = append(order, p.Tag)
		}
		return nil
	})
	if err != nil || len(order) != 10 {
		t.Fatalf("%v %v", order, err)
	}
	for i := range order {
		if order[i] != order[i&^1] {
			t.Errorf("order %v", order)
		}
	}
}
