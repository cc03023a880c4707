package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/testenv"
	"vrafs/vhostuser/vhostusertest"
)

// installed starts a daemon from a file of its own, which an upgrade replaces.
func installed(t *testing.T, more ...string) (p *process, install func(from string)) {
	t.Helper()
	sock, api := sockets(t)
	path := filepath.Join(t.TempDir(), "vrafsd")
	install = func(from string) {
		t.Helper()
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		// As package managers do: a new file takes the name over.
		if err := os.WriteFile(path+".new", text, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	install(binary)
	args := append([]string{"virtiofs", "--log-level", "info", "--apisock", api, "--sock", sock}, more...)
	return start(t, exec.Command(path, args...), sock, api).ready(), install
}

// upgraded waits until the daemon says that it is in its n-th life after the first.
func (p *process) upgraded(n int) {
	p.t.Helper()
	p.http.CloseIdleConnections() // they lead to the former program
	p.waitLog(fmt.Sprintf("upgrades=%d", n))
	p.eventuallyAlive(fmt.Sprintf("vrafs_upgrades_total %d\n", n))
}

// eventuallyAlive is eventually for a moment in which connections break.
func (p *process) eventuallyAlive(text string) {
	p.t.Helper()
	eventually(p.t, text, func() bool {
		resp, err := p.http.Get("http://unix/metrics")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(b), text)
	})
}

// upgrade replaces the program and waits for the new one.
func (p *process) upgrade(n int) {
	p.t.Helper()
	p.must(204, "PUT", "/api/v1/daemon/upgrade", "")
	p.upgraded(n)
}

// TestUpgradeInPlaceLosesNoRequest: a guest reads on while the program is replaced
// again and again; its nodes, its open files and the pid stay what they were.
func TestUpgradeInPlaceLosesNoRequest(t *testing.T) {
	testenv.Long(t)
	for _, tt := range []struct {
		order            vhostusertest.Order
		name             string
		packed, inflight bool
		rounds           int
	}{
		{vhostusertest.QEMU, "split", false, false, 100},
		{vhostusertest.QEMU, "packed", true, false, 30},
		{vhostusertest.CloudHypervisor, "tracked", false, true, 30},
		{vhostusertest.CloudHypervisor, "packed_tracked", true, true, 30},
	} {
		t.Run(tt.order.String()+"/"+tt.name, func(t *testing.T) {
			upgradeUnderLoad(t, testenv.Rounds(tt.rounds), vhostusertest.GuestConfig{
				Order: tt.order, Rings: 3, EventIdx: true, Indirect: true, Packed: tt.packed, Inflight: tt.inflight})
		})
	}
}

func upgradeUnderLoad(t *testing.T, rounds int, cfg vhostusertest.GuestConfig) {
	im := smallImage(t)
	p, install := installed(t)
	const a, b = "/api/v1/mount?mountpoint=/rafs/a/lowerdir", "/api/v1/mount?mountpoint=/rafs/b/lowerdir"
	p.must(204, "POST", a, im.mountBody(""))
	p.must(204, "POST", b, im.mountBody(""))
	g := boot(t, p.sock, cfg)
	p.must(204, "DELETE", a, "")
	files := g.tree(t, "/rafs/b/lowerdir", im.Tree)
	pid := p.cmd.Process.Pid
	l := startLoad(t, g, files)
	defer l.end()
	for i := range rounds {
		l.advance(i % 5)
		install(binary)
		if i%3 == 0 {
			if err := os.RemoveAll(im.cache); err != nil { // reads wait for chunks then
				t.Fatal(err)
			}
		}
		p.upgrade(i + 1)
		l.advance(1)
	}
	select {
	case <-p.done:
		t.Fatal("the process has ended")
	default:
	}
	if p.cmd.Process.Pid != pid {
		t.Error("another process")
	}
	p.must(500, "DELETE", a, "")
	p.must(500, "POST", b, im.mountBody("")) // it is mounted
}

// TestUpgradeKeepsOpenFilesOfImagesThatAreGone.
func TestUpgradeKeepsOpenFilesOfImagesThatAreGone(t *testing.T) {
	im := oneFile(t, "held open")
	p, _ := installed(t)
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
	g := boot(t, p.sock, vhostusertest.GuestConfig{})
	c := g.clients[0]
	e, err := walk(c, "/a/f")
	if err != nil {
		t.Fatal(err)
	}
	fh, _, err := c.Open(e.Node, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	p.must(204, "DELETE", "/api/v1/mount?mountpoint=/a", "")
	p.upgrade(1)
	if data, err := c.Read(e.Node, fh, 0, 4096); err != nil || string(data) != "held open" {
		t.Errorf("got %q, %v", data, err)
	}
	if err := c.Release(e.Node, fh, false); err != nil {
		t.Error(err)
	}
	if a, err := c.Getattr(e.Node); err == nil {
		t.Errorf("a released file of an image that is gone shows %+v", a)
	}
}

// TestUpgradeWithoutAFrontEnd, and before the first.
func TestUpgradeWithoutAFrontEnd(t *testing.T) {
	im := oneFile(t, "text")
	p, install := installed(t)
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
	p.must(204, "PUT", "/api/v1/config?id=/a", `{"proxy_url":"http://p:1"}`)
	p.must(204, "POST", "/api/v1/mount?mountpoint=/shared", shareBody(t.TempDir()))
	for i := range 3 {
		install(binary)
		p.upgrade(i + 1)
		visit(t, p.sock, i)
	}
	if got := p.must(200, "GET", "/api/v1/config?id=/a", ""); got != `{"proxy_url":"http://p:1"}` {
		t.Error(got)
	}
	p.endsInTime()
}

// visit has guest i come to a daemon with an image at /a and a directory at /shared, use both,
// find what the guest before it has made, and leave.
func visit(t *testing.T, sock string, i int) {
	t.Helper()
	g := boot(t, sock, vhostusertest.GuestConfig{})
	if e, err := walk(g.clients[0], "/a/f"); err != nil || e.Attr.Size != 4 {
		t.Errorf("got %+v, %v", e, err)
	}
	e, err := walk(g.clients[0], "/shared")
	if err != nil {
		t.Fatal(err)
	}
	if o, err := fusesrvtest.Create(g.clients[0], e.Node, fmt.Sprint("of guest ", i), unix.O_RDWR, 0o644); err != nil {
		t.Errorf("got %+v, %v", o, err)
	}
	if former, err := fusesrvtest.Lookup(g.clients[0], e.Node, fmt.Sprint("of guest ", max(i-1, 0))); err != nil || former.NodeID == 0 {
		t.Errorf("what a former guest has made: %+v, %v", former, err)
	}
	_ = g.conn.Close()
}

// TestUpgradeWithReadsThatWait: they wait on in the new program, and are answered
// once.
func TestUpgradeWithReadsThatWait(t *testing.T) {
	im, hung := oneFile(t, "text"), oneFile(t, "never comes")
	hung.BlobDir = hungDir(t)
	p, _ := installed(t, "--request-timeout", "5")
	p.must(204, "POST", "/api/v1/mount?mountpoint=/good", im.mountBody(""))
	p.must(204, "POST", "/api/v1/mount?mountpoint=/hung", hung.mountBody(""))
	g := boot(t, p.sock, vhostusertest.GuestConfig{Rings: 3})
	e, err := walk(g.clients[0], "/hung/f")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		g.sendReadOf(t, 0, e.Node)
	}
	p.eventuallyAlive("vrafs_pending_requests 3\n")
	begin := time.Now()
	p.upgrade(1)
	p.eventuallyAlive("vrafs_pending_requests 3\n")
	if f, err := walk(g.clients[1], "/good/f"); err != nil || f.Attr.Size != 4 {
		t.Errorf("got %+v, %v", f, err)
	}
	for range 3 {
		if r, err := g.clients[0].Recv(); err != nil || r.Errno == 0 {
			t.Errorf("a read of the hung image: %+v, %v", r, err)
		}
	}
	t.Logf("answered after %v", time.Since(begin))
	p.endsInTime()
}

// TestRefusedUpgradeChangesNothing: a program that does not take the state never gets
// it, and the reason is told.
func TestRefusedUpgradeChangesNothing(t *testing.T) {
	im := smallImage(t)
	p, install := installed(t)
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
	g := boot(t, p.sock, vhostusertest.GuestConfig{Rings: 3})
	l := startLoad(t, g, g.tree(t, "/a", im.Tree))
	defer l.end()
	script := func(text string) string {
		path := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct{ name, program, want string }{
		{"refuses", script("#!/bin/sh\necho 'Error: state: version 9 is not known' >&2\nexit 1\n"), "version 9 is not known"},
		{"is no program", script("\x7fELF no"), "exec format error"},
		{"is an older one", script("#!/bin/sh\necho \"error: unexpected argument '--check-state'\" >&2\nexit 2\n"), "unexpected argument"},
	} {
		install(tt.program)
		status, body := p.ask("PUT", "/api/v1/daemon/upgrade", "")
		if text := errorText(t, body); status != 500 || !strings.Contains(text, tt.want) {
			t.Errorf("%s: %d %s, want %q", tt.name, status, text, tt.want)
		}
		l.advance(3)
	}
	// One image can't be opened any more: the guest would lose it.
	install(binary)
	if err := os.Rename(im.Bootstrap, im.Bootstrap+".away"); err != nil {
		t.Fatal(err)
	}
	status, body := p.ask("PUT", "/api/v1/daemon/upgrade", "")
	if text := errorText(t, body); status != 500 || !strings.Contains(text, im.Bootstrap) {
		t.Errorf("%d %s, want the bootstrap's name", status, text)
	}
	l.advance(3)
	if err := os.Rename(im.Bootstrap+".away", im.Bootstrap); err != nil {
		t.Fatal(err)
	}
	p.upgrade(1)
	l.advance(3)
}
