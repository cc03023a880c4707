package kata_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vrafs/fusesrv"
	"vrafs/internal/testimage"
	"vrafs/kata"
	"vrafs/rafs"
	"vrafs/test/vm"
	"vrafs/vhostuser/vhostusertest"
)

// A machine stands for Cloud Hypervisor: it takes the requests of its API as they were
// recorded, and speaks with a device's back-end in its message order.
type machine struct {
	t      *testing.T
	mu     sync.Mutex
	guests map[string]*vhostusertest.Guest
	conns  map[string]*vhostusertest.Conn
	asked  []string // requests, with their bodies
}

func newMachine(t *testing.T) (m *machine, api string) {
	t.Helper()
	m = &machine{t: t, guests: map[string]*vhostusertest.Guest{}, conns: map[string]*vhostusertest.Conn{}}
	dir, err := os.MkdirTemp("", "clh") // t.TempDir's names are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	api = filepath.Join(dir, "api.sock")
	ln, err := net.Listen("unix", api)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: m}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
		for id := range m.guests {
			m.unplug(id)
		}
		_ = os.RemoveAll(dir)
	})
	return m, api
}

func (m *machine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	m.asked = append(m.asked, r.Method+" "+r.URL.Path+" "+string(body))
	var arg struct{ ID, Socket string }
	err := json.Unmarshal(body, &arg)
	if err == nil {
		switch r.URL.Path {
		case "/api/v1/vm.add-fs":
			if err = m.plug(arg.ID, arg.Socket); err == nil {
				_, _ = fmt.Fprintf(w, `{"id":%q,"bdf":"0001:00:01.0"}`, arg.ID)
				return
			}
		case "/api/v1/vm.remove-device":
			if m.unplug(arg.ID) {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			err = fmt.Errorf("UnknownDeviceId(%q)", arg.ID)
		}
	}
	w.WriteHeader(http.StatusInternalServerError)
	_, _ = fmt.Fprintf(w, `["Error from API","The device could not be changed","%v"]`, err)
}

// plug makes the device, whose driver the guest starts at once.
func (m *machine) plug(id, socket string) error {
	if m.guests[id] != nil {
		return fmt.Errorf("IdentifierNotUnique(%q)", id)
	}
	c, err := vhostusertest.Dial(socket)
	if err != nil {
		return err
	}
	g, err := vhostusertest.NewGuest(vhostusertest.GuestConfig{Order: vhostusertest.CloudHypervisor, QueueSize: 1024, Inflight: true, Slots: true, EventIdx: true, Indirect: true})
	if err == nil {
		err = g.Start(c)
	}
	if err != nil {
		_ = c.Close()
		return err
	}
	m.guests[id], m.conns[id] = g, c
	return nil
}

// unplug has the guest's driver let go of the device.
func (m *machine) unplug(id string) bool {
	g, c := m.guests[id], m.conns[id]
	if g == nil {
		return false
	}
	if err := g.Stop(c); err != nil {
		m.t.Errorf("stop of %s: %v", id, err)
	}
	_ = c.Close()
	g.Close()
	delete(m.guests, id)
	delete(m.conns, id)
	return true
}

// read has the guest read a file of an image that is mounted in a device.
func (m *machine) read(id, place, name string) (string, error) {
	c, err := vhostusertest.NewClient(m.guests[id].Ring(1), vhostusertest.ClientConfig{Depth: 4, MaxRoom: 64 << 10})
	if err != nil {
		return "", err
	}
	if _, err := c.Init(vhostusertest.Init{Major: 7, Minor: 38, Flags: uint64(fusesrv.DefaultFlags)}); err != nil {
		return "", err
	}
	dir, err := c.Lookup(fusesrv.RootID, place)
	if err != nil {
		return "", err
	}
	f, err := c.Lookup(dir.Node, name)
	if err != nil {
		return "", err
	}
	data, err := c.Read(f.Node, 0, 0, 4096)
	return string(data), err
}

// TestCloudHypervisorAttachesARealDaemon, detaches it, and attaches it again.
func TestCloudHypervisorAttachesARealDaemon(t *testing.T) {
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "f"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	im := testimage.Make(t, testimage.Options{Version: rafs.V6, Source: source})
	program := filepath.Join(t.TempDir(), "vrafsd")
	if err := vm.BuildDaemon(t.Context(), program); err != nil {
		t.Fatal(err)
	}
	d, err := vm.StartDaemon(context.Background(), vm.DaemonOptions{Program: program})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := d.Mount(t.Context(), "/image", im.Bootstrap, im.BlobDir); err != nil {
		t.Fatal(err)
	}
	m, api := newMachine(t)
	h := kata.CloudHypervisor{API: api, Segment: 1}
	for range 2 {
		if err := h.AttachFS(t.Context(), kata.Device{ID: "fs0", Tag: kata.Tag, Socket: d.Socket}); err != nil {
			t.Fatal(err)
		}
		if got, err := m.read("fs0", "image", "f"); err != nil || got != "hello" {
			t.Errorf("got %q, %v", got, err)
		}
		if err := h.AttachFS(t.Context(), kata.Device{ID: "fs0", Tag: kata.Tag, Socket: d.Socket}); err == nil || !strings.Contains(err.Error(), "IdentifierNotUnique") {
			t.Errorf("attached twice: %v", err)
		}
		if err := h.DetachFS(t.Context(), "fs0"); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.DetachFS(t.Context(), "fs0"); err == nil || !strings.Contains(err.Error(), "UnknownDeviceId") {
		t.Errorf("detached twice: %v", err)
	}
	want := `PUT /api/v1/vm.add-fs {"id":"fs0","tag":"kataShared","socket":"` + d.Socket + `","num_queues":1,"queue_size":1024,"pci_segment":1}`
	if m.asked[0] != want {
		t.Errorf("got  %s\nwant %s", m.asked[0], want)
	}
	if last, want := m.asked[len(m.asked)-1], `PUT /api/v1/vm.remove-device {"id":"fs0"}`; last != want {
		t.Errorf("got  %s\nwant %s", last, want)
	}
}
