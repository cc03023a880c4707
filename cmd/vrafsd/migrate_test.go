package main

import (
	"bytes"
	"errors"
	"testing"

	"vrafs/vhostuser/vhostusertest"
)

// TestGuestMovesToAnotherDaemon: nodes stay what they were, no INIT is sent, and
// the new daemon survives a kill like the old one.
func TestGuestMovesToAnotherDaemon(t *testing.T) {
	im := smallImage(t)
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=/gone", im.mountBody(""))
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
	p.must(204, "DELETE", "/api/v1/mount?mountpoint=/gone", "")
	g := boot(t, sock, vhostusertest.GuestConfig{Order: vhostusertest.CloudHypervisor, Inflight: true})
	files := g.tree(t, "/a", im.Tree)
	if err := g.Stop(g.conn); err != nil {
		t.Fatal(err)
	}
	state, err := g.conn.SaveState()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(state, []byte(im.BlobDir)) {
		t.Error("the front-end sees configurations")
	}
	_ = g.conn.Close()
	p.endsInTime()

	sock, api = sockets(t)
	p = virtiofs(t, sock, api).ready()
	g.connect(t, sock)
	if err := g.Realize(g.conn); err != nil {
		t.Fatal(err)
	}
	// A front-end can't make the daemon open files.
	if err := g.conn.LoadState(state); !errors.Is(err, vhostusertest.ErrRefused) {
		t.Fatalf("got %v, want a refusal: nothing is mounted here", err)
	}
	p.must(204, "POST", "/api/v1/mount?mountpoint=/b", im.mountBody(""))
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
	if err := g.conn.LoadState(state); err != nil {
		t.Fatal(err)
	}
	if err := g.Activate(g.conn); err != nil {
		t.Fatal(err)
	}
	read := func() {
		t.Helper()
		for _, f := range files[:min(100, len(files))] {
			if err := readAll(g.clients[0], f); err != nil {
				t.Fatal(err)
			}
		}
	}
	read()
	p.must(500, "POST", "/api/v1/mount?mountpoint=/gone", `{"source":"/none","fs_type":"rafs","config":"{}"}`)
	p.kill()
	_ = g.conn.Close()
	p = virtiofs(t, sock, api).ready()
	g.connect(t, sock)
	if err := g.Reconnect(g.conn); err != nil {
		t.Fatal(err)
	}
	read()
	p.must(204, "DELETE", "/api/v1/mount?mountpoint=/a", "")
}
