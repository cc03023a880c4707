package build_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vrafs/build"
	"vrafs/internal/testenv"
	"vrafs/rafs"
)

// manyLayers are n layers of one file each, with their blobs in a directory.
func manyLayers(t *testing.T, n int, o build.Options) (layers []build.Layer, blobs string) {
	t.Helper()
	blobs = t.TempDir()
	o.InlineMeta, o.Whiteout = true, build.WhiteoutNone
	for i := range n {
		data := archive(t, fileEntry(fmt.Sprintf("file%03d", i), fmt.Sprintf("data of layer %d", i)))
		r, err := build.Build(t.Context(), build.Stream(build.TypeTar, bytes.NewReader(data), "layer"), build.Sink{BlobDir: blobs}, o)
		steps(t, err)
		layers = append(layers, build.Layer{Image: openImage(t, r.BlobPath, blobs)})
	}
	return layers, blobs
}

func TestMergeFillsTheBlobTableAndNoMore(t *testing.T) {
	testenv.Long(t)
	for _, tt := range []struct {
		version rafs.Version
		most    int
	}{{rafs.V6, rafs.V6MaxBlobs}, {rafs.V5, rafs.V5MaxBlobs}} {
		if tt.version == rafs.V5 && !testenv.Soak() {
			continue // four times as many
		}
		t.Run(fmt.Sprint("v", tt.version), func(t *testing.T) {
			layers, blobs := manyLayers(t, tt.most+1, build.Options{Version: tt.version})
			merge := func(list ...build.Layer) ([]string, error) {
				out := filepath.Join(t.TempDir(), "merged")
				r, err := build.Merge(t.Context(), list, build.Sink{Bootstrap: out}, build.MergeOptions{})
				if err != nil {
					return nil, err
				}
				entries := scan(t, out, blobs)
				if len(entries) != tt.most+1 {
					t.Errorf("%d names, want %d and the root", len(entries), tt.most)
				}
				return r.Blobs, nil
			}
			if got, err := merge(layers[:tt.most]...); err != nil || len(got) != tt.most {
				t.Errorf("%d blobs, %v; want %d", len(got), err, tt.most)
			}
			if _, err := merge(layers...); !errors.Is(err, build.ErrInconsistent) {
				t.Errorf("one blob too many: error %v, want one of class %v", err, build.ErrInconsistent)
			}
			// A layer whose data nothing refers to any more needs no room.
			again, _ := manyLayers(t, 1, build.Options{Version: tt.version, ChunkDict: &layers[0].Image})
			if got, err := merge(append(layers[:tt.most:tt.most], again...)...); err != nil || len(got) != tt.most {
				t.Errorf("with a layer of no data: %d blobs, %v; want %d", len(got), err, tt.most)
			}
		})
	}
}

func TestFileOfAHundredThousandChunksReadsBack(t *testing.T) {
	testenv.Long(t)
	const size = 100_000*0x1000 + 17
	want := sha256.New()
	content := io.TeeReader(io.LimitReader(&counterReader{}, size), want)
	stream := io.MultiReader(bytes.NewReader(sectionOfTar(t, size)), content, bytes.NewReader(make([]byte, 2048)))
	dir := t.TempDir()
	boot := filepath.Join(dir, "image.boot")
	r, err := build.Build(t.Context(), build.Stream(build.TypeTar, stream, "long"), build.Sink{Bootstrap: boot, BlobDir: dir},
		build.Options{ChunkSize: 0x1000, Compressor: rafs.CompressorLZ4})
	steps(t, err)
	if r.DataSize+r.DedupSize != size {
		t.Errorf("%d bytes of data, want %d", r.DataSize+r.DedupSize, size)
	}
	pr, pw := io.Pipe()
	go func() {
		pw.CloseWithError(build.Unpack(t.Context(), openImage(t, boot, dir), pw, build.UnpackOptions{}))
	}()
	tr, got := tar.NewReader(pr), sha256.New()
	_, err = tr.Next()
	steps(t, err)
	n, err := io.Copy(got, tr)
	steps(t, err)
	if _, err := tr.Next(); err != io.EOF {
		t.Errorf("behind the file there is %v, want the end", err)
	}
	_, err = io.Copy(io.Discard, pr) // ends with the error of Unpack
	steps(t, err)
	if n != size || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Errorf("%d bytes came back, other than the %d that went in", n, int64(size))
	}
}

// longName is a name of 255 bytes, as long as names get.
func longName(i int) string { return fmt.Sprintf("%07d%s", i, strings.Repeat("n", rafs.MaxNameLen-7)) }

// longNames is a tar of n empty files with such names in the root.
func longNames(n int) io.Reader {
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		var err error
		for i := 0; i < n && err == nil; i++ {
			err = tw.WriteHeader(&tar.Header{Name: longName(i), Typeflag: tar.TypeReg, Mode: 0o644, Format: tar.FormatGNU})
		}
		w.CloseWithError(errors.Join(err, tw.Close()))
	}()
	return r
}

func TestDirectoryOfAMillionLongNamesIsSearched(t *testing.T) {
	testenv.Long(t)
	n := testenv.Rounds(1_000_000)
	for _, v := range []rafs.Version{rafs.V5, rafs.V6} {
		t.Run(fmt.Sprint("v", v), func(t *testing.T) {
			var boot bytes.Buffer
			_, err := build.Build(t.Context(), build.Stream(build.TypeTar, longNames(n), "names"), build.Sink{BootstrapWriter: &boot},
				build.Options{Version: v})
			steps(t, err)
			im, err := rafs.Open(boot.Bytes(), rafs.Options{})
			steps(t, err)
			root, err := im.Inode(im.Root())
			steps(t, err)
			for _, i := range append([]int{0, n - 1}, rand.Perm(n)[:1000]...) {
				if _, err := root.Lookup([]byte(longName(i))); err != nil {
					t.Fatalf("name %d: %v", i, err)
				}
			}
			if _, err := root.Lookup([]byte(longName(n))); !errors.Is(err, rafs.ErrNotExist) {
				t.Errorf("a name that is not there: %v", err)
			}
			if got := listed(t, &root); got != n+2 {
				t.Errorf("%d entries, want %d and two dots", got, n)
			}
		})
	}
}

// listed counts the entries of a directory.
func listed(t *testing.T, dir *rafs.Inode) (n int) {
	t.Helper()
	cur, err := dir.Dir(0)
	steps(t, err)
	var d rafs.Dirent
	for {
		ok, err := cur.Next(&d)
		steps(t, err)
		if !ok {
			return n
		}
		n++
	}
}

func TestTerabyteOfHolesIsOneChunk(t *testing.T) {
	testenv.Long(t)
	size := int64(testenv.Rounds(1024)) << 30
	tree, dir := t.TempDir(), t.TempDir()
	f, err := os.Create(filepath.Join(tree, "holes"))
	steps(t, err)
	_, err = f.WriteAt([]byte("in the middle"), size/2)
	steps(t, err, f.Truncate(size), f.Close())
	for _, v := range []rafs.Version{rafs.V5, rafs.V6} {
		boot := filepath.Join(dir, fmt.Sprint("boot", v))
		r, err := build.Build(t.Context(), build.Dir(tree), build.Sink{Bootstrap: boot, BlobDir: dir}, build.Options{Version: v, Compressor: rafs.CompressorZstd})
		steps(t, err)
		if r.DataSize != 2*build.DefaultChunkSize || r.BlobSize > 8192 {
			t.Errorf("v%d: %d bytes of data in a blob of %d, want two chunks", v, r.DataSize, r.BlobSize)
		}
		im := openImage(t, boot, dir)
		img, err := rafs.Open(im.Data, rafs.Options{})
		steps(t, err)
		root, err := img.Inode(img.Root())
		steps(t, err)
		ino, err := root.Lookup([]byte("holes"))
		steps(t, err)
		in, err := img.Inode(ino)
		steps(t, err)
		var at []rafs.ChunkIndex
		for _, off := range []int64{0, size/2 - 1, size / 2, size - 1} {
			spans, err := in.AppendSpans(nil, uint64(off), 1)
			steps(t, err)
			at = append(at, spans[0].Index)
		}
		if in.Size() != uint64(size) || !slices.Equal(at, []rafs.ChunkIndex{0, 0, 1, 0}) {
			t.Errorf("v%d: %d bytes, chunks %v; want %d bytes, the zeros but in the middle", v, in.Size(), at, size)
		}
	}
}
