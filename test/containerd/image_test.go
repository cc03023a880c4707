package containerd

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"vrafs/internal/testenv"
)

// The data of the image: incompressible files that reader checks.
const (
	dataFiles = 8
	dataSize  = 1 << 20
)

// programs are built once, without the dynamic loader: reader runs in a root that
// has none.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "bin")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", dir+"/", "./cmd/vrafs", "./cmd/vrafsd", "./test/containerd/reader")
	cmd.Dir, cmd.Env = testenv.ModuleRoot(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return dir, os.Symlink("vrafs", filepath.Join(dir, "nydus-image"))
})

// program is the path of one of our programs.
func program(t testing.TB, name string) string {
	t.Helper()
	dir, err := programs()
	must(t, err)
	return filepath.Join(dir, name)
}

// A layer is a tar being made.
type layer struct {
	buf bytes.Buffer
	w   *tar.Writer
}

func newLayer() *layer {
	l := &layer{}
	l.w = tar.NewWriter(&l.buf)
	return l
}

func (l *layer) add(t testing.TB, h tar.Header, data []byte) {
	t.Helper()
	h.Size = int64(len(data))
	if h.Mode == 0 {
		h.Mode = 0o755
	}
	must(t, l.w.WriteHeader(&h))
	_, err := l.w.Write(data)
	must(t, err)
}

func (l *layer) finish(t testing.TB) []byte {
	t.Helper()
	must(t, l.w.Close())
	return l.buf.Bytes()
}

// programLayer has the program, and a file that the layer above removes.
func programLayer(t testing.TB) []byte {
	t.Helper()
	reader, err := os.ReadFile(program(t, "reader"))
	must(t, err)
	l := newLayer()
	l.add(t, tar.Header{Name: "reader", Typeflag: tar.TypeReg}, reader)
	l.add(t, tar.Header{Name: "data/", Typeflag: tar.TypeDir}, nil)
	l.add(t, tar.Header{Name: "data/removed", Typeflag: tar.TypeReg}, []byte("by the next layer"))
	return l.finish(t)
}

// dataLayer has the data and the list of its digests.
func dataLayer(t testing.TB) []byte {
	t.Helper()
	l := newLayer()
	var sums strings.Builder
	random := rand.NewChaCha8([32]byte{4})
	l.add(t, tar.Header{Name: "data/", Typeflag: tar.TypeDir}, nil)
	for i := range dataFiles {
		data := make([]byte, dataSize)
		_, _ = random.Read(data) // never fails
		name := fmt.Sprint("file", i)
		fmt.Fprintf(&sums, "%x %s\n", sha256.Sum256(data), name)
		l.add(t, tar.Header{Name: "data/" + name, Typeflag: tar.TypeReg}, data)
	}
	l.add(t, tar.Header{Name: "data/.wh.removed", Typeflag: tar.TypeReg}, nil)
	l.add(t, tar.Header{Name: "sums", Typeflag: tar.TypeReg}, []byte(sums.String()))
	return l.finish(t)
}

// A conversion is what the converter library made of layers.
type conversion struct {
	Layers []string `json:"layers"` // digests of the packed layers
	Blobs  []string `json:"blobs"`  // digests of the blobs that the image needs
	dir    string
}

// convert runs the converter library with our builder over layers.
func convert(t testing.TB, layers [][]byte, args ...string) *conversion {
	t.Helper()
	c := &conversion{dir: t.TempDir()}
	args = append([]string{"-builder", program(t, "nydus-image"), "-out", c.dir}, args...)
	for i, l := range layers {
		path := filepath.Join(c.dir, fmt.Sprintf("layer%d", i))
		must(t, os.WriteFile(path, l, 0o600))
		args = append(args, path)
	}
	must(t, json.Unmarshal([]byte(output(t, exec.Command(testenv.Peer("convert"), args...))), c))
	return c
}

// blobs is the directory of the packed layers.
func (c *conversion) blobs() string { return filepath.Join(c.dir, "blobs") }

// A descriptor is an OCI descriptor.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// mediaPrefix begins OCI's media types.
const mediaPrefix = "application/vnd.oci.image."

// push puts an image of c into the registry, as the converters do.
func (c *conversion) push(t testing.TB, registry, repository, tag string) {
	t.Helper()
	base := registry + "/v2/" + repository
	var layers []descriptor
	var diffs []string
	add := func(mediaType string, uncompressed, data []byte, mark string) {
		d := upload(t, base, data)
		d.MediaType = mediaPrefix + mediaType
		d.Annotations = map[string]string{"containerd.io/snapshot/nydus-" + mark: "true"}
		layers, diffs = append(layers, d), append(diffs, digestOf(uncompressed))
	}
	for _, digest := range c.Blobs {
		_, name, _ := strings.Cut(digest, ":")
		blob, err := os.ReadFile(filepath.Join(c.blobs(), name))
		must(t, err)
		add("layer.nydus.blob.v1", blob, blob, "blob")
	}
	boot, err := os.ReadFile(filepath.Join(c.dir, "bootstrap.tar"))
	must(t, err)
	add("layer.v1.tar+gzip", boot, compress(t, boot), "bootstrap")
	config := upload(t, base, marshal(t, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Cmd": []string{"/reader"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	}))
	config.MediaType = mediaPrefix + "config.v1+json"
	send(t, http.MethodPut, base+"/manifests/"+tag, mediaPrefix+"manifest.v1+json", marshal(t, map[string]any{
		"schemaVersion": 2, "mediaType": mediaPrefix + "manifest.v1+json", "config": config, "layers": layers,
	}))
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	must(t, err)
	return text
}

func compress(t testing.TB, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(p)
	must(t, err, w.Close())
	return b.Bytes()
}

func digestOf(p []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(p)) }

// upload puts a blob into a repository.
func upload(t testing.TB, base string, blob []byte) descriptor {
	t.Helper()
	to, err := url.Parse(send(t, http.MethodPost, base+"/blobs/uploads/", "", nil))
	must(t, err)
	d := descriptor{Digest: digestOf(blob), Size: len(blob)}
	query := to.Query()
	query.Set("digest", d.Digest)
	to.RawQuery = query.Encode()
	send(t, http.MethodPut, to.String(), "application/octet-stream", blob)
	return d
}

// send makes a request that must succeed and returns where its answer points.
func send(t testing.TB, method, target, mediaType string, body []byte) (location string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, bytes.NewReader(body))
	must(t, err)
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s %s, %v", method, target, resp.Status, text, err)
	}
	return resp.Header.Get("Location")
}
