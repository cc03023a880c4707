package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/apiclient"
)

// A process is a running vrafsd. Its log is read line by line.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	sock string // vhost-user
	api  string // control
	http *http.Client

	mu    sync.Mutex
	lines []string
	grown chan struct{} // closed and replaced with each line
	eof   chan struct{} // the log has ended
	err   error         // of the process, after exited
	done  chan struct{} // exited
}

// patience bounds every wait for something that must happen.
const patience = 30 * time.Second

// sockets returns two socket paths in a directory of the test's.
func sockets(t testing.TB) (sock, api string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "v") // t.TempDir's names are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "vhost-fs.sock"), filepath.Join(dir, "nydusd-api.sock")
}

// virtiofs starts a daemon with Kata's arguments and more.
func virtiofs(t testing.TB, sock, api string, more ...string) *process {
	t.Helper()
	return start(t, exec.Command(binary, append([]string{"virtiofs", "--log-level", "info", "--apisock", api, "--sock", sock}, more...)...), sock, api)
}

// start runs a command; the process ends with the test.
func start(t testing.TB, cmd *exec.Cmd, sock, api string) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, sock: sock, api: api, grown: make(chan struct{}), eof: make(chan struct{}), done: make(chan struct{})}
	r, w, err := os.Pipe() // one pipe for both, as Kata has it
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go p.read(r)
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	p.http = clientOf(api)
	t.Cleanup(func() {
		p.http.CloseIdleConnections()
		if i := slices.Index(cmd.Args, "--mountpoint"); i >= 0 {
			_ = unix.Unmount(cmd.Args[i+1], unix.MNT_DETACH) // a keeper would start it again
		}
		p.kill()
		<-p.eof
		if t.Failed() {
			t.Logf("log of %v:\n%s", cmd.Args, p.log())
		}
	})
	return p
}

func (p *process) read(r io.ReadCloser) {
	defer r.Close()
	defer close(p.eof)
	in := bufio.NewScanner(r) // gives up above 64 KiB, as Kata's reader does
	for in.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, in.Text())
		close(p.grown)
		p.grown = make(chan struct{})
		p.mu.Unlock()
	}
	if err := in.Err(); err != nil {
		p.t.Errorf("log: %v", err)
	}
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// waitLog returns the first line that contains text.
func (p *process) waitLog(text string) string {
	p.t.Helper()
	limit := time.After(patience)
	for {
		p.mu.Lock()
		grown := p.grown
		for _, l := range p.lines {
			if strings.Contains(l, text) {
				p.mu.Unlock()
				return l
			}
		}
		p.mu.Unlock()
		select {
		case <-grown:
		case <-p.eof:
			p.t.Fatalf("log ended without %q:\n%s", text, p.log())
		case <-limit:
			p.t.Fatalf("no %q in the log:\n%s", text, p.log())
		}
	}
}

// ready waits until the control API answers.
func (p *process) ready() *process {
	p.t.Helper()
	p.waitLog("http server started")
	return p
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// kill ends the process at once and waits for that.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// wait returns how the process ended.
func (p *process) wait() error {
	p.t.Helper()
	select {
	case <-p.done:
		return p.err
	case <-time.After(patience):
		p.t.Fatalf("the daemon does not end:\n%s", p.log())
		return nil
	}
}

// end stops the daemon in order, over the API, and returns its whole log.
func (p *process) end() string {
	p.t.Helper()
	p.must(204, "PUT", "/api/v1/daemon/exit", "")
	if err := p.wait(); err != nil {
		p.t.Error(err)
	}
	<-p.eof
	return p.log()
}

// ask sends a request to the control API. A daemon that gives no answer dies with
// the stacks of all its goroutines.
func (p *process) ask(method, target, body string) (status int, answer string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, "http://unix"+target, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.http.Do(req)
	if err != nil {
		if os.IsTimeout(err) {
			p.signal(syscall.SIGQUIT) // its log then shows what it waits for
			_ = p.wait()
		}
		p.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// must sends a request that has to end in the given status.
func (p *process) must(want int, method, target, body string) string {
	p.t.Helper()
	status, answer := p.ask(method, target, body)
	if status != want {
		p.t.Fatalf("%s %s: %d %s, want %d", method, target, status, answer, want)
	}
	return answer
}

// clientOf speaks HTTP to the socket at path.
func clientOf(path string) *http.Client {
	c := apiclient.HTTP(path)
	c.Timeout = patience
	return c
}

// waitSocket waits until the control API answers, without reading the log.
func (p *process) waitSocket() {
	p.t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := p.http.Get("http://unix/api/v1/daemon"); err == nil {
			resp.Body.Close()
			return
		}
		select {
		case <-tick.C:
		case <-p.done:
			p.t.Fatalf("the daemon ended: %v", p.err)
		case <-limit:
			p.t.Fatal("no answer on the control socket")
		}
	}
}
