package registry

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vrafs/backend/retry"
	"vrafs/internal/testregistry"
)

// raw answers with text as it stands, and hangs up.
func raw(w http.ResponseWriter, format string, args ...any) {
	conn, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	fmt.Fprintf(rw, format, args...)
	_ = rw.Flush()
	if tcp, ok := conn.(*net.TCPConn); ok && format == "" {
		_ = tcp.SetLinger(0) // a reset
	}
	_ = conn.Close()
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "trouble", code) }
}

// slowTimeout is the time that faults which only time can tell are given: long
// enough for an honest answer of a busy machine.
const slowTimeout = time.Second

// faults are what a network can do to a read of 16 bytes at 64. Another try cures
// each.
var faults = map[string]http.HandlerFunc{
	"500":   status(500),
	"502":   status(502),
	"503":   status(503),
	"429":   status(429),
	"408":   status(408),
	"reset": func(w http.ResponseWriter, _ *http.Request) { raw(w, "") },
	"stall": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	"slow loris": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes 64-79/65536")
		w.WriteHeader(http.StatusPartialContent)
		tick := time.NewTicker(slowTimeout / 10) // 16 bytes take longer than is allowed
		defer tick.Stop()
		for i := range 16 {
			select {
			case <-tick.C:
				_, _ = w.Write(payload[64+i:][:1])
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	},
	"truncation": func(w http.ResponseWriter, _ *http.Request) {
		raw(w, "HTTP/1.1 206 x\r\nContent-Length: 16\r\nContent-Range: bytes 64-79/65536\r\n\r\n012")
	},
	"wrong range": func(w http.ResponseWriter, _ *http.Request) {
		raw(w, "HTTP/1.1 206 x\r\nContent-Length: 16\r\nContent-Range: bytes 0-15/65536\r\n\r\n----------------")
	},
	"wrong length": func(w http.ResponseWriter, _ *http.Request) {
		raw(w, "HTTP/1.1 206 x\r\nContent-Length: 9\r\nContent-Range: bytes 64-79/65536\r\n\r\n---------")
	},
	"no HTTP": func(w http.ResponseWriter, _ *http.Request) { raw(w, "220 mail.example ESMTP\r\n") },
}

// TestFaults: one that passes is not seen; one that stays is a readable error in
// bounded time, and when it has gone all is well.
func TestFaults(t *testing.T) {
	server := testregistry.Start(t, testregistry.Options{})
	id := server.Push(t, repo, payload)
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Minute
			if name == "stall" || name == "slow loris" {
				timeout = slowTimeout
			}
			var left atomic.Int64
			host := testregistry.Proxy(t, server.URL, func(w http.ResponseWriter, r *http.Request) bool {
				if left.Add(-1) >= 0 {
					fault(w, r)
					return true
				}
				return false
			})
			r := open(t, host, func(o *Options) { o.HTTP.Timeout = timeout })
			b, err := retry.New(r, retry.Options{Retries: 2, Pause: time.Millisecond}).Open(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			for _, n := range []int64{1, 1000, 0} {
				left.Store(n)
				p := make([]byte, 16)
				count, err := b.ReadAt(t.Context(), p, 64)
				if passing := n < 3; (err == nil) != passing {
					t.Errorf("%d faults: %v", n, err)
				}
				if err == nil && !bytes.Equal(p, payload[64:80]) || count > 0 && !bytes.Equal(p[:count], payload[64:64+count]) {
					t.Errorf("%d faults: got %q", n, p[:count])
				}
				if err != nil && (!strings.Contains(err.Error(), "blob "+id+": "+host) || strings.Contains(err.Error(), "\n")) {
					t.Errorf("%d faults: %v", n, err)
				}
			}
		})
	}
}

// TestServersComeBack: a server that is away, and one whose name is unknown.
func TestServersComeBack(t *testing.T) {
	server := testregistry.Start(t, testregistry.Options{})
	id := server.Push(t, repo, payload)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	_ = l.Close()
	b := blobOf(t, open(t, host, nil), id)
	if err := read(t, b, 0); err == nil || !strings.Contains(err.Error(), "connection refused; check the host") {
		t.Errorf("away: %v", err)
	}
	if l, err = net.Listen("tcp", host); err != nil {
		t.Fatal(err)
	}
	back := &http.Server{Handler: http.HandlerFunc(serve)}
	go func() { _ = back.Serve(l) }()
	defer back.Close()
	if err := read(t, b, 0); err != nil {
		t.Errorf("back: %v", err)
	}
	if err := read(t, blobOf(t, open(t, "registry.invalid", nil), id), 0); err == nil || !strings.Contains(err.Error(), "lookup") {
		t.Errorf("no such name: %v", err)
	}
}
