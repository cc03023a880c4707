package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// line is the form of a line: only INFO has no source position.
var line = regexp.MustCompile(`^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} [+-]\d\d:\d\d\] (INFO [^\[].*|(TRACE|DEBUG|WARN|ERROR) \[[^\]]+:\d+\] .*)$`)

// TestLogLines: form and wording of what people and scripts look for.
func TestLogLines(t *testing.T) {
	sock, api := sockets(t)
	p := virtiofs(t, sock, api, "--threads", "4").ready()
	im := smallImage(t)
	p.must(204, "POST", "/api/v1/mount?mountpoint=/containers", im.mountBody(""))
	p.signal(syscall.SIGTERM)
	if err := p.wait(); err != nil {
		t.Error(err)
	}
	<-p.eof
	text := p.log()
	for l := range strings.Lines(text) {
		if !line.MatchString(strings.TrimSuffix(l, "\n")) {
			t.Errorf("line %q", l)
		}
	}
	for _, want := range []string{
		`INFO Program Version: v2.4.4`, `Set rlimit-nofile to `, `RAFS features: `, `Rafs filesystem mounted at /containers`,
		`from Init to Ready, input [Mount], output [None]`, `from Ready to Running, input [Start], output [None]`,
		`Fuse daemon started!`, `HTTP API server running at ` + api, `http server started`, `http-server thread exits`, `nydusd quits`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestLogFileTakesEveryLine(t *testing.T) {
	dir := t.TempDir()
	sock, api := sockets(t)
	cmd := exec.Command(binary, "virtiofs", "--apisock", api, "--sock", sock, "--log-file", filepath.Join(dir, "new", "nydusd"), "--log-rotation-size", "1")
	p := start(t, cmd, sock, api)
	p.waitSocket()
	if log := p.end(); log != "" {
		t.Errorf("on stderr: %s", log)
	}
	text, err := os.ReadFile(filepath.Join(dir, "new", "nydusd.log"))
	if err != nil || !strings.HasSuffix(string(text), "nydusd quits\n") {
		t.Errorf("got %q, %v", text, err)
	}
}

// TestLogLevelOfTheEnvironment: RUST_LOG wins over --log-level.
func TestLogLevelOfTheEnvironment(t *testing.T) {
	sock, api := sockets(t)
	cmd := exec.Command(binary, "virtiofs", "--apisock", api, "--sock", sock, "--log-level", "info")
	cmd.Env = append(os.Environ(), "RUST_LOG=error")
	p := start(t, cmd, sock, api)
	p.waitSocket()
	if log := p.end(); log != "" {
		t.Errorf("got %s", log)
	}
}

func TestFileLimitIsRaisedOnDemandOnly(t *testing.T) {
	sock, api := sockets(t)
	if log := virtiofs(t, sock, api, "--rlimit-nofile", "0").ready().end(); strings.Contains(log, "rlimit-nofile") {
		t.Errorf("got %s", log)
	}
	p := virtiofs(t, sock, api, "--rlimit-nofile", "512").ready()
	if l := p.waitLog("Set rlimit-nofile to 512, maximum "); !strings.Contains(l, "INFO") {
		t.Errorf("got %s", l)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.cmd.Process.Pid))
	if err != nil || !regexp.MustCompile(`Max open files +512 +512 `).Match(limits) {
		t.Errorf("got %s, %v", limits, err)
	}
}
