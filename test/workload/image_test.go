package workload

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/internal/testoci"
)

// An image is one tree in both forms, in a stage's registry.
type image struct {
	name   string
	layers []string // ids of the OCI layers, the lowest first
	boot   string   // id of the bootstrap, compressed as a layer is
	stored int64    // bytes of the blob that it refers to
	vrafs  string   // the program that made it
}

// push makes an image of an OCI image's tree, and puts both into the registry.
func (s *stage) push(im *testoci.Image, args ...string) *image {
	s.t.Helper()
	out := &image{name: im.Name, vrafs: program(s.t, "vrafs")}
	for _, l := range im.Layers(s.t) {
		data, err := os.ReadFile(im.Blob(l.Digest))
		if err != nil {
			s.t.Fatal(err)
		}
		out.layers = append(out.layers, s.registry.Push(s.t, repo, data))
	}
	dir := filepath.Join(s.dir, "made-"+im.Name)
	must(s.t, os.MkdirAll(filepath.Join(dir, "blobs"), 0o755))
	boot := filepath.Join(dir, "image.boot")
	args = append([]string{"create", "-l", "warn", "--fs-version", "6", "--compressor", "zstd", "--blob-dir", filepath.Join(dir, "blobs"), "-B", boot}, args...)
	run(s.t, exec.Command(out.vrafs, append(args, im.Tree)...))
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "*"))
	must(s.t, err)
	for _, b := range blobs {
		data, err := os.ReadFile(b)
		must(s.t, err)
		if id := s.registry.Push(s.t, repo, data); id != filepath.Base(b) {
			s.t.Fatalf("blob %s is called %s", id, b)
		}
		out.stored += int64(len(data))
	}
	text, err := os.ReadFile(boot)
	must(s.t, err)
	out.boot = s.registry.Push(s.t, repo, compress(s.t, text))
	must(s.t, os.RemoveAll(dir))
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

func compress(t testing.TB, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(p)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

func expand(p []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(p))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
