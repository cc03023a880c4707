package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/vhostuser/vhostusertest"
)

func signalsEndIt(t *testing.T) {
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

// lostReaderOfTheLog: the shim died, nobody reads the pipe.
func lostReaderOfTheLog(t *testing.T) {
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

// fullPipe: the reader is there but reads nothing more.
func fullPipe(t *testing.T) {
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

// orphansEnd: kata.md 1.8.
func orphansEnd(t *testing.T) {
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

// signalWithHungRegistry: reads wait for a registry that took their connection and
// says nothing.
func signalWithHungRegistry(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	asked := make(chan struct{})
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			select {
			case asked <- struct{}{}:
			default:
			}
		}
	}()
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	im := oneFile(t, "text")
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(im.pulled(ln.Addr().String(), map[string]any{"timeout": 60})))
	g := boot(t, sock, vhostusertest.GuestConfig{})
	g.sendRead(t, 0, "/a/f")
	select {
	case <-asked:
	case <-time.After(patience):
		t.Fatal("the registry is not asked")
	}
	p.endsInTime()
}

// killLeavesTheCacheRight: what a killed daemon has left is neither believed too much
// nor in the way of the next.
func killLeavesTheCacheRight(t *testing.T) {
	im := smallImage(t)
	for round := range 4 {
		sock, api := sockets(t)
		p := virtiofs(t, sock, api).ready()
		p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
		g := boot(t, sock, vhostusertest.GuestConfig{})
		files := g.tree(t, "/a", im.Tree)
		if round < 3 {
			r := rand.New(rand.NewPCG(1, uint64(round)))
			for range 1 + 10*round {
				if err := readSome(g.clients[0], r, files); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range files[10*round : 10*round+4] { // never answered
				g.sendReadOf(t, 0, f.node)
			}
			p.kill()
			continue
		}
		for _, f := range files {
			if err := readAll(g.clients[0], f); err != nil {
				t.Error(err)
			}
		}
	}
}

// longLogLines: Kata's reader gives up at a line of 64 KiB, and so does that of these
// tests.
func longLogLines(t *testing.T) {
	sock, api := sockets(t)
	p := virtiofs(t, sock, api, "--log-level", "trace").ready()
	im := oneFile(t, "text")
	body, err := json.Marshal(map[string]any{
		"fs_type": "rafs", "source": im.Bootstrap, "config": im.v1(map[string]any{"fs_prefetch": map[string]any{"enable": true}}),
		"prefetch_files": []string{"/" + strings.Repeat("x", 100<<10)}, // is not there, and a warning says so
	})
	if err != nil {
		t.Fatal(err)
	}
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", string(body))
	if l := p.waitLog("/xxxx"); len(l) < 1000 || len(l) >= 64<<10 {
		t.Errorf("a line of %d bytes", len(l))
	}
	p.end()
}

// oneProcess: metrics and the end of the VM hang on the pid that was started.
func oneProcess(t *testing.T) {
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	for _, path := range []string{sock, api} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := c.(*net.UnixConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) {
			cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
			if err != nil || int(cred.Pid) != p.cmd.Process.Pid {
				t.Errorf("%s is served by %+v, %v; the daemon is %d", path, cred, err, p.cmd.Process.Pid)
			}
		})
		c.Close()
	}
	children, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid))
	if err != nil || len(children) == 0 {
		t.Fatal(len(children), err)
	}
	for _, c := range children {
		if text, err := os.ReadFile(c); err == nil && len(text) != 0 {
			t.Errorf("the daemon has children: %s", text)
		}
	}
	p.end()
}
