package registry

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"vrafs/backend"
	"vrafs/backend/backendtest"
	"vrafs/internal/httprange"
	"vrafs/internal/opener"
	"vrafs/internal/testregistry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const repo = "library/image"

var payload = bytes.Repeat([]byte("0123456789abcdef"), 64<<10/16)

// open makes a back end that ends with the test.
func open(t *testing.T, host string, change func(*Options)) *Registry {
	t.Helper()
	opt := Options{Scheme: "http", Host: host, Repo: repo}
	if change != nil {
		change(&opt)
	}
	r, err := New(opener.Local(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// blobOf opens a blob that is closed with the test.
func blobOf(t *testing.T, r *Registry, id string) backend.Blob {
	t.Helper()
	b, err := r.Open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// read reads 16 bytes of the payload from off.
func read(t *testing.T, b backend.Blob, off uint64) error {
	t.Helper()
	p := make([]byte, 16)
	n, err := b.ReadAt(t.Context(), p, off)
	if err == nil && (n != 16 || !bytes.Equal(p, payload[off:off+16])) {
		t.Errorf("got %d %q at %d", n, p, off)
	}
	return err
}

// push stores the blobs of the suite.
func push(t *testing.T, s *testregistry.Server, blobs map[string][]byte) {
	t.Helper()
	for id, data := range blobs {
		if got := s.Push(t, repo, data); got != id {
			t.Fatalf("blob %s was stored as %s", id, got)
		}
	}
}

func TestConformance(t *testing.T) {
	auth := func() string { return testregistry.Auth("user", "password") }
	for _, tt := range []struct {
		name   string
		server func(t *testing.T) testregistry.Options
		change func(*Options)
	}{
		{"plain HTTP", func(*testing.T) testregistry.Options { return testregistry.Options{} }, nil},
		{"TLS of a private authority", func(*testing.T) testregistry.Options { return testregistry.Options{TLS: true} }, nil},
		{"TLS unchecked", func(*testing.T) testregistry.Options { return testregistry.Options{TLS: true} },
			func(o *Options) { o.HTTP = httprange.Options{SkipVerify: true} }},
		{"https configured, plain HTTP spoken", func(*testing.T) testregistry.Options { return testregistry.Options{} },
			func(o *Options) { o.Scheme, o.HTTP = "https", httprange.Options{SkipVerify: true} }},
		{"basic", func(*testing.T) testregistry.Options {
			return testregistry.Options{User: "user", Password: "password"}
		}, func(o *Options) { o.Credentials = auth }},
		{"anonymous token", func(t *testing.T) testregistry.Options {
			return testregistry.Options{Tokens: testregistry.StartTokens(t, testregistry.TokenSettings{})}
		}, nil},
		{"token for credentials, by GET, the other shape", func(t *testing.T) testregistry.Options {
			return testregistry.Options{Tokens: testregistry.StartTokens(t, testregistry.TokenSettings{
				User: "user", Password: "password", GetOnly: true, Shape: "access_token"})}
		}, func(o *Options) { o.Credentials = auth }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			backendtest.Run(t, func(t *testing.T, blobs map[string][]byte) backend.Opener {
				s := testregistry.Start(t, tt.server(t))
				push(t, s, blobs)
				return open(t, s.Host, func(o *Options) {
					if s.CAFile != "" {
						o.Scheme, o.HTTP.CAFiles = "https", []string{s.CAFile}
					}
					if tt.change != nil {
						tt.change(o)
					}
				})
			})
		})
	}
}

func TestOpenRefusesWhatIsNoDigest(t *testing.T) {
	r := open(t, "registry.example", nil)
	for _, id := range []string{"", "abc", strings.Repeat("A", 64), strings.Repeat("g", 64), "../" + strings.Repeat("a", 61)} {
		if _, err := r.Open(t.Context(), id); err == nil {
			t.Errorf("%q was opened", id)
		}
	}
}

func TestNewRefusesWhatIsNoAddress(t *testing.T) {
	for _, opt := range []Options{
		{Scheme: "ftp", Host: "h", Repo: "r"}, {Scheme: "http", Repo: "r"}, {Scheme: "https", Host: "h"},
		{Scheme: "https", Host: "h", Repo: "r", HTTP: httprange.Options{CAFiles: []string{"/missing"}}},
	} {
		if _, err := New(opener.Local(), opt); err == nil {
			t.Errorf("%+v was accepted", opt)
		}
	}
}

// TestFirstReadersAuthenticateOnce: one 401 and one token for all of them.
func TestFirstReadersAuthenticateOnce(t *testing.T) {
	tokens := testregistry.StartTokens(t, testregistry.TokenSettings{})
	s := testregistry.Start(t, testregistry.Options{Tokens: tokens})
	id := s.Push(t, repo, payload)
	var anonymous atomic.Int64
	host := testregistry.Proxy(t, s.URL, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "" {
			anonymous.Add(1)
		}
		return false
	})
	b := blobOf(t, open(t, host, nil), id)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if err := read(t, b, uint64(i)*64); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := anonymous.Load(); n != 1 || tokens.Requests() != "POST" {
		t.Errorf("%d anonymous requests, token requests %q", n, tokens.Requests())
	}
}

// TestPlainHTTPIsLearnedFromARegistry and from nothing that stands in its place while it
// is away: what is learned so would last longer than its cause.
func TestPlainHTTPIsLearnedFromARegistry(t *testing.T) {
	for _, tt := range []struct {
		name    string
		instead http.HandlerFunc
		kept    bool // what was learned before
	}{
		{"trouble", status(http.StatusBadGateway), true},
		{"it wants TLS", status(http.StatusBadRequest), false},
		{"it sends on to TLS", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://"+r.Host+r.URL.Path, http.StatusMovedPermanently)
		}, false},
		{"no answer", func(w http.ResponseWriter, _ *http.Request) { raw(w, "") }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var away atomic.Bool
			host := testregistry.Proxy(t, "http://127.0.0.1:1", func(w http.ResponseWriter, r *http.Request) bool {
				if away.Load() {
					tt.instead(w, r)
				} else {
					serve(w, r)
				}
				return true
			})
			r := open(t, host, func(o *Options) { o.Scheme, o.HTTP.SkipVerify = "https", true })
			b := blobOf(t, r, strings.Repeat("ab", 32))
			for i, step := range []struct{ away, plain bool }{{true, false}, {false, true}, {true, tt.kept}, {false, true}} {
				away.Store(step.away)
				if err := read(t, b, 0); (err != nil) != step.away || r.plain.Load() != step.plain {
					t.Errorf("read %d, registry away %v: %v, plain HTTP from now on %v", i, step.away, err, r.plain.Load())
				}
			}
		})
	}
}
