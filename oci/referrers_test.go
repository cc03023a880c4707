package oci

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"vrafs/internal/testregistry"
)

// referrersRegistry is a registry with the referrers API, which Debian's has not.
func referrersRegistry(t testing.TB) (host string) {
	t.Helper()
	s := httptest.NewServer(ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// pagedRegistry is such a registry whose lists come in pages of two, each at the address
// that next gives for its number.
func pagedRegistry(t testing.TB, next func(path string, page int) string) (host string) {
	t.Helper()
	back := referrersRegistry(t)
	h := testregistry.Proxy(t, "http://"+back, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/referrers/") {
			return false
		}
		resp, err := http.Get("http://" + back + r.URL.Path)
		must(t, err)
		defer resp.Body.Close()
		var x Index
		must(t, json.NewDecoder(resp.Body).Decode(&x))
		slices.SortFunc(x.Manifests, func(a, b Descriptor) int { return cmp.Compare(b.Size, a.Size) })
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		first := min(2*page, len(x.Manifests))
		last := min(first+2, len(x.Manifests))
		if last < len(x.Manifests) {
			w.Header().Set("Link", "<"+next(r.URL.Path, page+1)+`>; rel="next"`)
		}
		x.Manifests = x.Manifests[first:last]
		w.Header().Set("Content-Type", MediaTypeIndex)
		must(t, json.NewEncoder(w).Encode(x))
		return true
	})
	return h
}

// attach lets a manifest refer to subject in the place of ref.
func attach(t testing.TB, ref Ref, subject Descriptor, m Manifest, config []byte) Descriptor {
	t.Helper()
	to, err := create(t.Context(), ref, &Access{})
	must(t, err)
	defer to.close()
	m.SchemaVersion, m.MediaType = 2, MediaTypeManifest
	m.Subject = &Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	m.Config.Digest, m.Config.Size = sha(config), int64(len(config))
	must(t, put(t.Context(), to, config, m.Config))
	raw, d, err := encode(m, m.MediaType)
	must(t, err)
	must(t, to.putManifest(t.Context(), raw, d))
	must(t, addReferrer(t.Context(), to, subject.Digest, d))
	must(t, to.finish(t.Context()))
	return d
}

// TestConversionsAreFoundByTheImageThatTheyReferTo, in a registry with the referrers API,
// in one without it and in a layout; among others that refer to the image.
func TestConversionsAreFoundByTheImageThatTheyReferTo(t *testing.T) {
	dir, _ := small(t)
	src := parse(t, "oci:"+dir+":small")
	for _, tt := range []struct {
		name, place string
		api         bool
	}{
		{"api", referrersRegistry(t) + "/x/app", true},
		{"tag", testregistry.Start(t, testregistry.Options{}).Host + "/x/app", false},
		{"layout", "oci:" + filepath.Join(t.TempDir(), "l"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			image, nydus := parse(t, tt.place+":1"), parse(t, tt.place+":nydus")
			_, err := Copy(t.Context(), src, image, CopyOptions{})
			must(t, err)
			subject := whole(t, image, Options{}).Desc
			found := func() *Image {
				t.Helper()
				if im := whole(t, image, Options{}); im.Desc.Digest != subject.Digest {
					t.Errorf("who asks for no Nydus image gets %s", im.Desc.Digest)
				}
				return whole(t, image, Options{Want: WantNydus})
			}
			if im := found(); im.IsNydus() {
				t.Errorf("nothing was converted, and %s is found", im.Desc.Digest)
			}
			signature := Manifest{ArtifactType: "application/vnd.example.signature", Config: Descriptor{MediaType: MediaTypeEmpty}, Layers: []Descriptor{}}
			for range maxReferrers + 1 {
				signature.Annotations = map[string]string{"n": signature.Annotations["n"] + "1"}
				attach(t, image, subject, signature, []byte("{}"))
			}
			if im := found(); im.IsNydus() {
				t.Errorf("a signature was taken for %s", im.Desc.Digest)
			}

			o := defaults()
			o.Referrer = true
			r := convert(t, image, nydus, o)
			im := found()
			if im.Desc.Digest != r.Digest || !im.IsNydus() {
				t.Errorf("found %s, want %s", im.Desc.Digest, r.Digest)
			}
			_, err = Resolve(t.Context(), image.WithTag(referrersTag(subject.Digest)), Options{})
			if isMissing(err) != tt.api {
				t.Errorf("the tag that stands in for the API: %v", err)
			}
			report, err := Check(t.Context(), image, CheckOptions{})
			if must(t, err); report.Manifest != r.Digest || report.Source != subject.Digest || report.Layers != 2 {
				t.Errorf("checked by the image: %+v", report)
			}

			// A registry lists in an order of its own; a tag lists the newest first.
			if !tt.api {
				o.Recipe.ChunkSize = 0x10000
				again := convert(t, image, nydus, o)
				if im := found(); again.Digest == r.Digest || im.Desc.Digest != again.Digest {
					t.Errorf("after another conversion %s is found, want %s", im.Desc.Digest, again.Digest)
				}
				convert(t, image, nydus, defaults())
				o.Recipe = DefaultRecipe()
				convert(t, image, nydus, o)
				if im := found(); im.Desc.Digest != r.Digest {
					t.Errorf("after the first once more %s is found, want %s", im.Desc.Digest, r.Digest)
				}
			}
		})
	}
}

// TestReferrersOfOthersAreTakenToo: nydusify gives its images no type, and a list may name
// what is gone, or what refers to something else.
func TestReferrersOfOthersAreTakenToo(t *testing.T) {
	dir, _ := small(t)
	src := parse(t, "oci:"+dir+":small")
	for name, place := range map[string]string{"api": referrersRegistry(t) + "/x/app", "layout": "oci:" + filepath.Join(t.TempDir(), "l")} {
		t.Run(name, func(t *testing.T) {
			image := parse(t, place+":1")
			_, err := Copy(t.Context(), src, image, CopyOptions{})
			must(t, err)
			subject := whole(t, image, Options{}).Desc
			convert(t, image, image.WithTag("nydus"), defaults())
			made := whole(t, image.WithTag("nydus"), Options{})
			m := *made.Manifest
			m.ArtifactType = ""
			want := attach(t, image, subject, m, made.RawConfig)

			if name == "layout" { // no API that would list what there is
				to, err := create(t.Context(), image, &Access{})
				must(t, err)
				defer to.close()
				gone := Descriptor{MediaType: MediaTypeManifest, Digest: sha([]byte("gone")), Size: 4}
				other := made.Desc // which refers to nothing
				x := Index{SchemaVersion: 2, MediaType: MediaTypeIndex, Manifests: []Descriptor{gone, other, want}}
				x.Manifests[2].ArtifactType = MediaTypeConfig
				raw, d, err := encode(x, x.MediaType)
				must(t, err)
				must(t, to.tag(t.Context(), raw, d, referrersTag(subject.Digest)))
				must(t, to.finish(t.Context()))
			}
			if im := whole(t, image, Options{Want: WantNydus}); im.Desc.Digest != want.Digest {
				t.Errorf("found %s, want %s", im.Desc.Digest, want.Digest)
			}
		})
	}
}

// TestListsOfReferrersAreReadPageByPage, in their repository only, and not for ever.
func TestListsOfReferrersAreReadPageByPage(t *testing.T) {
	dir, _ := small(t)
	src := parse(t, "oci:"+dir+":small")
	for _, tt := range []struct {
		name string
		next func(path string, page int) string
		err  error
	}{
		{"relative", func(path string, page int) string { return path + "?page=" + strconv.Itoa(page) }, nil},
		{"by a name that nobody knows", func(path string, page int) string {
			return "https://inside.invalid" + path + "?page=" + strconv.Itoa(page)
		}, nil},
		{"another repository", func(path string, page int) string {
			return strings.Replace(path, "x/app", "x/app/../other", 1) + "?page=" + strconv.Itoa(page)
		}, ErrUnsupported},
		{"again", func(path string, _ int) string { return path }, ErrUnsupported},
	} {
		t.Run(tt.name, func(t *testing.T) {
			image := parse(t, pagedRegistry(t, tt.next)+"/x/app:1")
			_, err := Copy(t.Context(), src, image, CopyOptions{})
			must(t, err)
			subject := whole(t, image, Options{}).Desc
			for n := range 5 { // larger than the Nydus image's manifest, so before it
				m := Manifest{Config: Descriptor{MediaType: MediaTypeEmpty}, Layers: []Descriptor{}, Annotations: map[string]string{"n": strings.Repeat("x", 4096+n)}}
				attach(t, image, subject, m, []byte("{}"))
			}
			convert(t, image, image.WithTag("nydus"), defaults())
			made := whole(t, image.WithTag("nydus"), Options{})
			want := attach(t, image, subject, *made.Manifest, made.RawConfig)
			im, err := Resolve(t.Context(), image, Options{Want: WantNydus})
			if err == nil {
				defer im.Close()
				_, err = im.BootstrapLayer()
			}
			if !errors.Is(err, tt.err) {
				t.Errorf("got %v, want %v", err, tt.err)
			}
			if err == nil && im.Desc.Digest != want.Digest {
				t.Errorf("found %s, want %s", im.Desc.Digest, want.Digest)
			}
		})
	}
}
