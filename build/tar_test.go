package build_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"vrafs/build"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// gnuTar packs dir with GNU tar.
func gnuTar(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	testenv.Need(t, testenv.GNUTar)
	all := append([]string{"--xattrs", "--xattrs-include=*", "--numeric-owner", "--sort=name"}, args...)
	cmd := exec.Command("tar", append(all, "-C", dir, "-cf", "-", ".")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tar: %v\n%s", err, stderr.Bytes())
	}
	return out
}

// buildStream builds an image from r and gives its tree.
func buildStream(t *testing.T, r io.Reader, typ build.SourceType, o build.Options) []testtree.Entry {
	t.Helper()
	dir := t.TempDir()
	sink := build.Sink{BlobDir: dir, Bootstrap: filepath.Join(t.TempDir(), "image.boot")}
	if _, err := build.Build(t.Context(), build.Stream(typ, r, "test.tar"), sink, o); err != nil {
		t.Fatal(err)
	}
	got, err := testimage.Scan(sink.Bootstrap, dir)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// scanTarred describes dir as GNU tar sees it: it packs each name of a FIFO as a
// file of its own.
func scanTarred(t *testing.T, dir string) []testtree.Entry {
	t.Helper()
	entries, err := testtree.Scan(dir, testtree.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		if e := &entries[i]; e.Mode&rafs.ModeType == rafs.ModeFIFO {
			e.Nlink, e.Link = 1, ""
		}
	}
	return entries
}

// seconds is the tree as an archive without fractions of seconds has it.
func seconds(entries []testtree.Entry) []testtree.Entry {
	for i := range entries {
		entries[i].Nsec = 0
	}
	return entries
}

func TestTarGivesTheTreeItWasMadeFrom(t *testing.T) {
	tree := tarTree(t)
	want := scanTarred(t, tree)
	pax := gnuTar(t, tree, "--format=pax")
	tests := []struct {
		name string
		data []byte
		o    build.Options
		gnu  bool
	}{
		{name: "pax", data: pax},
		{name: "pax_v5", data: pax, o: build.Options{Version: rafs.V5, Compressor: rafs.CompressorLZ4}},
		{name: "gnu_without_xattrs", data: gnuTar(t, tree, "--format=gnu", "--no-xattrs"), gnu: true},
		{name: "gzip", data: gzipped(t, pax[:len(pax)/2], pax[len(pax)/2:]), o: build.Options{Compressor: rafs.CompressorZstd}},
		{name: "zstd", data: zstdCompressed(t, pax)},
		{name: "sparse_0.0", data: gnuTar(t, tree, "-S", "--format=pax", "--sparse-version=0.0")},
		{name: "sparse_0.1", data: gnuTar(t, tree, "-S", "--format=pax", "--sparse-version=0.1")},
		{name: "sparse_1.0", data: gnuTar(t, tree, "-S", "--format=pax", "--sparse-version=1.0")},
		{name: "sparse_old", data: gnuTar(t, tree, "-S", "--format=gnu", "--no-xattrs"), gnu: true},
		{name: "small_chunks", data: gnuTar(t, tree, "-S", "--format=pax"), o: build.Options{ChunkSize: 4096, BatchSize: 4096}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			version := tt.o.Version
			if version == 0 {
				version = rafs.V6
			}
			want, diff := testimage.Expected(want, version), testtree.DiffOptions{SkipRoot: true}
			if tt.gnu {
				want, diff.SkipXattrs = seconds(want), true
			}
			testimage.Compare(t, want, buildStream(t, bytes.NewReader(tt.data), build.TypeTar, tt.o), diff)
		})
	}
}

// gzipped compresses each part as a member of its own.
func gzipped(t *testing.T, parts ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, p := range parts {
		w := gzip.NewWriter(&b)
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func zstdCompressed(t *testing.T, p []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(p, nil)
}

func TestPublishedTarOfEveryEntryTypeBuilds(t *testing.T) {
	testenv.Need(t, testenv.GNUTar, testenv.Root)
	path := filepath.Join(testenv.Testdata(t), "all-entry-type.tar")
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-xpf", path, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := buildStream(t, f, build.TypeTar, build.Options{})
	testimage.Compare(t, scanTarred(t, dir), got, testtree.DiffOptions{SkipRoot: true})
}

func TestBuildStreamsThroughFIFOs(t *testing.T) {
	tree := tarTree(t)
	data := gnuTar(t, tree, "--format=pax")
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	for _, p := range []string{in, out} {
		if err := unix.Mkfifo(p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	errs := make(chan error, 1)
	go func() { errs <- os.WriteFile(in, data, 0) }()
	blob := make(chan []byte, 1)
	go func() {
		p, _ := os.ReadFile(out)
		blob <- p
	}()
	src, err := os.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	res, err := build.Build(t.Context(), build.Stream(build.TypeTar, src, in), build.Sink{Blob: out},
		build.Options{InlineMeta: true, BlobTOC: true, Compressor: rafs.CompressorZstd})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	p := <-blob
	if uint64(len(p)) != res.BlobSize {
		t.Errorf("%d bytes came through the FIFO, result says %d", len(p), res.BlobSize)
	}
	blobs := t.TempDir()
	path := filepath.Join(blobs, res.BlobID)
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := testimage.Scan(path, blobs)
	if err != nil {
		t.Fatal(err)
	}
	testimage.Compare(t, scanTarred(t, tree), got, testtree.DiffOptions{SkipRoot: true})
}
