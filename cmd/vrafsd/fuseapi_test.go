package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFuseAnswersOnceRunning: a client that sees the socket may ask for the state at
// once.
func TestFuseAnswersOnceRunning(t *testing.T) {
	for i := range 5 {
		h := newHost(t)
		p := h.start(t, binary, h.api)
		p.waitSocket()
		h.sup.keep(p)
		if got := p.state(); got != "RUNNING" {
			t.Error(i, got)
		}
	}
}

// TestMetricsOfFuse are the counters that a running mount shows over the API.
func TestMetricsOfFuse(t *testing.T) {
	h := newHost(t)
	p := h.kept(t)
	im := oneFile(t, "text")
	im.BlobDir = t.TempDir() // the blob isn't there
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
	if err := exec.Command("cat", filepath.Join(h.dir, "a", "f")).Run(); err == nil {
		t.Fatal("read without a blob")
	}
	text := p.must(200, "GET", "/metrics", "")
	for _, want := range []string{
		`vrafs_requests_total{mountpoint="/a",op="READ"} `,
		`vrafs_request_errors_total{mountpoint="/a",op="READ"} `,
		`vrafs_read_seconds_bucket{mountpoint="/a",le="+Inf"} `,
		`vrafs_cache_hit_ratio{mountpoint="/a"} 0`,
		`vrafs_backend_bytes_total{mountpoint="/a",type="localfs"} 0`,
		`vrafs_backend_errors_total{mountpoint="/a",type="localfs",cause="timeout"} 0`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, fmt.Sprintf(`cause="not_found"} %d`, 0)) {
		t.Errorf("the missing blob was not counted:\n%s", text)
	}
}
