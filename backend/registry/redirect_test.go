package registry

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vrafs/backend"
	"vrafs/internal/testregistry"
)

// serve answers with a range of the payload.
func serve(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(payload))
}

// A pair is a registry that redirects and the storage it redirects to.
type pair struct {
	registry, storage string
	asked, stored     atomic.Int64
	lost              atomic.Bool                       // the storage answers 502
	refusal           int                               // its answer to links that are not
	signature         atomic.Int64                      // of the links that are good
	location          func(storage, link string) string // where not to storage's link
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{refusal: http.StatusForbidden, location: func(storage, link string) string { return "http://" + storage + link }}
	server := testregistry.Start(t, testregistry.Options{})
	id := server.Push(t, repo, payload)
	p.storage = testregistry.Proxy(t, server.URL, func(w http.ResponseWriter, r *http.Request) bool {
		p.stored.Add(1)
		if p.lost.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		if r.Header.Get("Authorization") != "" || r.FormValue("signature") != p.link() {
			w.WriteHeader(p.refusal)
			return true
		}
		r.URL.Path, r.URL.RawQuery = "/v2/"+repo+"/blobs/sha256:"+id, ""
		return false
	})
	p.registry = testregistry.Proxy(t, server.URL, func(w http.ResponseWriter, r *http.Request) bool {
		p.asked.Add(1)
		if user, _, ok := r.BasicAuth(); !ok || user != "user" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		w.Header().Set("Location", p.location(p.storage, "/bucket/object?signature="+p.link()))
		w.WriteHeader(http.StatusTemporaryRedirect)
		return true
	})
	return p
}

func (p *pair) link() string { return strings.Repeat("s", int(p.signature.Load())+20) }

func (p *pair) open(t *testing.T, change func(*Options)) backend.Blob {
	t.Helper()
	return blobOf(t, open(t, p.registry, func(o *Options) {
		o.Credentials = func() string { return testregistry.Auth("user", "password") }
		if change != nil {
			change(o)
		}
	}), strings.Repeat("ab", 32))
}

func (p *pair) counts(t *testing.T, asked, stored int64) {
	t.Helper()
	if p.asked.Load() != asked || p.stored.Load() != stored {
		t.Errorf("%d requests to the registry and %d to the storage, want %d and %d", p.asked.Load(), p.stored.Load(), asked, stored)
	}
}

// TestRedirectsAreKeptAndAskedForAgain when the storage no longer takes the link; what
// it then answers differs from storage to storage.
func TestRedirectsAreKeptAndAskedForAgain(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 410} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			p := newPair(t)
			p.refusal = status
			b := p.open(t, nil)
			for off := range uint64(4) {
				if err := read(t, b, off); err != nil {
					t.Fatal(err)
				}
			}
			p.counts(t, 2, 4) // the 401 and the redirect, four reads
			p.signature.Add(1)
			if err := read(t, b, 99); err != nil {
				t.Fatal(err)
			}
			p.counts(t, 3, 6)
		})
	}
}

func TestStorageThatNeverLetsInIsAnError(t *testing.T) {
	p := newPair(t)
	p.location = func(storage, _ string) string { return "http://" + storage + "/?signature=hidden" }
	b := p.open(t, nil)
	for range 2 {
		err := read(t, b, 0)
		if !errors.Is(err, backend.ErrPermanent) || !strings.Contains(err.Error(), p.storage+" answered 403") || strings.Contains(err.Error(), "hidden") {
			t.Errorf("got %v", err)
		}
	}
	p.counts(t, 3, 2)
}

// TestLostStorageIsAskedForAgain: a storage that is gone costs one try.
func TestLostStorageIsAskedForAgain(t *testing.T) {
	p := newPair(t)
	b := p.open(t, nil)
	if err := read(t, b, 0); err != nil {
		t.Fatal(err)
	}
	p.lost.Store(true)
	if err := read(t, b, 0); err == nil || errors.Is(err, backend.ErrPermanent) {
		t.Errorf("got %v, want an error that another try may cure", err)
	}
	p.lost.Store(false)
	if err := read(t, b, 0); err != nil {
		t.Errorf("got %v", err)
	}
	p.counts(t, 3, 3)
}

func TestRedirectTargetsAreChangedAsConfigured(t *testing.T) {
	p := newPair(t)
	p.location = func(_, link string) string { return "https://inner.example" + link }
	b := p.open(t, func(o *Options) { o.BlobURLScheme, o.BlobRedirectedHost = "http", p.storage })
	if err := read(t, b, 0); err != nil {
		t.Fatal(err)
	}
}

func TestRedirectsOfRedirectsAreFollowedForAWhile(t *testing.T) {
	hops := int64(maxHops - 2)
	p := newPair(t)
	var taken atomic.Int64
	middle := testregistry.Proxy(t, "http://127.0.0.1:1", func(w http.ResponseWriter, r *http.Request) bool {
		to := "/again"
		if taken.Add(1) == hops {
			to = "http://" + p.storage + "/?signature=" + p.link()
		}
		http.Redirect(w, r, to, http.StatusFound)
		return true
	})
	p.location = func(string, string) string { return "http://" + middle + "/first" }
	if err := read(t, p.open(t, nil), 0); err != nil {
		t.Fatal(err)
	}
	hops, _ = -1, taken.Swap(0)
	if err := read(t, p.open(t, nil), 0); !errors.Is(err, errHops) || taken.Load() != maxHops-1 { // and the registry's
		t.Errorf("got %v after %d hops", err, taken.Load())
	}
}

func TestRedirectsElsewhereAreRefused(t *testing.T) {
	for _, tt := range []struct {
		from, to, scheme string
		want             string
		err              error
	}{
		{"https", "https://s/b?q", "", "https://s/b?q", nil},
		{"http", "https://s/b", "", "https://s/b", nil},
		{"https", "/b", "", "https://registry/b", nil},
		{"https", "http://s/b", "", "", errDowngrade},
		{"https", "http://s/b", "https", "https://s/b", nil},
		{"https", "http://s/b", "http", "http://s/b", nil},
		{"http", "file:///etc/passwd", "", "", errLocation},
		{"http", "file:///etc/passwd", "http", "", errLocation},
		{"http", "http:///b", "", "", errLocation},
		{"http", "http://[", "", "", errLocation},
	} {
		r := open(t, "registry", func(o *Options) { o.Scheme, o.BlobURLScheme = tt.from, tt.scheme })
		u, err := r.redirect(r.url(""), tt.to)
		if !errors.Is(err, tt.err) || err == nil && u.String() != tt.want {
			t.Errorf("%s to %s: got %v, %v, want %s, %v", tt.from, tt.to, u, err, tt.want, tt.err)
		}
	}
}
