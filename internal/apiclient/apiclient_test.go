package apiclient

import (
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"testing"
)

// daemon answers on a socket.
func daemon(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { s.Close() })
	c := New(path)
	t.Cleanup(c.Close)
	return c
}

func TestAnswers(t *testing.T) {
	c := daemon(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/data":
			_, _ = w.Write([]byte(`{"state":"RUNNING"}`))
		case "/nothing":
			w.WriteHeader(204)
		case "/refused":
			w.WriteHeader(400)
			_, _ = w.Write([]byte(`{"code":"UNDEFINED","message":"BadRequest"}`))
		default:
			w.WriteHeader(500)
			_, _ = w.Write([]byte("<html>"))
		}
	})
	var v struct{ State string }
	if err := c.Get(t.Context(), "/data", &v); err != nil || v.State != "RUNNING" {
		t.Error(v, err)
	}
	if err := c.Get(t.Context(), "/nothing", &v); err != nil || v.State != "RUNNING" {
		t.Error(v, err)
	}
	for target, want := range map[string]string{"/refused": "the daemon answers 400: BadRequest", "/x": "the daemon answers 500"} {
		_, err := c.Do(t.Context(), "PUT", target, []byte("{}"))
		if e, ok := errors.AsType[*Error](err); !ok || e.Error() != want {
			t.Errorf("%s: %v, want %s", target, err, want)
		}
	}
}

func TestNobodyListens(t *testing.T) {
	if _, err := New(filepath.Join(t.TempDir(), "s")).Do(t.Context(), "GET", "/", nil); err == nil {
		t.Error("no error")
	}
}
