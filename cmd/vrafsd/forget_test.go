package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"vrafs/vhostuser/vhostusertest"
)

// TestForgetNeedsNoRoomForAReply: a guest's driver gives a FORGET none, and the daemon
// lets go of the node all the same.
func TestForgetNeedsNoRoomForAReply(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=/containers", `{"fs_type":"passthrough_fs","source":"`+dir+`","config":""}`)
	c := boot(t, sock, vhostusertest.GuestConfig{}).clients[0]
	e, err := walk(c, "/containers/f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Getattr(e.Node); err != nil {
		t.Fatal(err)
	}
	if err := c.Forget(e.Node, 1); err != nil {
		t.Fatal(err)
	}
	if a, err := c.Getattr(e.Node); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("a node that was forgotten: %+v, %v", a, err)
	}
}
