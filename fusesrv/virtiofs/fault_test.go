package virtiofs_test

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/virtiofs"
	"vrafs/vhostuser/vhostusertest"
	"vrafs/virtqueue"
)

// TestMemoryTruncatedUnderAMissStopsTheRingOnly has a front-end cut a region's
// file while a READ into it waits.
func TestMemoryTruncatedUnderAMissStopsTheRingOnly(t *testing.T) {
	s := newStalled(t, virtiofs.Options{}, vhostusertest.GuestConfig{QueueSize: 512, Slots: true, Rings: 3})
	region, err := vhostusertest.NewRegion(1<<33, 1<<44, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer region.Close()
	s.plug(t, region)
	copy(region.Mem, fusesrvtest.Args(t,
		fusesrv.InHeader{Len: 80, Opcode: fusesrv.OpRead, Unique: 77, NodeID: s.file.Entry.NodeID}, fusesrv.ReadIn{Size: 4096}))
	readable := []virtqueue.Seg{{Addr: region.Spec.GPA, Len: 80}}
	writable := []virtqueue.Seg{{Addr: region.Spec.GPA + 8192, Len: 16 + 4096}}
	if _, ok, err := s.c.Ring.Driver.Add(readable, writable); !ok || err != nil {
		t.Fatalf("add: %v %v", ok, err)
	}
	if err := s.c.Ring.Kick(); err != nil {
		t.Fatal(err)
	}
	<-s.asked
	if err := unix.Ftruncate(region.FD, 0); err != nil {
		t.Fatal(err)
	}
	close(s.release)
	if !vhostusertest.Readable(s.c.Ring.ErrFD(), s.c.Ring.Patience) {
		t.Fatal("the broken ring was not announced")
	}

	// The other queue serves on.
	other := s.client(t, 2, vhostusertest.ClientConfig{})
	want := func(c *vhostusertest.Client) {
		t.Helper()
		b, err := fusesrvtest.Read(c, s.file.Entry.NodeID, 0, 0, 4096)
		if err != nil || !bytes.Equal(b, s.content[:4096]) {
			t.Errorf("got %d bytes, %v, want the file's first 4096", len(b), err)
		}
	}
	want(other)
	// A ring is announced as broken before its requests are dropped.
	for deadline := time.Now().Add(s.c.Ring.Patience); len(s.Server.Inflight(nil)) != 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d requests left in flight", len(s.Server.Inflight(nil)))
		}
	}
}
