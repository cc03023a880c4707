package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/backend/localfs"
	"vrafs/build"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// asProgram, in the environment, makes the test binary the program.
const asProgram = "VRAFS_TEST_AS_PROGRAM"

// nydusImageCommand is this very program under its other name, as a child.
func nydusImageCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Args = append([]string{nydusImage}, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// runQuietly runs the program and wants success without a word, as converters do with
// --log-level warn.
func runQuietly(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := nydusImageCommand(t.Context(), args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// A layerEntry is one entry of a layer.
type layerEntry struct {
	name, data, link string
	typ              byte
}

// layerTar makes the tar of a layer.
func layerTar(t *testing.T, entries ...layerEntry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.typ, Linkname: e.link, Size: int64(len(e.data)), Mode: 0o755}
		must(t, w.WriteHeader(h))
		_, err := io.WriteString(w, e.data)
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

// pack converts one layer with the options that the converter library gives.
func pack(t *testing.T, layer []byte, args ...string) []byte {
	t.Helper()
	return stream(t, layer, append([]string{"--prefetch-policy", "fs", "--whiteout-spec", "none", "--fs-version", "6"}, args...)...)
}

// stream runs create with a tar that goes in through a FIFO and a blob that comes
// out through another at the same time.
func stream(t *testing.T, layer []byte, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "layer.tar"), filepath.Join(dir, "blob")
	must(t, unix.Mkfifo(in, 0o644), unix.Mkfifo(out, 0o644))
	feed := make(chan error, 1)
	go func() { feed <- feedFIFO(in, layer) }()
	type result struct {
		blob []byte
		err  error
	}
	drain := make(chan result, 1)
	go func() {
		blob, err := os.ReadFile(out)
		drain <- result{blob, err}
	}()
	args = append([]string{"create", "--log-level", "warn", "--blob", out}, args...)
	runQuietly(t, "/\n", append(args, in)...)
	r := <-drain
	must(t, <-feed, r.err)
	return r.blob
}

// feedFIFO writes p to a FIFO in small pieces, as a download does.
func feedFIFO(path string, p []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	for piece := range slices.Chunk(p, 1000) {
		if _, err := f.Write(piece); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

// store keeps a blob under its digest in a directory of blobs, and its bootstrap
// under the same name in another.
func store(t *testing.T, blob []byte, blobs, boots string) (id string) {
	t.Helper()
	id = keep(t, blob, blobs)
	storeBootstrap(t, id, blobs, filepath.Join(boots, id))
	return id
}

// keep stores p in dir under its digest.
func keep(t *testing.T, p []byte, dir string) (id string) {
	t.Helper()
	sum := sha256.Sum256(p)
	id = hex.EncodeToString(sum[:])
	must(t, os.WriteFile(filepath.Join(dir, id), p, 0o644))
	return id
}

// storeBootstrap takes the bootstrap out of a blob.
func storeBootstrap(t *testing.T, id, blobs, to string) {
	t.Helper()
	files, err := localfs.New(opener.Local(), localfs.Options{Dir: blobs})
	must(t, err)
	b, err := files.Open(t.Context(), id)
	must(t, err)
	defer b.Close()
	boot, err := build.ReadBootstrap(t.Context(), b)
	must(t, err, os.WriteFile(to, boot, 0o644))
}

// merged is what the converter reads of merge's result.
type merged struct {
	Blobs      []string `json:"blobs"`
	FSVersion  string   `json:"fs_version"`
	Compressor string   `json:"compressor"`
}

func mergeLayers(t *testing.T, boots string, ids []string, args ...string) (bootstrap string, m merged) {
	t.Helper()
	bootstrap = filepath.Join(t.TempDir(), "image.boot")
	out := filepath.Join(t.TempDir(), "output.json")
	all := append([]string{"merge", "--log-level", "warn", "--prefetch-policy", "fs", "--output-json", out, "--bootstrap", bootstrap}, args...)
	for _, id := range ids {
		all = append(all, filepath.Join(boots, id))
	}
	runQuietly(t, "/\n", all...)
	text, err := os.ReadFile(out)
	must(t, err, json.Unmarshal(text, &m))
	return bootstrap, m
}

var converterLayers = [][]layerEntry{
	{
		{name: "etc/", typ: tar.TypeDir}, {name: "etc/hosts", data: "127.0.0.1 localhost\n", typ: tar.TypeReg},
		{name: "etc/removed", data: "removed later", typ: tar.TypeReg}, {name: "etc/hard", link: "etc/hosts", typ: tar.TypeLink},
		{name: "big", data: strings.Repeat("0123456789abcdef", 200_000), typ: tar.TypeReg}, {name: "old/", typ: tar.TypeDir}, {name: "old/x", data: "x", typ: tar.TypeReg},
	},
	{
		{name: "etc/", typ: tar.TypeDir}, {name: "etc/.wh.removed", typ: tar.TypeReg}, {name: "etc/passwd", data: "root:x:0:0::/:/bin/sh\n", typ: tar.TypeReg},
		{name: "link", link: "etc/passwd", typ: tar.TypeSymlink}, {name: "old/", typ: tar.TypeDir}, {name: "old/.wh..wh..opq", typ: tar.TypeReg}, {name: "old/y", data: "y", typ: tar.TypeReg},
	},
}

// wantConverted is the tree of converterLayers.
var wantConverted = []string{"", "big", "etc", "etc/hard", "etc/hosts", "etc/passwd", "link", "old", "old/y"}

func paths(entries []testtree.Entry) (list []string) {
	for _, e := range entries {
		list = append(list, e.Path)
	}
	return list
}

func TestConverterSequenceThroughFIFOs(t *testing.T) {
	testenv.Need(t, testenv.Root)
	blobs, boots := t.TempDir(), t.TempDir()
	var ids []string
	for _, l := range converterLayers {
		blob := pack(t, layerTar(t, l...), "--type", "tar-rafs", "--blob-inline-meta", "--features", "blob-toc", "--compressor", "zstd")
		ids = append(ids, store(t, blob, blobs, boots))
	}
	bootstrap, m := mergeLayers(t, boots, ids)
	if !slices.Equal(slices.Sorted(slices.Values(m.Blobs)), slices.Sorted(slices.Values(ids))) || m.FSVersion != "6" || m.Compressor != "zstd" {
		t.Errorf("merge says %+v, layers are %q", m, ids)
	}
	got, err := testimage.Scan(bootstrap, blobs)
	must(t, err)
	if !slices.Equal(paths(got), wantConverted) {
		t.Errorf("tree %q, want %q", paths(got), wantConverted)
	}
	for _, e := range got {
		if e.Path == "etc/hosts" && e.Nlink != 2 {
			t.Errorf("etc/hosts has %d links, want 2", e.Nlink)
		}
	}
	checkUnpacked(t, bootstrap, blobs, got)
}

// checkUnpacked unpacks as the converter does and compares with the tree.
func checkUnpacked(t *testing.T, bootstrap, blobs string, want []testtree.Entry) {
	t.Helper()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "out.tar")
	must(t, unix.Mkfifo(fifo, 0o644))
	done := make(chan []byte, 1)
	go func() {
		p, _ := os.ReadFile(fifo)
		done <- p
	}()
	runQuietly(t, "", "unpack", "--log-level", "warn", "--bootstrap", bootstrap, "--output", fifo,
		"--backend-type", "localfs", "--backend-config", fmt.Sprintf(`{"dir":%q}`, blobs))
	image := filepath.Join(dir, "again.boot")
	_, err := build.Build(t.Context(), build.Stream(build.TypeTar, bytes.NewReader(<-done), "out.tar"),
		build.Sink{Bootstrap: image, BlobDir: dir}, build.Options{})
	must(t, err)
	got, err := testimage.Scan(image, dir)
	must(t, err)
	testimage.Compare(t, want, got, testtree.DiffOptions{})
}

func TestConverterOfReferencesLeavesTheLayersAsTheyAre(t *testing.T) {
	testenv.Need(t, testenv.Root)
	blobs, boots := t.TempDir(), t.TempDir()
	var layers, metas, sizes []string
	for _, l := range converterLayers {
		var gz bytes.Buffer
		w := gzip.NewWriter(&gz)
		_, err := w.Write(layerTar(t, l...))
		must(t, err, w.Close())
		layer := keep(t, gz.Bytes(), blobs)
		meta := stream(t, gz.Bytes(), "--type", "targz-ref", "--blob-inline-meta", "--features", "blob-toc")
		if len(meta) > gz.Len()+100_000 {
			t.Errorf("the data of the layer was stored again: %d bytes for %d", len(meta), gz.Len())
		}
		id := keep(t, meta, blobs)
		storeBootstrap(t, id, blobs, filepath.Join(boots, layer))
		layers, metas, sizes = append(layers, layer), append(metas, id), append(sizes, fmt.Sprint(len(meta)))
	}
	bootstrap, m := mergeLayers(t, boots, layers, "--blob-digests", strings.Join(metas, ","), "--blob-sizes", strings.Join(sizes, ","))
	if !slices.Equal(slices.Sorted(slices.Values(m.Blobs)), slices.Sorted(slices.Values(layers))) || m.Compressor != "gzip" {
		t.Errorf("merge says %+v, layers are %q", m, layers)
	}
	fifo := filepath.Join(t.TempDir(), "out.tar")
	runQuietly(t, "", "unpack", "-l", "warn", "-D", blobs, "--output", fifo, bootstrap)
	runQuietly(t, "", "create", "-l", "warn", "-t", "tar-rafs", "-B", fifo+".boot", "-D", blobs, fifo)
	got, err := testimage.Scan(fifo+".boot", blobs)
	must(t, err)
	if !slices.Equal(paths(got), wantConverted) {
		t.Errorf("tree %q, want %q", paths(got), wantConverted)
	}
	// Compacting stores the referenced data itself.
	runQuietly(t, "", "compact", "-l", "warn", "-B", bootstrap, "-D", blobs, "-O", bootstrap+".compact")
	got, err = testimage.Scan(bootstrap+".compact", blobs)
	must(t, err)
	if !slices.Equal(paths(got), wantConverted) {
		t.Errorf("compacted tree %q, want %q", paths(got), wantConverted)
	}
	out, err := nydusImageCommand(t.Context(), "check", "-D", blobs, bootstrap).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("zran")) {
		t.Errorf("check: %v\n%s", err, out)
	}
}

func TestPackingTheSameTarTwiceGivesTheSameBlob(t *testing.T) {
	testenv.Need(t, testenv.Root)
	layer := layerTar(t, converterLayers[0]...)
	args := []string{"--type", "tar-rafs", "--blob-inline-meta", "--features", "blob-toc"}
	if !bytes.Equal(pack(t, layer, args...), pack(t, layer, args...)) {
		t.Error("the blobs differ")
	}
}

func TestConverterOfDirectoriesUsesTheOldNames(t *testing.T) {
	testenv.Need(t, testenv.Root)
	dir, blobs, boots := t.TempDir(), t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("data"), 0o644))
	out := filepath.Join(t.TempDir(), "blob")
	must(t, unix.Mkfifo(out, 0o644))
	blob := make(chan []byte, 1)
	go func() {
		p, _ := os.ReadFile(out)
		blob <- p
	}()
	runQuietly(t, "/\n", "create", "--log-level", "warn", "--prefetch-policy", "fs", "--blob", out, "--whiteout-spec", "none",
		"--fs-version", "5", "--source-type", "directory", "--inline-bootstrap", dir)
	id := store(t, <-blob, blobs, boots)
	bootstrap, m := mergeLayers(t, boots, []string{id})
	if m.FSVersion != "5" || !slices.Equal(m.Blobs, []string{id}) {
		t.Errorf("merge says %+v, want blob %s", m, id)
	}
	got, err := testimage.Scan(bootstrap, blobs)
	must(t, err)
	if !slices.Equal(paths(got), []string{"", "file"}) {
		t.Errorf("tree %q", paths(got))
	}
}

func TestBrokenLayerEndsWithoutABlob(t *testing.T) {
	testenv.Need(t, testenv.Root)
	layer := layerTar(t, converterLayers[0]...)
	dir := t.TempDir()
	in, out := filepath.Join(dir, "layer.tar"), filepath.Join(dir, "blob")
	must(t, unix.Mkfifo(in, 0o644))
	feed := make(chan error, 1)
	go func() { feed <- feedFIFO(in, layer[:len(layer)/2]) }()
	cmd := nydusImageCommand(t.Context(), "create", "--type", "tar-rafs", "--blob-inline-meta", "--blob", out, in)
	text, err := cmd.CombinedOutput()
	must(t, <-feed)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !bytes.Contains(text, []byte("unexpected EOF")) {
		t.Errorf("%v\n%s", err, text)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("the blob of the failed build is still there")
	}
}

func TestRealImagesAreCheckedAndDamageIsNamed(t *testing.T) {
	samples := testenv.Testdata(t)
	for _, name := range []string{"v5-sha256-none.boot", "v6-blake3-zstd.boot"} {
		path := filepath.Join(samples, name)
		cmd := nydusImageCommand(t.Context(), "check", "-D", samples, path)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		data, err := os.ReadFile(path)
		must(t, err)
		for _, d := range realDamage[rafs.Detect(data)] {
			t.Run(name+" "+d.field, func(t *testing.T) { checkDamage(t, data, d.off, d.field) })
		}
	}
	out, err := nydusImageCommand(t.Context(), "check", filepath.Join(samples, "v5-obsolete-layout.boot")).CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("v5-obsolete-layout.boot")) || !bytes.Contains(out, []byte("pre-release RAFS v5 inode layout")) {
		t.Errorf("obsolete layout: %v\n%s", err, out)
	}
}

func TestPublishedImageGivesThePublishedFiles(t *testing.T) {
	samples := testenv.Testdata(t)
	list, err := os.ReadFile(filepath.Join(samples, "v5-sha256-none.md5"))
	must(t, err)
	files := 0
	for line := range strings.Lines(string(list)) {
		want, path, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			continue
		}
		cmd := nydusImageCommand(t.Context(), "cat", "-D", samples, filepath.Join(samples, "v5-sha256-none.boot"), path)
		cmd.Args[0] = "vrafs"
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if got := fmt.Sprintf("%x", md5.Sum(out)); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
		files++
	}
	if files == 0 {
		t.Error("no files in the list")
	}
}

// realDamage says what byte to change and which field the error must name.
var realDamage = map[rafs.Version][]struct {
	off   int
	field string
}{
	rafs.V5: {
		{rafs.V5SuperFlagsAt + 7, "flags"},
		{rafs.V5SuperInodeTableAt + 5, "inode_table"},
		{rafs.V5SuperBlobTableAt + 4, "blob_table"},
		{rafs.V5SuperSize + 3, "inode"},
	},
	rafs.V6: {
		{rafs.V6SuperOff + rafs.V6SuperBlkSzBitsAt, "blkszbits"},
		{rafs.V6SuperOff + rafs.V6SuperIncompatAt + 3, "incompat"},
		{rafs.V6ExtOff + rafs.V6ExtChunkSizeAt, "chunk_size"},
		{rafs.V6ExtOff + rafs.V6ExtChunkTableAt + 5, "chunk_table"},
		{rafs.V6SuperOff + rafs.V6SuperRootNidAt + 1, "inode"},
	},
}

// checkDamage changes a byte of a copy and wants an error that names the file, the
// field and an offset.
func checkDamage(t *testing.T, data []byte, off int, field string) {
	bad := bytes.Clone(data)
	bad[off] ^= 0x55
	path := filepath.Join(t.TempDir(), "damaged.boot")
	must(t, os.WriteFile(path, bad, 0o644))
	out, err := nydusImageCommand(t.Context(), "check", path).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{path, field, " at 0x"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
