package httpproxy

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vrafs/backend"
	"vrafs/backend/backendtest"
	"vrafs/internal/opener"
	"vrafs/internal/teststore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// files serves blobs under a path.
func files(path string, blobs map[string][]byte) http.Handler {
	mux := http.NewServeMux()
	for id, data := range blobs {
		mux.HandleFunc("GET "+path+id, func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		})
	}
	return mux
}

func open(t *testing.T, opt Options) backend.Opener {
	t.Helper()
	s, err := New(opener.Local(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestConformance(t *testing.T) {
	for _, path := range []string{"/", "/blobs", "a/b/"} {
		t.Run("path "+path, func(t *testing.T) {
			backendtest.Run(t, func(t *testing.T, blobs map[string][]byte) backend.Opener {
				under := map[string]string{"/": "/", "/blobs": "/blobs/", "a/b/": "/a/b/"}[path]
				s := httptest.NewServer(files(under, blobs))
				t.Cleanup(s.Close)
				return open(t, Options{Addr: s.URL, Path: path})
			})
		})
	}
	t.Run("socket", func(t *testing.T) {
		backendtest.Run(t, func(t *testing.T, blobs map[string][]byte) backend.Opener {
			kind := teststore.Find(t, "http-proxy by socket")
			addr := kind.Start(t, blobs).Section["addr"].(string)
			return open(t, Options{Addr: addr, Path: "/ignored"})
		})
	})
}

func TestNewRefusesWhatIsNoAddress(t *testing.T) {
	for _, addr := range []string{"", "relative", "ftp://h", "http://", "http://[", "unix:///s"} {
		if s, err := New(opener.Local(), Options{Addr: addr}); err == nil {
			t.Errorf("%q was accepted: %v", addr, s.Base)
		}
	}
}
