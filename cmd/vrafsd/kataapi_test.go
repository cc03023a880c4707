package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func argvOfBothRuntimes(t *testing.T) {
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

func bareSocketNames(t *testing.T) {
	sock, api := sockets(t)
	cmd := exec.Command(binary, "virtiofs", "--apisock", filepath.Base(api), "--sock", filepath.Base(sock))
	cmd.Dir = filepath.Dir(sock)
	p := start(t, cmd, sock, api).ready()
	p.must(200, "GET", "/api/v1/daemon", "")
}

// strictInformation: the vhost-user socket listens before the API answers, and the
// first answer is RUNNING.
func strictInformation(t *testing.T) {
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

// requestsByteForByte, as both runtimes send them (kata.md 1.5 and 2.1).
func requestsByteForByte(t *testing.T) {
	im := oneFile(t, "text")
	sock, api := sockets(t)
	virtiofs(t, sock, api).ready()
	body := im.mountBody("")
	length := fmt.Sprint(len(body))
	for _, tt := range []struct {
		name, request string
		status        int
		body          string // at its beginning
	}{
		{"Go runtime, readiness", "GET /api/v1/daemon HTTP/1.1\r\nHost: unix\r\nUser-Agent: Go-http-client/1.1\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n", 200, `{"version":{"package_ver":"`},
		{"Go runtime, mount", "POST /api/v1/mount?mountpoint=/rafs/a+b_c,d-e.f/lowerdir HTTP/1.1\r\nHost: unix\r\nContent-Type: application/json\r\nContent-Length: " + length + "\r\n\r\n" + body, 204, ""},
		{"Go runtime, umount", "DELETE /api/v1/mount?mountpoint=/rafs/a+b_c,d-e.f/lowerdir HTTP/1.1\r\nHost: unix\r\nContent-Type: application/json\r\n\r\n", 204, ""},
		{"runtime-rs, readiness", "GET /api/v1/daemon HTTP/1.1\r\nhost: localhost\r\n\r\n", 200, `{"version":{"package_ver":"`},
		{"runtime-rs, mount", "POST /api/v1/mount?mountpoint=%2Frafs%2Fc1%2Flowerdir HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: " + length + "\r\n\r\n" + body, 204, ""},
		{"runtime-rs, umount", "DELETE /api/v1/mount?mountpoint=%2Frafs%2Fc1%2Flowerdir HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 0\r\n\r\n", 204, ""},
		{"umount again", "DELETE /api/v1/mount?mountpoint=/rafs/c1/lowerdir HTTP/1.1\r\nHost: unix\r\n\r\n", 500, `{"code":"UNDEFINED","message":"`},
		{"absolute address", "GET http://unix/api/v1/daemon HTTP/1.1\r\nHost: unix\r\n\r\n", 200, `{"version":`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := net.Dial("unix", api)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, tt.request); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.status || !strings.HasPrefix(string(got), tt.body) || tt.status == 204 && len(got) != 0 {
				t.Errorf("got %d %q, %v", resp.StatusCode, got, err)
			}
		})
	}
}

func silentConnections(t *testing.T) {
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

func staleSockets(t *testing.T) {
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

// parallelMounts: sixteen containers of a pod at once.
func parallelMounts(t *testing.T) {
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

// socketsInOrder: nobody waits for the vhost-user socket once the API has answered.
func socketsInOrder(t *testing.T) {
	sock, api := sockets(t)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(sock), unix.IN_MOVED_TO|unix.IN_CREATE); err != nil {
		t.Fatal(err)
	}
	virtiofs(t, sock, api).ready()
	buf := make([]byte, 64<<10)
	n, err := events.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	// Names stand in the events in the order in which they came to be.
	s, a := strings.Index(string(buf[:n]), "\x00"+filepath.Base(sock)), strings.Index(string(buf[:n]), "\x00"+filepath.Base(api))
	if s < 0 || a < s {
		t.Errorf("vhost-user socket at %d, control socket at %d of the events", s, a)
	}
}

// runningFromTheFirst does what Kata does: it looks for the control socket, and asks
// once it is there. What it is told first must be RUNNING, and the other socket takes
// a connection then.
func runningFromTheFirst(t *testing.T) {
	for range 5 {
		sock, api := sockets(t)
		begin := time.Now()
		p := virtiofs(t, sock, api)
		p.waitSocket()
		if got := p.state(); got != "RUNNING" {
			t.Errorf("first answer %s", got)
		}
		t.Logf("RUNNING after %v", time.Since(begin).Round(100*time.Microsecond))
		c, err := net.Dial("unix", sock)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		p.end()
	}
}

// refusals carry code and message, and name what is wrong.
func refusals(t *testing.T) {
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	im := oneFile(t, "text")
	p.must(204, "POST", "/api/v1/mount?mountpoint=/used", im.mountBody(""))
	for _, tt := range []struct{ name, method, place, body, want string }{
		{"used place", "POST", "/used", im.mountBody(""), "already exists"},
		{"unknown place", "DELETE", "/none", "", "doesn't exist"},
		{"no bootstrap", "POST", "/n", im.mountCmd(im.v1(nil), map[string]any{"source": "/none/image.boot"}), "/none/image.boot"},
		{"other type", "POST", "/n", `{"fs_type":"ext4","source":"/","config":""}`, "ext4"},
	} {
		status, body := p.ask(tt.method, "/api/v1/mount?mountpoint="+tt.place, tt.body)
		if text := errorText(t, body); status < 400 || !strings.Contains(text, tt.want) {
			t.Errorf("%s: %d %s, want %q in it", tt.name, status, text, tt.want)
		}
	}
	if s := p.must(200, "GET", "/api/v1/daemon", ""); !strings.Contains(s, `"/used"`) || strings.Contains(s, `"/n"`) {
		t.Errorf("got %s", s)
	}
}

func largeConfiguration(t *testing.T) {
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	im := oneFile(t, "text")
	config := im.v1(map[string]any{"padding": strings.Repeat("x", 128<<10)})
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(config))
}
