package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFuseLifeCycleErrors are the refusals of life-cycle commands that only a FUSE daemon
// can give (nydusd, sections 1.9 and 2.3).
func TestFuseLifeCycleErrors(t *testing.T) {
	h := newHost(t)
	alone := h.kept(t)
	waiting := h.fuse(t, h.api+"2", "--upgrade").ready()
	lonely := start(t, exec.Command(binary, "fuse", "--mountpoint", t.TempDir(), "--apisock", h.api+"3", "--upgrade"), "", h.api+"3").ready()
	for _, tt := range []struct {
		name   string
		p      *process
		target string
		status int
		want   string
	}{
		{"sendfd_without_supervisor", alone, "fuse/sendfd", 500, `Upgrade(DaemonAbnormal(UpgradeManager("MissingSupervisorPath")))`},
		{"takeover_while_running", alone, "fuse/takeover", 400, `Upgrade(DaemonAbnormal(UnexpectedEvent("Takeover")))`},
		{"start_while_running", alone, "start", 400, `Upgrade(DaemonAbnormal(UnexpectedEvent("Start")))`},
		{"sendfd_before_INIT", waiting, "fuse/sendfd", 503, `Upgrade(DaemonAbnormal(NotReady))`},
		{"start_before_takeover", waiting, "start", 400, `Upgrade(DaemonAbnormal(UnexpectedEvent("Start")))`},
		{"takeover_without_supervisor", lonely, "fuse/takeover", 500, `Upgrade(DaemonAbnormal(UpgradeManager("MissingSupervisorPath")))`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body := tt.p.ask("PUT", "/api/v1/daemon/"+tt.target, "")
			if status != tt.status || errorText(t, body) != tt.want {
				t.Errorf("got %d %s, want %d %s", status, body, tt.status, tt.want)
			}
		})
	}
	for _, p := range []*process{waiting, lonely} {
		if got := p.state(); got != "INIT" {
			t.Error(got)
		}
		p.end()
	}
	if !h.mounted(t) {
		t.Error("the daemons that waited took the mount with them")
	}
}

// TestTakeoverWithoutSupervisorThere: the supervisor's socket leads nowhere.
func TestTakeoverWithoutSupervisorThere(t *testing.T) {
	h := newHost(t)
	p := start(t, exec.Command(binary, "fuse", "--mountpoint", h.dir, "--apisock", h.api, "--upgrade",
		"--id", "x", "--supervisor", filepath.Join(t.TempDir(), "none")), "", h.api).ready()
	if status, body := p.ask("PUT", "/api/v1/daemon/fuse/takeover", ""); status != 500 || !strings.HasPrefix(errorText(t, body), "Upgrade(DaemonAbnormal(") {
		t.Error(status, body)
	}
}

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
