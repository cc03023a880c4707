package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"vrafs/internal/testenv"
	"vrafs/internal/testregistry"
	"vrafs/oci/ocitest"
)

// random is n bytes that no compressor makes smaller.
func random(seed uint64, n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(p)
	return p
}

// parted is a layout with an image whose second layer takes several parts to upload.
func parted(t testing.TB) Ref {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	ocitest.Layout(t, dir, "parted",
		ocitest.NewLayer(t, ocitest.Tar(t, ocitest.File("small", "s")), ocitest.Gzip),
		ocitest.NewLayer(t, ocitest.Tar(t, ocitest.File("large", string(random(1, 2*uploadPart+12345)))), ocitest.Plain))
	return parse(t, "oci:"+dir+":parted")
}

// whole reads every blob of an image, which compares it with its digest.
func whole(t testing.TB, ref Ref, o Options) *Image {
	t.Helper()
	im, err := Resolve(t.Context(), ref, o)
	must(t, err)
	t.Cleanup(func() { must(t, im.Close()) })
	for _, l := range im.Manifest.Layers {
		rc, err := im.Open(t.Context(), l)
		must(t, err)
		if _, err := io.Copy(io.Discard, rc); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
		rc.Close()
	}
	return im
}

func TestImagesAreCopiedToEveryKindOfRegistry(t *testing.T) {
	src := parted(t)
	plain := testregistry.Start(t, testregistry.Options{})
	tls := testregistry.Start(t, testregistry.Options{TLS: true})
	password := testregistry.Start(t, testregistry.Options{User: "me", Password: "secret"})
	tokens := testregistry.StartTokens(t, testregistry.TokenSettings{User: "me", Password: "secret"})
	// The client takes no server of tokens on a private address that is written in numbers.
	tokens.URL = strings.Replace(tokens.URL, "127.0.0.1", "localhost", 1)
	token := testregistry.Start(t, testregistry.Options{Tokens: tokens})

	file := filepath.Join(t.TempDir(), "auth.json")
	must(t, os.WriteFile(file, []byte(`{"auths":{"`+token.Host+`/some":{"auth":"`+testregistry.Auth("me", "secret")+`"}}}`), 0o600))
	for _, tt := range []struct {
		name   string
		host   string
		access Access
		denied bool
	}{
		{"plain", plain.Host, Access{}, false},
		{"plain without asking for TLS", plain.Host, Access{PlainHTTP: true}, false},
		{"tls", tls.Host, Access{CAFile: tls.CAFile}, false},
		{"tls, any certificate", tls.Host, Access{Insecure: true}, false},
		{"password", password.Host, Access{Username: "me", Password: "secret"}, false},
		{"wrong password", password.Host, Access{Username: "me", Password: "x"}, true},
		{"no password", password.Host, Access{AuthFile: os.DevNull}, true},
		{"token", token.Host, Access{AuthFile: file}, false},
		{"token, nobody", token.Host, Access{Username: "me", Password: "x"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dst := parse(t, tt.host+"/some/repo:tag")
			r, err := Copy(t.Context(), src, dst, CopyOptions{To: tt.access})
			if tt.denied {
				if !errors.Is(err, ErrDenied) || strings.Contains(err.Error(), "secret") {
					t.Errorf("got %v, want ErrDenied", err)
				}
				return
			}
			must(t, err)
			want := whole(t, src, Options{})
			got := whole(t, dst, Options{Access: tt.access})
			if got.Desc.Digest != want.Desc.Digest || r.Digest != want.Desc.Digest {
				t.Errorf("copied %s, got %s and %s", want.Desc.Digest, r.Digest, got.Desc.Digest)
			}
			// The copy in another repository of it needs no byte.
			other := parse(t, tt.host+"/some/other:tag")
			r, err = Copy(t.Context(), dst, other, CopyOptions{From: tt.access, To: tt.access})
			must(t, err)
			if r.Blobs != 0 || r.Found != 3 {
				t.Errorf("to another repository: %d blobs sent, %d found", r.Blobs, r.Found)
			}
		})
	}
}

// TestUnknownCertificatesAreRefused, and so is plain HTTP from hosts that are not this one.
func TestUnknownCertificatesAreRefused(t *testing.T) {
	s := testregistry.Start(t, testregistry.Options{TLS: true})
	_, err := Resolve(t.Context(), parse(t, s.Host+"/a:b"), Options{Access: Access{CertDir: t.TempDir()}})
	if err == nil || !strings.Contains(err.Error(), "x509") {
		t.Errorf("got %v", err)
	}
}

// TestCopiesGoOnAfterHiccups of a registry: answers that get lost before and after the
// registry acted on the request, and parts that arrive in part.
func TestCopiesGoOnAfterHiccups(t *testing.T) {
	src := parted(t)
	for _, tt := range []struct {
		name   string
		meddle func(n int64, w http.ResponseWriter, r *http.Request, pass func()) bool
		method string
	}{
		{"unavailable", func(_ int64, w http.ResponseWriter, _ *http.Request, _ func()) bool {
			http.Error(w, "later", http.StatusServiceUnavailable)
			return true
		}, http.MethodPatch},
		{"part cut short", func(_ int64, w http.ResponseWriter, r *http.Request, pass func()) bool {
			r.Body = http.MaxBytesReader(w, r.Body, 4<<20)
			return false
		}, http.MethodPatch},
		{"answer lost", func(_ int64, w http.ResponseWriter, _ *http.Request, pass func()) bool {
			pass()
			http.Error(w, "lost", http.StatusBadGateway)
			return true
		}, http.MethodPatch},
		{"end lost", func(_ int64, w http.ResponseWriter, _ *http.Request, pass func()) bool {
			pass()
			http.Error(w, "lost", http.StatusBadGateway)
			return true
		}, http.MethodPut},
		{"begin lost", func(_ int64, w http.ResponseWriter, _ *http.Request, _ func()) bool {
			http.Error(w, "slow down", http.StatusTooManyRequests)
			return true
		}, http.MethodPost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := testregistry.Start(t, testregistry.Options{})
			var n atomic.Int64
			host := testregistry.Proxy(t, s.URL, func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != tt.method || !strings.Contains(r.URL.Path, "/blobs/uploads/") || n.Add(1) != 2 {
					return false
				}
				return tt.meddle(1, w, r, func() { forward(t, s.URL, r) })
			})
			dst := parse(t, host+"/some/repo:tag")
			_, err := Copy(t.Context(), src, dst, CopyOptions{Parallel: 1})
			must(t, err)
			if n.Load() < 3 {
				t.Errorf("%d requests: nothing was spoilt", n.Load())
			}
			whole(t, dst, Options{})
		})
	}
}

// forward sends a request on and drops the answer.
func forward(t *testing.T, target string, r *http.Request) {
	req, err := http.NewRequestWithContext(r.Context(), r.Method, target+r.URL.RequestURI(), r.Body)
	if err != nil {
		t.Error(err)
		return
	}
	req.Header, req.ContentLength = r.Header, r.ContentLength
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Error(err)
		return
	}
	resp.Body.Close()
}

// TestReadersGoOnWhereTheConnectionBroke, from the byte they need.
func TestReadersGoOnWhereTheConnectionBroke(t *testing.T) {
	s := testregistry.Start(t, testregistry.Options{})
	src, dst := parted(t), parse(t, s.Host+"/some/repo:tag")
	_, err := Copy(t.Context(), src, dst, CopyOptions{})
	must(t, err)
	want := whole(t, src, Options{}).Desc.Digest
	var cut atomic.Int64
	host := testregistry.Proxy(t, s.URL, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") || cut.Add(1) > 3 {
			return false
		}
		req, err := http.NewRequestWithContext(r.Context(), r.Method, s.URL+r.URL.RequestURI(), nil)
		must(t, err)
		req.Header = r.Header
		resp, err := http.DefaultTransport.RoundTrip(req)
		must(t, err)
		defer resp.Body.Close()
		for k := range resp.Header {
			w.Header().Set(k, resp.Header.Get(k))
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.CopyN(w, resp.Body, resp.ContentLength/2)
		panic(http.ErrAbortHandler)
	})
	im := whole(t, parse(t, host+"/some/repo:tag"), Options{})
	if cut.Load() < 4 || im.Desc.Digest != want {
		t.Errorf("%d reads, image %s, want %s", cut.Load(), im.Desc.Digest, want)
	}
}

func TestIndexesAreCopiedWholeOrByPlatform(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	platforms := []string{"linux/amd64", "linux/arm64", "linux/s390x"}
	var single []digest.Digest
	for _, p := range platforms {
		layer := ocitest.NewLayer(t, ocitest.Tar(t, ocitest.File("platform", p)), ocitest.Gzip)
		single = append(single, ocitest.Manifest(t, dir, "", p, layer))
	}
	all := ocitest.Index(t, dir, "many")
	src := parse(t, "oci:"+dir+":many")
	s := testregistry.Start(t, testregistry.Options{})
	for _, place := range []string{s.Host + "/x/y:t", "oci:" + t.TempDir() + "/l:t", "oci-archive:" + t.TempDir() + "/a:t"} {
		r, err := Copy(t.Context(), src, parse(t, place), CopyOptions{})
		must(t, err)
		if r.Digest != all || r.Manifests != 3 {
			t.Errorf("%s: %d images, %s, want %s", place, r.Manifests, r.Digest, all)
		}
		for i, p := range platforms {
			want, err := ParsePlatform(p)
			must(t, err)
			if im := whole(t, parse(t, place), Options{Platform: &want}); im.Desc.Digest != single[i] {
				t.Errorf("%s: %s is %s, want %s", place, p, im.Desc.Digest, single[i])
			}
		}
		r, err = Copy(t.Context(), src, parse(t, place), CopyOptions{Platforms: []Platform{{OS: "linux", Architecture: "arm64"}}})
		must(t, err)
		if r.Digest != single[1] {
			t.Errorf("%s: one platform is %s, want %s", place, r.Digest, single[1])
		}
	}
	if _, err := Copy(t.Context(), src, parse(t, "docker-archive:"+t.TempDir()+"/a:x/y:t"), CopyOptions{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("three platforms in a docker archive: %v", err)
	}
}

// TestDockerLoadFindsItsList in archives: names, configuration and layers.
func TestDockerLoadFindsItsList(t *testing.T) {
	testenv.Need(t, testenv.ImageTools)
	dir, _ := small(t)
	path := filepath.Join(t.TempDir(), "image.tar")
	_, err := Copy(t.Context(), parse(t, "oci:"+dir+":small"), parse(t, "docker-archive:"+path+":some/name:tag"), CopyOptions{})
	must(t, err)
	a, err := openArchive(t.Context(), path)
	must(t, err)
	defer a.close()
	raw, err := a.read(dockerManifest, maxManifest)
	must(t, err)
	var list []dockerEntry
	must(t, json.Unmarshal(raw, &list))
	if len(list) != 1 || len(list[0].RepoTags) != 1 || list[0].RepoTags[0] != "some/name:tag" || len(list[0].Layers) != 2 {
		t.Errorf("manifest.json is %s", raw)
	}
	run(t, "skopeo", "--insecure-policy", "copy", "-q", "docker-archive:"+path, "dir:"+t.TempDir())
}

// TestLayoutsKeepWhatOthersPutThere, and remove what a killed writer left.
func TestLayoutsKeepWhatOthersPutThere(t *testing.T) {
	testenv.Need(t, testenv.ImageTools)
	dir, _ := small(t)
	other := t.TempDir()
	run(t, "umoci", "init", "--layout", other+"/l")
	run(t, "umoci", "new", "--image", other+"/l:theirs")
	left := filepath.Join(other, "l", tempPrefix+"1234")
	must(t, os.WriteFile(left, []byte("half"), 0o600))
	for range 2 {
		_, err := Copy(t.Context(), parse(t, "oci:"+dir), parse(t, "oci:"+other+"/l:ours"), CopyOptions{})
		must(t, err)
	}
	run(t, "umoci", "ls", "--layout", other+"/l")
	run(t, "umoci", "gc", "--layout", other+"/l")
	for _, tag := range []string{"ours", "theirs"} {
		whole(t, parse(t, "oci:"+other+"/l:"+tag), Options{})
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", left, err)
	}
	raw, err := os.ReadFile(filepath.Join(other, "l", indexFile))
	must(t, err)
	if n := bytes.Count(raw, []byte(`"ours"`)); n != 1 {
		t.Errorf("the name is there %d times: %s", n, raw)
	}
}

// TestArchivesOfAnImageAreTheSameEveryTime, however many blobs are asked for at a time.
func TestArchivesOfAnImageAreTheSameEveryTime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "src")
	var layers []ocitest.Layer
	for i := range 12 {
		layers = append(layers, ocitest.NewLayer(t, ocitest.Tar(t, ocitest.File("f", string(random(uint64(i), 1<<20>>i)))), ocitest.Gzip))
	}
	ocitest.Layout(t, dir, "1", layers...)
	src, out := parse(t, "oci:"+dir), t.TempDir()
	archive := func(n int, merge bool) []byte {
		dst := parse(t, fmt.Sprintf("oci-archive:%s/%d.tar:1", out, n))
		if merge {
			o := defaults()
			o.MergePlatform, o.Parallel = true, 8
			convert(t, src, dst, o)
		} else {
			_, err := Copy(t.Context(), src, dst, CopyOptions{Parallel: 8})
			must(t, err)
		}
		raw, err := os.ReadFile(dst.Path)
		must(t, err)
		return raw
	}
	for _, merge := range []bool{false, true} {
		first := archive(0, merge)
		for n := range testenv.Rounds(10) {
			if again := archive(1, merge); !bytes.Equal(again, first) {
				t.Fatalf("merged: %v: archive %d is another than the first", merge, n+2)
			}
		}
	}
}

// TestIndexesThatNameEachOtherOftenAreCopiedOnce: four documents that are 1000 million
// images by all paths.
func TestIndexesThatNameEachOtherOftenAreCopiedOnce(t *testing.T) {
	dir, _ := small(t)
	src := parse(t, "oci:"+dir+":small")
	to, err := create(t.Context(), src, &Access{})
	must(t, err)
	defer to.close()
	e := whole(t, src, Options{}).Desc
	this := ThisPlatform()
	for range 3 {
		e.Platform = &this
		x := Index{SchemaVersion: 2, MediaType: MediaTypeIndex}
		for range 1000 {
			x.Manifests = append(x.Manifests, e)
		}
		raw, d, err := encode(x, x.MediaType)
		must(t, err)
		must(t, to.putManifest(t.Context(), raw, d))
		if e.IsManifest() {
			must(t, to.tag(t.Context(), raw, d, "one"))
		}
		e = d
	}
	must(t, to.finish(t.Context()))
	out := "oci:" + t.TempDir() + "/l"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := Copy(ctx, src.WithTag("").WithDigest(e.Digest), parse(t, out+":1"), CopyOptions{})
	must(t, err)
	if r.Manifests != 1 || r.Blobs != 3 || r.Digest != e.Digest {
		t.Errorf("copied %d images and %d blobs as %s", r.Manifests, r.Blobs, r.Digest)
	}
	// The index that names one image 1000 times is converted once.
	o := defaults()
	o.AllPlatforms = true
	if r := convert(t, src.WithTag("one"), parse(t, out+":2"), o); len(r.Images) != 1 {
		t.Errorf("%d conversions of one image", len(r.Images))
	}
}
