package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ctlProgram builds cmd/vrafs.
func ctlProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vrafs")
	build := exec.Command("go", "build", "-trimpath", "-o", path, "../vrafs")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// TestCtlSpeaksNydusctlsCommands runs each command against a daemon.
func TestCtlSpeaksNydusctlsCommands(t *testing.T) {
	program := ctlProgram(t)
	h := newHost(t)
	p := h.fuse(t, h.api).ready()
	im := oneFile(t, "text")
	config := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(config, []byte(im.v1(nil)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		args   string
		status int
		want   []string // in the output
	}{
		{"info", "info", 0, []string{"Version:", "Status:      RUNNING", "Commit:"}},
		{"mount", "mount -s " + im.Bootstrap + " -c " + config + " -m /a+b -t rafs", 0, nil},
		{"mounted", "info", 0, []string{"Mountpoint:  /a+b", "Type:      Rafs", "Backend:   localfs"}},
		{"mount_in_use", "mount -s " + im.Bootstrap + " -c " + config + " -m /a+b", 1, []string{"already exists"}},
		{"mount_without_source", "mount -m /x", 2, []string{"--source"}},
		{"metrics_fsstats", "metrics fsstats", 0, []string{"Data read:", "4 bytes", "lookup"}},
		{"metrics_backend", "metrics backend --id /a+b", 0, []string{"Backend type:  localfs", "Read amount:"}},
		{"metrics_cache", "metrics cache", 0, []string{"Total requests:", im.cache}},
		{"metrics_unknown", "metrics weather", 2, []string{"backend, cache, fsstats"}},
		{"metrics_of_nothing", "metrics fsstats --id /none", 1, []string{"404", "NoCounter"}},
		{"set", "set log-level debug", 0, nil},
		{"set_unknown_level", "set log-level loud", 1, []string{"Configure(ResponsePayloadType)"}},
		{"set_unknown", "set color red", 2, []string{"log-level"}},
		{"umount", "umount -m /a+b", 0, nil},
		{"umount_again", "umount -m /a+b", 1, []string{"doesn't exist"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := exec.Command(program, append([]string{"ctl", "-S", h.api}, strings.Fields(tt.args)...)...).CombinedOutput()
			if exitStatus(err) != tt.status {
				t.Errorf("exit status %d, want %d", exitStatus(err), tt.status)
			}
			for _, w := range tt.want {
				if !strings.Contains(string(out), w) {
					t.Errorf("no %q in\n%s", w, out)
				}
			}
		})
		if tt.name == "mounted" {
			if got, err := os.ReadFile(filepath.Join(h.dir, "a+b", "f")); err != nil || string(got) != "text" {
				t.Fatalf("%q, %v", got, err)
			}
		}
	}
	raw, err := exec.Command(program, "ctl", "--sock", h.api, "--raw", "info").Output()
	if err != nil || !json.Valid(raw) || string(bytes.TrimSpace(raw)) != p.must(200, "GET", "/api/v1/daemon", "") {
		t.Errorf("raw: %s, %v", raw, err)
	}
	if out, err := exec.Command(program, "ctl", "info").CombinedOutput(); exitStatus(err) != 2 || !strings.Contains(string(out), "--sock") {
		t.Errorf("without a socket: %s, %v", out, err)
	}
}

// TestCtlUpgrades tells how it went: a new program, one that is refused before
// anything changed, one that can't take over in the end, a daemon that can't.
func TestCtlUpgrades(t *testing.T) {
	program := ctlProgram(t)
	p, install := installed(t)
	run := func(api string) (string, int) {
		out, err := exec.Command(program, "ctl", "-S", api, "upgrade").CombinedOutput()
		return string(out), exitStatus(err)
	}
	if out, status := run(p.api); status != 0 || !strings.Contains(out, "upgraded; requests stood still for ") {
		t.Errorf("%d %s", status, out)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("#!/bin/sh\necho no >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	install(bad)
	if out, status := run(p.api); status != 1 || !strings.Contains(out, "does not take the state") {
		t.Errorf("%d %s", status, out)
	}
	install(binary)
	c, err := net.Dial("unix", p.sock)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p.waitLog("front-end connected")
	if _, err := c.Write([]byte{1, 0, 0}); err != nil { // in the middle of a message
		t.Fatal(err)
	}
	if out, status := run(p.api); status != 1 || !strings.Contains(out, "the daemon goes on as it was: session can't be handed over") {
		t.Errorf("%d %s", status, out)
	}
	h := newHost(t)
	h.fuse(t, h.api).ready()
	if out, status := run(h.api); status != 1 || !strings.Contains(out, "only vrafsd virtiofs") {
		t.Errorf("%d %s", status, out)
	}
}

// TestCtlRepeats shows counters until it is told to end.
func TestCtlRepeats(t *testing.T) {
	program := ctlProgram(t)
	h := newHost(t)
	p := h.fuse(t, h.api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", oneFile(t, "text").mountBody(""))
	cmd := exec.Command(program, "ctl", "-S", h.api, "metrics", "fsstats", "-I", "1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer end.Stop()
	var text []byte
	for b := make([]byte, 4096); bytes.Count(text, []byte("Data read:")) < 2; {
		n, err := out.Read(b)
		if text = append(text, b[:n]...); err != nil {
			t.Fatalf("%v after %s", err, text)
		}
	}
	_ = cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); exitStatus(err) > 1 {
		t.Error(err)
	}
}
