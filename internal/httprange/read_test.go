package httprange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"vrafs/backend"
	"vrafs/internal/opener"
)

const text = "0123456789abcdef"

// client makes a client whose connections end with the test.
func client(t *testing.T, opt Options) *Client {
	t.Helper()
	c, err := New(opener.Local(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// serve starts a server; its address ends in a query that must never be shown.
func serve(t *testing.T, h http.HandlerFunc) *url.URL {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return address(t, s.URL+"/b?X-Signature=hidden")
}

func address(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// answer is a handler with a fixed answer. A body that ends before its length is
// cut off; a length of -1 leaves it to the end of the connection.
func answer(status int, contentRange string, length int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(rw, "HTTP/1.1 %d X\r\nConnection: close\r\n", status)
		if contentRange != "" {
			fmt.Fprintf(rw, "Content-Range: %s\r\n", contentRange)
		}
		if length >= 0 {
			fmt.Fprintf(rw, "Content-Length: %d\r\n", length)
		}
		fmt.Fprintf(rw, "\r\n%s", body)
		_ = rw.Flush()
	}
}

func files(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text))
}

// TestRangeTakesOnlyWhatWasAskedFor reads 4 bytes at 8.
func TestRangeTakesOnlyWhatWasAskedFor(t *testing.T) {
	permanent := backend.ErrPermanent
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		n       int
		err     error // nil, a class, or the cause
		again   bool  // another try may help
	}{
		{"a range", files, 4, nil, false},
		{"a range without length", answer(206, "bytes 8-11/16", -1, "89ab"), 4, nil, false},
		{"a range of an unknown whole", answer(206, "bytes 8-11/*", 4, "89ab"), 4, nil, false},
		{"the end of the blob", answer(206, "bytes 8-9/10", 2, "89"), 2, io.ErrUnexpectedEOF, false},
		{"a range past the end", answer(416, "bytes */8", 0, ""), 0, io.ErrUnexpectedEOF, false},
		{"416 within the blob", answer(416, "bytes */16", 0, ""), 0, nil, true},
		{"an early end that is none", answer(206, "bytes 8-9/16", 2, "89"), 0, errShort, true},
		{"an early end of an unknown whole", answer(206, "bytes 8-9/*", 2, "89"), 0, errShort, true},
		{"another range", answer(206, "bytes 7-10/16", 4, "789a"), 0, errRange, true},
		{"a longer range", answer(206, "bytes 8-12/16", 5, "89abc"), 0, errRange, true},
		{"a range and another length", answer(206, "bytes 8-11/16", 5, "89abc"), 0, errRange, true},
		{"no word about the range", answer(206, "", 4, "89ab"), 0, errRange, true},
		{"a cut", answer(206, "bytes 8-11/16", 4, "89"), 2, errShort, true},
		{"a cut without length", answer(206, "bytes 8-11/16", -1, "89"), 2, errShort, true},
		{"more than was said", answer(206, "bytes 8-11/16", -1, "89abc"), 0, errLong, true},
		{"everything", answer(200, "", 16, text), 0, permanent, false},
		{"everything, which ends before", answer(200, "", 8, text[:8]), 0, io.ErrUnexpectedEOF, false},
		{"everything, of an unknown length", answer(200, "", -1, text[:8]), 0, permanent, false},
		{"nothing", answer(204, "", -1, ""), 0, permanent, false},
		{"not found", answer(404, "", 0, ""), 0, backend.ErrNotFound, false},
		{"denied", answer(403, "", 0, ""), 0, permanent, false},
		{"too many requests", answer(429, "", 0, ""), 0, nil, true},
		{"trouble", answer(503, "", 0, ""), 0, nil, true},
		{"no HTTP", func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			_ = conn.Close()
		}, 0, nil, true},
		{"endless headers", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 2*maxHeaderBytes))
		}, 0, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := make([]byte, 4)
			rep, err := client(t, Options{}).Range(t.Context(), serve(t, tt.handler), "secret", Into(p), 8)
			if rep.N != tt.n || (err == nil) != (tt.n == 4) || tt.err != nil && !errors.Is(err, tt.err) {
				t.Errorf("got %d, %v, want %d, %v", rep.N, err, tt.n, tt.err)
			}
			if want := text[8 : 8+tt.n]; string(p[:tt.n]) != want {
				t.Errorf("got %q, want %q", p[:tt.n], want)
			}
			passing := err != nil && !errors.Is(err, backend.ErrPermanent) && !errors.Is(err, io.ErrUnexpectedEOF)
			if passing != tt.again {
				t.Errorf("another try may help: %v, want %v (%v)", passing, tt.again, err)
			}
			if err != nil && (strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), "secret")) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestRangeReadsTheBeginningOfAWhole(t *testing.T) {
	for _, tt := range []struct {
		length, n int
		err       error
	}{{16, 4, nil}, {-1, 4, nil}, {2, 2, io.ErrUnexpectedEOF}} {
		p := make([]byte, 4)
		u := serve(t, answer(200, "", tt.length, text[:min(16, uint(tt.length))]))
		if rep, err := client(t, Options{}).Range(t.Context(), u, "", Into(p), 0); rep.N != tt.n || !errors.Is(err, tt.err) || string(p[:tt.n]) != text[:tt.n] {
			t.Errorf("length %d: got %d %q, %v", tt.length, rep.N, p, err)
		}
	}
}

func TestRequestsEndInTime(t *testing.T) {
	stall := func(after string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if after != "" {
				w.Header().Set("Content-Range", "bytes 0-3/16")
				w.WriteHeader(206)
				_, _ = io.WriteString(w, after)
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
		}
	}
	for name, after := range map[string]string{"before the headers": "", "in the body": "01"} {
		t.Run(name, func(t *testing.T) {
			u := serve(t, stall(after))
			_, err := client(t, Options{Timeout: 20 * time.Millisecond}).Range(t.Context(), u, "", Into(make([]byte, 4)), 0)
			if !errors.Is(err, errTimeout) || !strings.Contains(err.Error(), "raise timeout") {
				t.Errorf("got %v", err)
			}
			gone := errors.New("reader went away")
			ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, gone)
			defer cancel()
			if _, err := client(t, Options{}).Range(ctx, u, "", Into(make([]byte, 4)), 0); !errors.Is(err, gone) {
				t.Errorf("got %v, want %v", err, gone)
			}
		})
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	peers := map[string]bool{}
	status := 0
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		peers[r.RemoteAddr] = true
		if status != 0 {
			http.Error(w, "some words about it", status)
			return
		}
		files(w, r)
	})
	c := client(t, Options{})
	for _, status = range []int{0, 404, 0, 503, 307, 0} {
		_, _ = c.Range(t.Context(), u, "", Into(make([]byte, 4)), 3)
	}
	if len(peers) != 1 {
		t.Errorf("%d connections", len(peers))
	}
}

func TestRequestsSayWhatTheyMust(t *testing.T) {
	var got http.Header
	u := serve(t, func(w http.ResponseWriter, r *http.Request) { got = r.Header; files(w, r) })
	extra := http.Header{"X-Tenant": {"blue"}, "Authorization": {"Basic extra"}, "User-Agent": {"other"}}
	if _, err := client(t, Options{Header: extra}).Range(t.Context(), u, "Bearer t", Into(make([]byte, 4)), 8); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Range": "bytes=8-11", "Authorization": "Bearer t", "User-Agent": UserAgent, "X-Tenant": "blue", "Accept-Encoding": "",
	} {
		if got.Get(name) != want {
			t.Errorf("%s: got %q, want %q", name, got.Get(name), want)
		}
	}
}

func TestRedirectsAreReportedNotFollowed(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	rep, err := client(t, Options{}).Range(t.Context(), u, "", Into(make([]byte, 4)), 8)
	if err == nil || !rep.Redirect() || rep.Header.Get("Location") != "/elsewhere" {
		t.Errorf("got %+v, %v", rep, err)
	}
}
