package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestKataArgumentsAreAccepted(t *testing.T) {
	for _, tt := range []struct {
		name    string
		args    []string
		ignored []string
	}{
		{"Go runtime", []string{"virtiofs", "--log-level", "debug", "--apisock", "A", "--sock", "S"}, nil},
		{"runtime-rs", []string{"virtiofs", "--hybrid-mode", "--log-level", "info", "--apisock", "A", "--sock", "S"}, nil},
		{"Go runtime's virtiofsd options", []string{"virtiofs", "--log-level", "info", "--apisock", "A", "--sock", "S", "--thread-pool-size=1", "--announce-submounts"},
			[]string{"thread-pool-size", "announce-submounts"}},
		{"runtime-rs's virtiofsd options", []string{"virtiofs", "--hybrid-mode", "--log-level", "info", "--apisock", "A", "--sock", "S", "--thread-pool-size=1", "-o", "announce_submounts"},
			[]string{"thread-pool-size", "option=o"}},
		{"guide's example", []string{"virtiofs", "--log-level", "info", "--apisock", "A", "--sock", "S", "--log-level", "debug", "--threads", "4"}, []string{"threads"}},
		{"global options first", []string{"--apisock", "A", "--log-level", "info", "virtiofs", "--sock", "S"}, nil},
		{"configuration without bootstrap is not read", []string{"virtiofs", "--apisock", "A", "--sock", "S", "--config", "/none"}, nil},
		{"joined values", []string{"virtiofs", "-AA", "-linfo", "--sock=S"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sock, api := sockets(t)
			args := make([]string, len(tt.args))
			for i, a := range tt.args {
				switch a {
				case "A":
					a = api
				case "S":
					a = sock
				case "--sock=S":
					a = "--sock=" + sock
				case "-AA":
					a = "-A" + api
				}
				args[i] = a
			}
			p := start(t, exec.Command(binary, args...), sock, api).ready()
			for _, name := range tt.ignored {
				if l := p.waitLog(name); !strings.Contains(l, "WARN") {
					t.Errorf("got %q, want a warning", l)
				}
			}
			p.signal(syscall.SIGTERM)
			if err := p.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBareSocketNamesLieInTheWorkingDirectory(t *testing.T) {
	sock, api := sockets(t)
	cmd := exec.Command(binary, "virtiofs", "--apisock", filepath.Base(api), "--sock", filepath.Base(sock))
	cmd.Dir = filepath.Dir(sock)
	p := start(t, cmd, sock, api).ready()
	p.must(200, "GET", "/api/v1/daemon", "")
}

// TestReadiness: the vhost-user socket listens before the API answers, and the
// first answer is RUNNING.
func TestReadiness(t *testing.T) {
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	body := p.must(200, "GET", "/api/v1/daemon", "")
	var info struct {
		Version    map[string]any
		ID         *string
		Supervisor *string
		State      string
		Backends   map[string]any `json:"backend_collection"`
	}
	if err := json.Unmarshal([]byte(body), &info); err != nil {
		t.Fatal(err)
	}
	if info.State != "RUNNING" || info.ID != nil || info.Supervisor != nil || info.Backends == nil || len(info.Backends) != 0 {
		t.Errorf("got %s", body)
	}
	for _, key := range []string{"package_ver", "git_commit", "build_time", "profile", "rustc"} {
		if s, ok := info.Version[key].(string); !ok || s == "" {
			t.Errorf("version.%s is %v", key, info.Version[key])
		}
	}
	c, err := net.Dial("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestManySilentConnectionsAreNormal(t *testing.T) {
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	for range 300 {
		c, err := net.Dial("unix", api)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	p.must(200, "GET", "/api/v1/daemon", "")
}

func TestStaleSocketsAreReplaced(t *testing.T) {
	sock, api := sockets(t)
	virtiofs(t, sock, api).ready().kill()
	for _, s := range []string{sock, api} {
		if _, err := os.Stat(s); err != nil {
			t.Fatal(err)
		}
	}
	p := virtiofs(t, sock, api).ready()
	p.must(200, "GET", "/api/v1/daemon", "")
	p.signal(syscall.SIGTERM)
	if err := p.wait(); err != nil {
		t.Error(err)
	}
	left, _ := os.ReadDir(filepath.Dir(sock))
	if len(left) != 0 {
		t.Errorf("left after an orderly end: %v", left)
	}
}

func TestSignalsEndTheDaemonWithinASecond(t *testing.T) {
	for _, tt := range []struct {
		name string
		when func(p *process) func()
	}{
		{"at once", func(*process) func() { return func() {} }},
		{"before a front-end", func(p *process) func() { p.ready(); return func() {} }},
		{"with a silent front-end", func(p *process) func() {
			p.ready()
			c, err := net.Dial("unix", p.sock)
			if err != nil {
				p.t.Fatal(err)
			}
			p.waitLog("front-end connected")
			return func() { c.Close() }
		}},
		{"with a client in mid-request", func(p *process) func() {
			p.ready()
			c, err := net.Dial("unix", p.api)
			if err != nil {
				p.t.Fatal(err)
			}
			fmt.Fprint(c, "POST /api/v1/mount?mountpoint=/a HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
			return func() { c.Close() }
		}},
	} {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			t.Run(tt.name+"/"+sig.String(), func(t *testing.T) {
				sock, api := sockets(t)
				p := virtiofs(t, sock, api)
				if tt.name == "at once" {
					p.waitLog("Program Version")
				}
				defer tt.when(p)()
				begin := time.Now()
				p.signal(sig)
				if err := p.wait(); err != nil {
					t.Errorf("got %v, want status 0", err)
				}
				if took := time.Since(begin); took > time.Second {
					t.Errorf("took %v", took)
				}
				for _, s := range []string{sock, api, sock + ".state"} {
					if _, err := os.Stat(s); !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("%s is left: %v", s, err)
					}
				}
			})
		}
	}
}

// readUntil reads a log up to a text.
func readUntil(t *testing.T, r io.Reader, text string) {
	t.Helper()
	buf := make([]byte, 1<<16)
	for got := ""; !strings.Contains(got, text); {
		n, err := r.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got += string(buf[:n])
	}
}

// TestLostReaderOfTheLogChangesNothing: the shim died, nobody reads the pipe.
func TestLostReaderOfTheLogChangesNothing(t *testing.T) {
	sock, api := sockets(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "virtiofs", "--log-level", "trace", "--apisock", api, "--sock", sock)
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	w.Close()
	readUntil(t, r, "http server started")
	r.Close()
	q := &process{t: t, http: clientOf(api)}
	for i := range 100 {
		q.must(500, "POST", fmt.Sprintf("/api/v1/mount?mountpoint=/%d", i), `{"source":"/none","fs_type":"rafs","config":"{}"}`)
	}
	if s := q.must(200, "GET", "/api/v1/daemon", ""); !strings.Contains(s, "RUNNING") {
		t.Errorf("got %s", s)
	}
}

// TestFullPipeBlocksNobody: the reader is there but reads nothing more.
func TestFullPipeBlocksNobody(t *testing.T) {
	sock, api := sockets(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(binary, "virtiofs", "--log-level", "trace", "--apisock", api, "--sock", sock)
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	readUntil(t, r, "http server started")
	q := &process{t: t, http: clientOf(api)}
	long := strings.Repeat("x", 8000)
	for range 100 {
		q.must(500, "POST", "/api/v1/mount?mountpoint=/a", `{"source":"/`+long+`","fs_type":"rafs","config":"{}"}`)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the daemon hangs")
		_ = cmd.Process.Kill()
	}
}

// child starts a daemon below a shell that dies at our word. The process is the
// shell's; its log is the daemon's.
func child(t *testing.T, sock, api string) (p *process, killParent func()) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `"$@" & read x; exit 0`, "sh", binary, "virtiofs", "--orphan-timeout", "1", "--apisock", api, "--sock", sock)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	return start(t, cmd, sock, api).ready(), func() { in.Close() }
}

// TestOrphansEnd: kata.md 1.8.
func TestOrphansEnd(t *testing.T) {
	t.Run("parent dead", func(t *testing.T) {
		sock, api := sockets(t)
		p, killParent := child(t, sock, api)
		killParent()
		if err := p.wait(); err != nil {
			t.Fatal(err)
		}
		p.waitLog("orphaned")
		<-p.eof // the daemon has closed its end
	})
	t.Run("parent dead, front-end connected", func(t *testing.T) {
		sock, api := sockets(t)
		p, killParent := child(t, sock, api)
		c, err := net.Dial("unix", sock)
		if err != nil {
			t.Fatal(err)
		}
		p.waitLog("front-end connected")
		killParent()
		<-p.done
		p.must(200, "GET", "/api/v1/daemon", "") // it lives as long as the front-end
		c.Close()
		<-p.eof
	})
	t.Run("directory gone", func(t *testing.T) {
		sock, api := sockets(t)
		p := virtiofs(t, sock, api, "--orphan-timeout", "1").ready()
		if err := os.RemoveAll(filepath.Dir(sock)); err != nil {
			t.Fatal(err)
		}
		if err := p.wait(); err != nil {
			t.Error(err)
		}
		p.waitLog("orphaned")
	})
}

// TestParallelCommands: sixteen containers of a pod at once.
func TestParallelCommands(t *testing.T) {
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	im := smallImage(t)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			place := fmt.Sprintf("/rafs/c%d/lowerdir", i)
			p.must(204, "POST", "/api/v1/mount?mountpoint="+place, im.mountBody(""))
		})
	}
	wg.Wait()
	var info struct {
		Backends map[string]any `json:"backend_collection"`
	}
	if err := json.Unmarshal([]byte(p.must(200, "GET", "/api/v1/daemon", "")), &info); err != nil || len(info.Backends) != 16 {
		t.Errorf("got %d mounts, %v", len(info.Backends), err)
	}
}
