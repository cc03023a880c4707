package oci

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"vrafs/build"
	"vrafs/internal/testenv"
	"vrafs/internal/testregistry"
	"vrafs/oci/ocitest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func parse(t testing.TB, s string) Ref {
	t.Helper()
	r, err := Parse(s)
	must(t, err)
	return r
}

// run runs a program, whose output is shown if it fails.
func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(testenv.Program(name), args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// small is a layout with one image of two layers, called small.
func small(t testing.TB) (dir string, layers []ocitest.Layer) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "layout")
	layers = []ocitest.Layer{
		ocitest.NewLayer(t, ocitest.Tar(t, ocitest.Dir("etc"), ocitest.File("etc/name", "lower\n"), ocitest.File("gone", "x")), ocitest.Gzip),
		ocitest.NewLayer(t, ocitest.Tar(t, ocitest.File("etc/name", "upper\n"), ocitest.File(".wh.gone", "")), ocitest.Gzip),
	}
	ocitest.Layout(t, dir, "small", layers...)
	return dir, layers
}

func TestReferencesAreReadAndWritten(t *testing.T) {
	d := "sha256:" + strings.Repeat("ab", 32)
	for _, tt := range []struct {
		in, out string
		want    Ref
	}{
		{"alpine", "index.docker.io/library/alpine:latest", Ref{Registry: "index.docker.io", Repo: "library/alpine", Tag: "latest"}},
		{"docker://localhost:5000/a/b:c", "localhost:5000/a/b:c", Ref{Registry: "localhost:5000", Repo: "a/b", Tag: "c"}},
		{"r.example/a@" + d, "r.example/a@" + d, Ref{Registry: "r.example", Repo: "a", Digest: digest.Digest(d)}},
		{"oci:/a/b", "oci:/a/b", Ref{Kind: KindLayout, Path: "/a/b"}},
		{"oci:/a/b:n:t", "oci:/a/b:n:t", Ref{Kind: KindLayout, Path: "/a/b", Tag: "n:t"}},
		{"oci:a//b/@" + d, "oci:a/b@" + d, Ref{Kind: KindLayout, Path: "a/b", Digest: digest.Digest(d)}},
		{"oci-archive:x.tar:t", "oci-archive:x.tar:t", Ref{Kind: KindArchive, Path: "x.tar", Tag: "t"}},
		{"docker-archive:x.tar:r/n:t", "docker-archive:x.tar:r/n:t", Ref{Kind: KindDocker, Path: "x.tar", Tag: "r/n:t"}},
	} {
		got, err := Parse(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("Parse(%q) = %+v, %v, want %+v", tt.in, got, err, tt.want)
		}
		if got.String() != tt.out {
			t.Errorf("Parse(%q).String() = %q, want %q", tt.in, got.String(), tt.out)
		}
	}
	for _, bad := range []string{"", "UPPER/x", "oci:", "oci::tag", "a@sha256:12", "oci:x@sha256:12", "oci:x:t@" + d, "a@sha512:" + strings.Repeat("a", 128)} {
		if r, err := Parse(bad); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", bad, r)
		}
	}
}

// TestOneImageIsTheSameInEveryPlace copies an image with skopeo to every kind of place
// and reads it back.
func TestOneImageIsTheSameInEveryPlace(t *testing.T) {
	testenv.Need(t, testenv.ImageTools)
	layout, layers := small(t)
	dir := t.TempDir()
	s := testregistry.Start(t, testregistry.Options{})
	for _, place := range []string{
		"oci:" + layout + ":small",
		"docker://" + s.Host + "/test/small:1",
		"oci-archive:" + dir + "/oci.tar:small",
		"docker-archive:" + dir + "/docker.tar:test/small:1",
	} {
		if place != "oci:"+layout+":small" {
			run(t, "skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "-q", "oci:"+layout+":small", place)
		}
		im, err := Resolve(t.Context(), parse(t, place), Options{})
		if err != nil {
			t.Fatalf("%s: %v", place, err)
		}
		if got := im.Config.RootFS.DiffIDs; len(got) != 2 || got[0] != layers[0].DiffID || got[1] != layers[1].DiffID {
			t.Errorf("%s: diff ids %v", place, got)
		}
		if len(im.Manifest.Layers) != 2 {
			t.Fatalf("%s: %d layers", place, len(im.Manifest.Layers))
		}
		for i, l := range im.Manifest.Layers {
			rc, err := im.Open(t.Context(), l)
			must(t, err)
			plain, done, err := build.Decompressed(rc)
			must(t, err)
			got, err := io.ReadAll(plain)
			must(t, err)
			done()
			if digest.FromBytes(got) != layers[i].DiffID {
				t.Errorf("%s: layer %d has other content", place, i+1)
			}
			rc.Close()
			part := make([]byte, 7)
			b, err := im.Blobs().Open(t.Context(), l.Digest.Encoded())
			must(t, err)
			if _, err := b.ReadAt(t.Context(), part, 3); err != nil {
				t.Errorf("%s: layer %d: range: %v", place, i+1, err)
			}
			if l.Digest == digest.FromBytes(layers[i].Bytes) && !bytes.Equal(part, layers[i].Bytes[3:10]) {
				t.Errorf("%s: layer %d: range has other bytes", place, i+1)
			}
		}
		must(t, im.Close())
	}
}

func TestPlatformIsChosenOutOfAnIndex(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	layer := ocitest.NewLayer(t, ocitest.Tar(t, ocitest.File("a", "a")), ocitest.Gzip)
	want := map[string]digest.Digest{}
	for _, p := range []string{"linux/amd64", "linux/arm64", "windows/amd64"} {
		want[p] = ocitest.Manifest(t, dir, "", p, layer)
	}
	ocitest.Index(t, dir, "many")
	for p, d := range want {
		platform, err := ParsePlatform(p)
		must(t, err)
		im, err := Resolve(t.Context(), parse(t, "oci:"+dir+":many"), Options{Platform: &platform})
		must(t, err)
		if im.Desc.Digest != d || im.Platform().String() != p {
			t.Errorf("%s: got %s for %s", p, im.Desc.Digest, im.Platform())
		}
	}
	s390 := Platform{OS: "linux", Architecture: "s390x"}
	_, err := Resolve(t.Context(), parse(t, "oci:"+dir), Options{Platform: &s390})
	if !errors.Is(err, ErrPlatform) || !strings.Contains(err.Error(), "linux/amd64, linux/arm64") {
		t.Errorf("s390x: %v", err)
	}
}

func TestDamagedBlobsAreNoticedBeforeTheirEnd(t *testing.T) {
	dir, layers := small(t)
	d := digest.FromBytes(layers[0].Bytes)
	path := filepath.Join(dir, "blobs", "sha256", d.Encoded())
	for name, change := range map[string]func(p []byte) []byte{
		"bit":   func(p []byte) []byte { p[len(p)/2] ^= 1; return p },
		"short": func(p []byte) []byte { return p[:len(p)-1] },
		"long":  func(p []byte) []byte { return append(p, 0) },
	} {
		must(t, os.WriteFile(path, change(bytes.Clone(layers[0].Bytes)), 0o644))
		im, err := Resolve(t.Context(), parse(t, "oci:"+dir), Options{})
		must(t, err)
		rc, err := im.Open(t.Context(), im.Manifest.Layers[0])
		if err == nil {
			_, err = io.Copy(io.Discard, rc)
		}
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), d.String()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func sha(p []byte) digest.Digest { return digest.FromBytes(p) }
