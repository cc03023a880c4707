package main

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

func TestPsListsRunningDaemons(t *testing.T) {
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	im := oneFile(t, "text")
	p.must(204, "POST", "/api/v1/mount?mountpoint=/rafs/c1/lowerdir", im.mountBody(""))
	p.must(204, "POST", "/api/v1/mount?mountpoint=/rafs/c2/lowerdir", im.mountBody(""))
	out, err := exec.Command(binary, "ps").Output()
	if err != nil {
		t.Fatal(err)
	}
	var mine []string
	for l := range strings.Lines(string(out)) {
		if strings.Contains(l, api) {
			mine = append(mine, l)
		}
	}
	want := regexp.MustCompile(`^\d+ +virtiofs +RUNNING +/rafs/c[12]/lowerdir +Rafs +(-|\d+%) +- +none +` + regexp.QuoteMeta(api) + `\n$`)
	if len(mine) != 2 || !want.MatchString(mine[0]) || !want.MatchString(mine[1]) {
		t.Errorf("got %q of\n%s", mine, out)
	}
}

// TestPsShowsNoControlCharacters of a process that anybody may have started.
func TestPsShowsNoControlCharacters(t *testing.T) {
	cmd := exec.Command("sh")
	cmd.Args = []string{"vrafsd", "-c", "echo ready; read end", "--apisock", "/x\x1b[2J"}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	ready, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	if _, err := ready.Read(make([]byte, 1)); err != nil { // it has its own name now
		t.Fatal(err)
	}
	out, err := exec.Command(binary, "ps").Output()
	if err != nil || strings.Contains(string(out), "\x1b") || !strings.Contains(string(out), `"/x\x1b[2J"`) {
		t.Errorf("%q, %v", out, err)
	}
}

func TestParseDaemon(t *testing.T) {
	for _, tt := range []struct {
		argv string
		want runningDaemon
		ok   bool
	}{
		{"/usr/bin/nydusd fuse --thread-num 4 --apisock /a", runningDaemon{mode: "fuse", api: "/a"}, true},
		{"nydusd --apisock=/a --mountpoint /m", runningDaemon{mode: "fuse", api: "/a"}, true},
		{"vrafsd virtiofs -A /a --sock /s", runningDaemon{mode: "virtiofs", api: "/a"}, true},
		{"vrafsd virtiofs --sock /s", runningDaemon{mode: "virtiofs"}, true},
		{"vrafsd virtiofs --sock /s -A", runningDaemon{mode: "virtiofs"}, true},
		{"vrafsd ps", runningDaemon{mode: "fuse"}, false},
		{"/bin/sh vrafsd virtiofs", runningDaemon{}, false},
	} {
		if got, ok := parseDaemon(strings.Fields(tt.argv)); ok != tt.ok || ok && got != tt.want {
			t.Errorf("%s: got %+v, %v", tt.argv, got, ok)
		}
	}
}

func TestMetricsLines(t *testing.T) {
	m := metrics{}
	for _, l := range []string{
		"# HELP vrafs_blob_chunks Chunks.",
		`vrafs_blob_chunks{mountpoint="/a\"}",blob="b1"} 3`,
		`vrafs_blob_chunks{mountpoint="/a\"}",blob="b2"} 5`,
		`vrafs_blob_chunks_local{mountpoint="/a\"}",blob="b2"} 2`,
		`vrafs_backend_errors_total{mountpoint="/a\"}",type="localfs"} 1`,
		`vrafs_pending_requests 1`, `x{`, `x{mountpoint="`, ``,
	} {
		m.line(l)
	}
	if got := m.local(`/a"}`); got != "25%" {
		t.Errorf("got %s", got)
	}
	if got := m.failures(`/a"}`); got != "backend=1" {
		t.Errorf("got %s", got)
	}
	for _, tt := range []struct{ running, paused, wanted, left, want string }{
		{"0", "0", "0", "0", "-"}, {"0", "0", "8", "0", "done"}, {"1", "0", "0", "0", "100%"}, {"1", "0", "8", "6", "25%"}, {"1", "1", "8", "6", "25%,paused"},
	} {
		m := metrics{}
		for name, value := range map[string]string{"running": tt.running, "paused": tt.paused, "wanted_bytes": tt.wanted, "left_bytes": tt.left} {
			m.line("vrafs_prefetch_" + name + `{mountpoint="/"} ` + value)
		}
		if got := m.prefetch("/"); got != tt.want {
			t.Errorf("%+v: got %s", tt, got)
		}
	}
	if m.local("/b") != "-" || m.failures("/b") != "none" {
		t.Error("of an unknown mountpoint")
	}
}
