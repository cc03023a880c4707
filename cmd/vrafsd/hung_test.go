package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/vhostuser/vhostusertest"
)

// hungDir is a directory of a FUSE mount whose server never answers: whoever
// opens something in it waits until the test ends.
func hungDir(t *testing.T) string {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.FUSE)
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := unix.Mount("hung", dir, "fuse", unix.MS_NODEV|unix.MS_NOSUID, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", dev.Fd())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		dev.Close() // ends the connection, and every wait
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	})
	return filepath.Join(dir, "d")
}

// endsInTime sends SIGTERM.
func (p *process) endsInTime() {
	p.t.Helper()
	begin := time.Now()
	p.signal(syscall.SIGTERM)
	if err := p.wait(); err != nil {
		p.t.Error(err)
	}
	if took := time.Since(begin); took > time.Second {
		p.t.Errorf("took %v to end", took)
	}
	for _, s := range []string{p.sock, p.api, p.sock + ".state"} {
		if _, err := os.Stat(s); err == nil {
			p.t.Errorf("%s is left", s)
		}
	}
}

func TestHungBootstrapBlocksOnlyItsMount(t *testing.T) {
	dir := hungDir(t)
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	im := oneFile(t, "text")
	asked := make(chan struct{})
	go func() {
		close(asked)
		// Answered by nobody, or by a connection that ends.
		resp, err := p.http.Post("http://unix/api/v1/mount?mountpoint=/hung", "application/json",
			strings.NewReader(im.mountCmd(im.v1(nil), map[string]any{"source": dir + "/boot"})))
		if err == nil {
			resp.Body.Close()
		}
	}()
	<-asked
	p.must(204, "POST", "/api/v1/mount?mountpoint=/good", im.mountBody(""))
	g := boot(t, sock, vhostusertest.GuestConfig{})
	if e, err := walk(g.clients[0], "/good/f"); err != nil || e.Attr.Size != 4 {
		t.Errorf("got %+v, %v", e, err)
	}
	p.endsInTime()
}

func TestHungStartEndsAtASignal(t *testing.T) {
	dir := hungDir(t)
	sock, api := sockets(t)
	p := virtiofs(t, sock, api, "--bootstrap", dir+"/boot", "--localfs-dir", t.TempDir())
	p.waitLog("Set rlimit-nofile")
	p.endsInTime()
}

func TestHungBackEndBlocksOnlyItsReads(t *testing.T) {
	dir := hungDir(t)
	sock, api := sockets(t)
	p := virtiofs(t, sock, api, "--request-timeout", "1").ready()
	im := oneFile(t, "text")
	hung := oneFile(t, "text")
	hung.BlobDir = dir
	p.must(204, "POST", "/api/v1/mount?mountpoint=/good", im.mountBody(""))
	p.must(204, "POST", "/api/v1/mount?mountpoint=/hung", hung.mountBody(""))
	g := boot(t, sock, vhostusertest.GuestConfig{Rings: 3})
	e, err := walk(g.clients[0], "/hung/f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.clients[0].Send(&vhostusertest.Request{Op: 15, Node: e.Node, Args: vhostusertest.ReadArgs(0, 0, 4096), Room: 4096}); err != nil {
		t.Fatal(err)
	}
	if err := g.Ring(1).Kick(); err != nil {
		t.Fatal(err)
	}
	if e, err = walk(g.clients[1], "/good/f"); err != nil {
		t.Fatal(err)
	}
	if data, err := g.clients[1].Read(e.Node, 0, 0, 4096); err != nil || string(data) != "text" {
		t.Errorf("got %q, %v", data, err)
	}
	if r, err := g.clients[0].Recv(); err != nil || r.Errno != syscall.EIO {
		t.Errorf("the read of the hung image: %+v, %v", r, err)
	}
	p.eventually("vrafs_pending_requests 0", "/metrics")
	// The image of a hung back end can be taken away all the same.
	p.must(204, "DELETE", "/api/v1/mount?mountpoint=/hung", "")
	p.endsInTime()
}

// eventually asks until the answer contains text.
func (p *process) eventually(text, target string) {
	p.t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		_, body := p.ask("GET", target, "")
		if strings.Contains(body, text) {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			p.t.Fatalf("%s never says %q: %s", target, text, body)
		}
	}
}

// hungRead reads a file whose blob can't be had, in the background. The mount has
// been made.
func (h *host) hungRead(t *testing.T, p *process) (ended chan error) {
	t.Helper()
	im := oneFile(t, "text")
	im.BlobDir = hungDir(t)
	p.must(204, "POST", "/api/v1/mount?mountpoint=/hung", im.mountBody(""))
	ended = make(chan error, 1)
	go func() {
		_, err := os.ReadFile(filepath.Join(h.dir, "hung", "f"))
		ended <- err
	}()
	return ended
}

// hangs waits until a read other than the one before is listed, and gives its number.
func (p *process) hangs(t *testing.T, before uint64) (unique uint64) {
	t.Helper()
	eventually(t, "a read that waits", func() bool {
		status, body := p.ask("GET", "/api/v1/metrics/inflight", "")
		if status == 204 {
			return false
		}
		var list []struct {
			Opcode int
			Unique uint64
		}
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatal(body, err)
		}
		for _, r := range list {
			if r.Opcode == 15 && r.Unique != before {
				unique = r.Unique
				return true
			}
		}
		return false
	})
	return unique
}

func TestHungReadIsListedAndAborted(t *testing.T) {
	h := newHost(t)
	p := h.fuse(t, h.api).ready()
	for _, by := range []string{"unique", "age"} {
		ended := h.hungRead(t, p)
		unique := p.hangs(t, 0)
		p.must(404, "DELETE", fmt.Sprint("/api/v1/metrics/inflight?unique=", unique+2), "")
		if got := p.must(200, "DELETE", "/api/v1/metrics/inflight?older_than=3600", ""); got != `{"aborted":0}` {
			t.Error("none is that old:", got)
		}
		query := fmt.Sprint("unique=", unique)
		if by == "age" {
			query = "older_than=0"
		}
		if got := p.must(200, "DELETE", "/api/v1/metrics/inflight?"+query, ""); got != `{"aborted":1}` {
			t.Error(by, got)
		}
		// What its read-ahead could not bring the kernel asks for once more.
		p.hangs(t, unique)
		p.must(200, "DELETE", "/api/v1/metrics/inflight?older_than=0", "")
		select {
		case err := <-ended:
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("by %s: %v, want EIO", by, err)
			}
		case <-time.After(patience):
			t.Fatal("the read hangs on")
		}
		p.must(204, "DELETE", "/api/v1/mount?mountpoint=/hung", "")
	}
	p.must(204, "GET", "/api/v1/metrics/inflight", "")
}

func TestHungReadHasADeadline(t *testing.T) {
	h := newHost(t)
	p := h.fuse(t, h.api, "--request-timeout", "1").ready()
	select {
	case err := <-h.hungRead(t, p):
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("%v, want EIO", err)
		}
	case <-time.After(patience):
		t.Fatal("the read hangs on")
	}
}
