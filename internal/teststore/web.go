package teststore

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// web keeps blobs on a web server, below a path.
func web(t testing.TB, blobs map[string][]byte) *Store {
	t.Helper()
	s := httptest.NewServer(http.StripPrefix("/blobs/", http.FileServer(http.Dir(files(t, blobs)))))
	t.Cleanup(s.Close)
	return &Store{Type: "http-proxy", URL: s.URL, address: "addr", Section: map[string]any{"addr": s.URL, "path": "/blobs"}}
}

// webSocket keeps blobs on a web server that listens on a Unix socket.
func webSocket(t testing.TB, blobs map[string][]byte) *Store {
	t.Helper()
	dir, err := os.MkdirTemp("", "w") // t.TempDir's names are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	addr := filepath.Join(dir, "s")
	l, err := net.Listen("unix", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.FileServer(http.Dir(files(t, blobs))))
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return &Store{Type: "http-proxy", Section: map[string]any{"addr": addr, "path": "/ignored"}}
}
