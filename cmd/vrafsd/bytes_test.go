package main

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"vrafs/vhostuser/vhostusertest"
)

// TestZeroMessageOpen is decided once per connection: only with a bootstrap on the
// command line, and not in hybrid mode.
func TestZeroMessageOpen(t *testing.T) {
	im := oneFile(t, "text")
	image := []string{"--bootstrap", im.Bootstrap, "--localfs-dir", im.BlobDir}
	for _, tt := range []struct {
		name string
		args []string
		want error
	}{
		{"bootstrap", image, syscall.ENOSYS},
		{"bootstrap, hybrid", append([]string{"--hybrid-mode"}, image...), nil},
		{"empty start", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sock, api := sockets(t)
			p := virtiofs(t, sock, api, tt.args...).ready()
			if tt.args == nil {
				p.must(204, "POST", "/api/v1/mount?mountpoint=/", im.mountBody(""))
			}
			g := boot(t, sock, vhostusertest.GuestConfig{})
			e, err := walk(g.clients[0], "/f")
			if err != nil {
				t.Fatal(err)
			}
			fh, _, err := g.clients[0].Open(e.Node, 0, false)
			if !errors.Is(err, tt.want) {
				t.Errorf("open: %v, want %v", err, tt.want)
			}
			if data, err := g.clients[0].Read(e.Node, fh, 0, 4096); err != nil || string(data) != "text" {
				t.Errorf("read: %q, %v", data, err)
			}
		})
	}
}

// TestDeviceOptions: queues, ring size and tag are what a front-end finds.
func TestDeviceOptions(t *testing.T) {
	sock, api := sockets(t)
	virtiofs(t, sock, api, "--request-queues", "2", "--queue-size", "256", "--tag", "images").ready()
	c, err := vhostusertest.Dial(sock)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	g, err := vhostusertest.NewGuest(vhostusertest.GuestConfig{Rings: 3, QueueSize: 256})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Start(c); err != nil {
		t.Fatal(err)
	}
	config, err := c.Config(0, 44)
	if err != nil || strings.TrimRight(string(config[:36]), "\x00") != "images" || config[36] != 2 {
		t.Errorf("got %q, %v", config, err)
	}
	_ = g.Stop(c)
	big, err := vhostusertest.NewGuest(vhostusertest.GuestConfig{Rings: 3, QueueSize: 512})
	if err != nil {
		t.Fatal(err)
	}
	defer big.Close()
	c2, err := vhostusertest.Dial(sock)
	if err != nil {
		t.Fatal(err)
	}
	defer c2.Close()
	_ = c.Close()
	if err = big.Start(c2); err == nil {
		_, err = c2.GetVringBase(1) // an answer only if the connection still is
	}
	if err == nil {
		t.Error("a ring above --queue-size was accepted")
	}
}
