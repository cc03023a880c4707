package ocitest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// An Entry is a member of a layer.
type Entry struct {
	tar.Header
	Data []byte
}

// Time is the modification time of entries that name none.
var Time = time.Unix(1_700_000_000, 0).UTC()

// File is a regular file with mode 0644.
func File(name, data string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: Time}, Data: []byte(data)}
}

// Dir is a directory with mode 0755.
func Dir(name string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: Time}}
}

// Link is a symbolic link.
func Link(name, target string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: Time}}
}

// HardLink is another name of an earlier entry.
func HardLink(name, target string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644, ModTime: Time}}
}

// Tar is the archive of the entries.
func Tar(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		must(t, w.WriteHeader(&e.Header))
		_, err := w.Write(e.Data)
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

// A Compression is how a layer is stored.
type Compression string

// The compressions of layers, by the end of their media types.
const (
	Plain Compression = ""
	Gzip  Compression = "+gzip"
	Zstd  Compression = "+zstd"
)

// A Layer is a layer as it is stored.
type Layer struct {
	MediaType string
	DiffID    digest.Digest
	Bytes     []byte
	// Annotations of its descriptor, nil for none.
	Annotations map[string]string

	size int // of a layer that lies in its layout already
}

// WriteLayer writes a plain layer into the layout dir while fill makes it, for layers that
// are too large for memory.
func WriteLayer(t testing.TB, dir string, fill func(w *tar.Writer)) Layer {
	t.Helper()
	blobs := filepath.Join(dir, "blobs", "sha256")
	must(t, os.MkdirAll(blobs, 0o755))
	f, err := os.Create(filepath.Join(dir, "layer"))
	must(t, err)
	sum := digest.SHA256.Digester()
	w := tar.NewWriter(io.MultiWriter(f, sum.Hash()))
	fill(w)
	must(t, w.Close())
	st, err := f.Stat()
	must(t, err)
	must(t, f.Close())
	must(t, os.Rename(f.Name(), filepath.Join(blobs, sum.Digest().Encoded())))
	return Layer{MediaType: "application/vnd.oci.image.layer.v1.tar", DiffID: sum.Digest(), size: int(st.Size())}
}

// NewLayer compresses a tar.
func NewLayer(t testing.TB, plain []byte, c Compression) Layer {
	t.Helper()
	l := Layer{MediaType: "application/vnd.oci.image.layer.v1.tar" + string(c), DiffID: digest.FromBytes(plain), Bytes: plain}
	var b bytes.Buffer
	switch c {
	case Gzip:
		w := gzip.NewWriter(&b)
		_, err := w.Write(plain)
		must(t, err)
		must(t, w.Close())
		l.Bytes = b.Bytes()
	case Zstd:
		w, err := zstd.NewWriter(&b)
		must(t, err)
		_, err = w.Write(plain)
		must(t, err)
		must(t, w.Close())
		l.Bytes = b.Bytes()
	}
	return l
}

// NydusBlob is a layer that is a data blob.
func NydusBlob(blob []byte) Layer {
	return Layer{MediaType: "application/vnd.oci.image.layer.nydus.blob.v1", DiffID: digest.FromBytes(blob), Bytes: blob,
		Annotations: map[string]string{"containerd.io/snapshot/nydus-blob": "true"}}
}

// NydusBootstrap is the layer of a bootstrap.
func NydusBootstrap(t testing.TB, boot []byte) Layer {
	t.Helper()
	l := NewLayer(t, Tar(t, Dir("image"), File("image/image.boot", string(boot))), Gzip)
	l.Annotations = map[string]string{"containerd.io/snapshot/nydus-bootstrap": "true"}
	return l
}

type object = map[string]any

// Layout writes an image into the layout dir, which it makes if need be, under the name
// tag, for this machine's platform, and returns the digest of its manifest.
func Layout(t testing.TB, dir, tag string, layers ...Layer) digest.Digest {
	t.Helper()
	return Manifest(t, dir, tag, "linux/"+runtime.GOARCH, layers...)
}

// Manifest is Layout for any platform. Without a tag the image gets no name.
func Manifest(t testing.TB, dir, tag, platform string, layers ...Layer) digest.Digest {
	t.Helper()
	system, arch, _ := bytes.Cut([]byte(platform), []byte("/"))
	diffs, descs, history := []digest.Digest{}, []object{}, []object{}
	for i, l := range layers {
		diffs = append(diffs, l.DiffID)
		d := l.put(t, dir)
		if l.Annotations != nil {
			d["annotations"] = l.Annotations
		}
		descs = append(descs, d)
		history = append(history, object{"created_by": "layer " + string(rune('a'+i)), "created": Time})
	}
	config := put(t, dir, "application/vnd.oci.image.config.v1+json", marshal(t, object{
		"architecture": string(arch), "os": string(system), "created": Time, "history": history,
		"config": object{"Env": []string{"PATH=/bin"}, "Cmd": []string{"/bin/sh"}, "Labels": object{"name": tag}},
		"rootfs": object{"type": "layers", "diff_ids": diffs}, "variant.unknown": "kept",
	}))
	manifest := put(t, dir, "application/vnd.oci.image.manifest.v1+json", marshal(t, object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": descs,
	}))
	manifest["platform"] = object{"os": string(system), "architecture": string(arch)}
	name(t, dir, tag, manifest)
	return manifest["digest"].(digest.Digest)
}

// Index writes an index of the images that have no name yet, under the name tag, and
// returns its digest.
func Index(t testing.TB, dir, tag string) digest.Digest {
	t.Helper()
	x := index(t, dir)
	var all, rest []any
	for _, m := range x["manifests"].([]any) {
		if m.(object)["annotations"] == nil {
			all = append(all, m)
		} else {
			rest = append(rest, m)
		}
	}
	x["manifests"] = rest
	save(t, dir, x)
	d := put(t, dir, "application/vnd.oci.image.index.v1+json", marshal(t, object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": all,
	}))
	name(t, dir, tag, d)
	return d["digest"].(digest.Digest)
}

// put stores the layer, unless it is there, and returns its descriptor.
func (l *Layer) put(t testing.TB, dir string) object {
	if l.size > 0 {
		return object{"mediaType": l.MediaType, "digest": l.DiffID, "size": l.size}
	}
	return put(t, dir, l.MediaType, l.Bytes)
}

// put stores a blob and returns its descriptor.
func put(t testing.TB, dir, mediaType string, data []byte) object {
	t.Helper()
	d := digest.FromBytes(data)
	must(t, os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "blobs", "sha256", d.Encoded()), data, 0o644))
	return object{"mediaType": mediaType, "digest": d, "size": len(data)}
}

// name adds the descriptor to the index of the layout.
func name(t testing.TB, dir, tag string, desc object) {
	t.Helper()
	x := index(t, dir)
	if tag != "" {
		desc["annotations"] = object{"org.opencontainers.image.ref.name": tag}
	}
	list, _ := x["manifests"].([]any)
	x["manifests"] = append(list, desc)
	save(t, dir, x)
}

func index(t testing.TB, dir string) object {
	t.Helper()
	x := object{"schemaVersion": 2, "manifests": []any{}}
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err == nil {
		must(t, json.Unmarshal(raw, &x))
	}
	return x
}

func save(t testing.TB, dir string, x object) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "index.json"), marshal(t, x), 0o644))
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	must(t, err)
	return raw
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
