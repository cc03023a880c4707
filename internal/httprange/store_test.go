package httprange

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"vrafs/backend"
)

func TestStoreAddsNamesToItsPath(t *testing.T) {
	var got string
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.EscapedPath()
		files(w, r)
	})
	u.Path, u.RawQuery = "/bucket/a b+", ""
	s := &Store{Client: client(t, Options{}), Base: *u}
	b, err := s.Open(t.Context(), "id=ü")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.ReadAt(t.Context(), make([]byte, 4), 0); err != nil || got != "/bucket/a%20b%2Bid%3D%C3%BC" {
		t.Errorf("asked for %s, %v", got, err)
	}
	for _, id := range []string{"", "..", "../x", "a/b", "a\x00"} {
		if _, err := s.Open(t.Context(), id); !errors.Is(err, backend.ErrPermanent) {
			t.Errorf("%q: got %v", id, err)
		}
	}
}

func TestStoreSaysWhatToDoAboutRefusals(t *testing.T) {
	for status, want := range map[int]string{401: "do this", 403: "do this", 302: "address that it redirects to", 404: "pushed"} {
		u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		})
		u.Path = "/"
		b, err := (&Store{Client: client(t, Options{}), Base: *u, Denied: "do this"}).Open(t.Context(), "id")
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.ReadAt(t.Context(), make([]byte, 4), 0)
		if !errors.Is(err, backend.ErrPermanent) || !strings.Contains(err.Error(), "blob id: "+u.Host) || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: got %v, want %q", status, err, want)
		}
		_ = b.Close()
	}
}

// TestKeysThatEndUnderWayAreAskedForAgain, and once: the next ones may be in place before
// a server looks at what was signed with the last.
func TestKeysThatEndUnderWayAreAskedForAgain(t *testing.T) {
	for _, tt := range []struct {
		name     string
		status   int
		next     string // after the first request
		ok       bool
		requests int
	}{
		{"replaced", 403, "new", true, 2},
		{"a session that ended", 400, "new", true, 2},
		{"the same", 403, "old", false, 1},
		{"replaced by others that have ended", 403, "older", false, 2},
		{"taken away", 403, "", false, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			keys, requests := Keys{ID: "old"}, 0
			u := serve(t, func(w http.ResponseWriter, r *http.Request) {
				requests++
				keys = Keys{ID: tt.next}
				if r.Header.Get("Authorization") != "new" {
					w.WriteHeader(tt.status)
					return
				}
				files(w, r)
			})
			u.Path = "/"
			s := &Store{Client: client(t, Options{}), Base: *u, Denied: "do this", Keys: func() Keys { return keys },
				Sign: func(k Keys, _ *url.URL, h http.Header) { h.Set("Authorization", k.ID) }}
			b, err := s.Open(t.Context(), "id")
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			p := make([]byte, 4)
			_, err = b.ReadAt(t.Context(), p, 4)
			if tt.ok && (err != nil || string(p) != text[4:8]) || !tt.ok && (err == nil || !strings.Contains(err.Error(), "do this")) || requests != tt.requests {
				t.Errorf("got %q, %v, %d requests", p, err, requests)
			}
		})
	}
}

// TestSizesAreAskedForOnce: by a range of one byte, or by what a read told.
func TestSizesAreAskedForOnce(t *testing.T) {
	requests := 0
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests++
		files(w, r)
	})
	u.Path = "/"
	b, err := (&Store{Client: client(t, Options{}), Base: *u}).Open(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for range 2 {
		if n, err := b.Size(t.Context()); n != uint64(len(text)) || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
	}
	if requests != 1 {
		t.Errorf("%d requests", requests)
	}
	silent, err := (&Store{Client: client(t, Options{}), Base: *serve(t, answer(206, "bytes 0-0/*", 1, "0"))}).Open(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if n, err := silent.Size(t.Context()); !errors.Is(err, errSize) {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestClosedBlobsEndTheirReads(t *testing.T) {
	begun := make(chan struct{})
	u := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	})
	b, err := (&Store{Client: client(t, Options{}), Base: *u}).Open(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-begun
		_ = b.Close()
	}()
	if n, err := b.ReadAt(t.Context(), make([]byte, 4), 0); n != 0 || !errors.Is(err, errClosed) {
		t.Errorf("got %d, %v", n, err)
	}
}
