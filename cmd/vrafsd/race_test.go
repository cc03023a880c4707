package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vrafs/internal/testenv"
)

// raceBinary builds the program with the race detector.
func raceBinary(t *testing.T) string {
	t.Helper()
	testenv.Need(t, testenv.RaceBuild)
	path := filepath.Join(t.TempDir(), "vrafsd-race")
	cmd := exec.Command("go", "build", "-race", "-trimpath", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// TestFiftyProcessesReadWithoutRaces from a cold image, while its metrics are asked
// for and other images come and go.
func TestFiftyProcessesReadWithoutRaces(t *testing.T) {
	testenv.Long(t)
	h := newHost(t)
	im, other := smallImage(t), oneFile(t, "other")
	cmd := exec.Command(raceBinary(t), "fuse", "--thread-num", "4", "--mountpoint", h.dir, "--apisock", h.api)
	p := start(t, cmd, "", h.api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=%2Fa", im.mountBody(""))
	want, err := sums(im.Tree)
	if err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	for range 50 {
		readers.Go(func() {
			if got, err := sums(filepath.Join(h.dir, "a")); err != nil || got != want {
				t.Errorf("%v, %d bytes of sums, want %d", err, len(got), len(want))
			}
		})
	}
	done := make(chan struct{})
	go func() {
		readers.Wait()
		close(done)
	}()
	p.busyUntil(done, other)
	if log := p.end(); strings.Contains(log, "DATA RACE") {
		t.Error("the race detector has found something")
	}
}

// busyUntil uses the control API until done is closed.
func (p *process) busyUntil(done <-chan struct{}, other *imageFixture) {
	p.t.Helper()
	for {
		select {
		case <-done:
			return
		default:
		}
		p.must(204, "POST", "/api/v1/mount?mountpoint=%2Fother", other.mountBody(""))
		for _, target := range []string{"/api/v1/metrics?id=/a", "/api/v1/metrics/blobcache?id=", "/api/v1/metrics/inflight", "/api/v1/daemon", "/metrics"} {
			p.ask("GET", target, "")
		}
		p.must(204, "DELETE", "/api/v1/mount?mountpoint=%2Fother", "")
	}
}
