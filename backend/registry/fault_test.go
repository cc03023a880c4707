package registry

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"vrafs/backend/retry"
	"vrafs/internal/testfault"
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
var faults = map[string]testfault.Fault{
	"500":          testfault.Status(500),
	"502":          testfault.Status(502),
	"503":          testfault.Status(503),
	"429":          testfault.Status(429),
	"408":          testfault.Status(408),
	"reset":        testfault.Reset,
	"stall":        testfault.Stall,
	"slow loris":   testfault.SlowLoris(slowTimeout / 5),
	"truncation":   testfault.Truncate,
	"wrong range":  testfault.WrongRange,
	"wrong length": testfault.WrongLength,
	"no HTTP":      testfault.NoHTTP,
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
			proxy := testfault.Start(t, server.URL)
			r := open(t, proxy.Host, func(o *Options) { o.HTTP.Timeout = timeout })
			b, err := retry.New(r, retry.Options{Retries: 2, Pause: time.Millisecond}).Open(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			for _, n := range []int{1, 1000, 0} {
				proxy.Set(fault, n)
				p := make([]byte, 16)
				count, err := b.ReadAt(t.Context(), p, 64)
				if passing := n < 3; (err == nil) != passing {
					t.Errorf("%d faults: %v", n, err)
				}
				if err == nil && !bytes.Equal(p, payload[64:80]) || count > 0 && !bytes.Equal(p[:count], payload[64:64+count]) {
					t.Errorf("%d faults: got %q", n, p[:count])
				}
				if err != nil && (!strings.Contains(err.Error(), "blob "+id+": "+proxy.Host) || strings.Contains(err.Error(), "\n")) {
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
