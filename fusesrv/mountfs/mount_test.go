package mountfs_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/mountfs"
)

func TestPseudoDirectoriesComeAndGoWithMounts(t *testing.T) {
	c := newConn(t, mountfs.Options{})
	if got := c.names(t, fusesrv.RootID, 4096); len(got) != 0 {
		t.Errorf("empty tree lists %q", got)
	}
	c.mount(t, "/containers", "shared")
	c.mount(t, "/rafs/one/lowerdir", "one")
	c.mount(t, "/rafs/two/lowerdir/", "two")
	if got, want := c.names(t, fusesrv.RootID, 4096), []string{"containers", "rafs"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	rafs := c.lookup(t, "rafs")
	if rafs.NodeID>>40 != 1 || rafs.EntryValid != 0 || rafs.AttrValid < 1<<32 || rafs.Attr.Nlink != 1 || rafs.Attr.Mode != syscall.S_IFDIR|0o777 || rafs.Attr.UID != 0 {
		t.Errorf("got %+v for a pseudo directory", rafs)
	}
	if got := c.names(t, rafs.NodeID, 200); !slices.Equal(got, []string{"one", "two"}) { // an entry at a time
		t.Errorf("got %q, want one and two", got)
	}
	root := c.lookup(t, "rafs", "one", "lowerdir")
	if root.EntryValid != 0 || root.AttrValid != 1000 || root.Attr.Mode != syscall.S_IFDIR|0o755 || root.Attr.Ino != root.NodeID {
		t.Errorf("got %+v for a mount's root", root)
	}
	if f := c.lookup(t, "rafs", "one", "lowerdir", "f"); f.NodeID>>40 != root.NodeID>>40 || f.EntryValid != 1000 {
		t.Errorf("got %+v below root %#x", f, root.NodeID)
	}
	if err := c.Unmount("/rafs/two/lowerdir"); err != nil {
		t.Fatal(err)
	}
	if got := c.names(t, rafs.NodeID, 4096); !slices.Equal(got, []string{"one"}) {
		t.Errorf("got %q, want one", got)
	}
	if err := c.Unmount("/rafs/one/lowerdir"); err != nil {
		t.Fatal(err)
	}
	if e := c.lookup(t, "rafs"); e.NodeID != 0 {
		t.Errorf("/rafs is still there: %+v", e)
	}
	if _, err := fusesrvtest.Getattr(c.d, rafs.NodeID); err != syscall.ESTALE {
		t.Errorf("its old node: got %v, want ESTALE", err)
	}
}

func TestMountRefusesWhatCannotBe(t *testing.T) {
	c := newConn(t, mountfs.Options{ImagesOnly: true})
	c.mount(t, "/a", "a")
	tests := []struct {
		at   string
		o    mountfs.MountOptions
		want error
	}{
		{"", mountfs.MountOptions{}, mountfs.ErrPath},
		{"relative", mountfs.MountOptions{}, mountfs.ErrPath},
		{"/a/../b", mountfs.MountOptions{}, mountfs.ErrPath},
		{"/zero\x00", mountfs.MountOptions{}, mountfs.ErrPath},
		{"//a//", mountfs.MountOptions{}, mountfs.ErrMounted},
		{"/b", mountfs.MountOptions{Handles: true}, mountfs.ErrUnfit},
	}
	for _, tt := range tests {
		if _, err := c.Mount(tt.at, &flat{}, tt.o); !errors.Is(err, tt.want) {
			t.Errorf("%q: got %v, want %v", tt.at, err, tt.want)
		}
	}
	if err := c.Unmount("/b"); !errors.Is(err, mountfs.ErrNotMounted) {
		t.Errorf("got %v, want ErrNotMounted", err)
	}
}

func TestRootMountIsNodeOneAndOthersHangInIt(t *testing.T) {
	c := newConn(t, mountfs.Options{})
	c.mount(t, "/sub/deep", "deep")
	m := c.mount(t, "/", "root")
	if m.Number != 0 {
		t.Errorf("got number %d for the first file system at /, want 0", m.Number)
	}
	f := c.lookup(t, "f")
	if f.NodeID != 2 || f.Attr.Ino != 2 {
		t.Errorf("got node %#x, inode %#x, want those of the file system", f.NodeID, f.Attr.Ino)
	}
	if got := c.names(t, fusesrv.RootID, 250); !slices.Equal(got, []string{"f", "sub"}) {
		t.Errorf("got %q, want f and sub", got)
	}
	if e := c.lookup(t, "sub", "deep", "f"); e.NodeID == 0 || e.NodeID == f.NodeID {
		t.Errorf("got node %#x below a nested mountpoint", e.NodeID)
	}
	if e := c.lookup(t, "later"); e.NodeID != 0 {
		t.Errorf("found %+v", e)
	}
	c.mount(t, "/f", "cover")
	if e := c.lookup(t, "f"); e.Attr.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		t.Errorf("a mountpoint does not cover a file: %+v", e)
	}
	if got := c.names(t, fusesrv.RootID, 4096); !slices.Equal(got, []string{"sub", "f"}) {
		t.Errorf("got %q, want each name once", got)
	}
	if err := c.Unmount("/"); err != nil {
		t.Fatal(err)
	}
	if got := c.names(t, fusesrv.RootID, 4096); !slices.Equal(got, []string{"sub", "f"}) {
		t.Errorf("got %q after unmounting /", got)
	}
	if m := c.mount(t, "/", "again"); m.Number == 0 {
		t.Error("number 0 was given out twice")
	}
	if _, err := fusesrvtest.Getattr(c.d, f.NodeID); err != syscall.ESTALE {
		t.Errorf("a node of the first: got %v, want ESTALE", err)
	}
	if e := c.lookup(t, "f"); e.NodeID>>40 < 2 {
		t.Errorf("got node %#x in the second", e.NodeID)
	}
}

// TestRemounts mounts changing content at one place and keeps files of each open.
func TestRemounts(t *testing.T) {
	c := newConn(t, mountfs.Options{})
	type held struct {
		node    uint64
		content string
		closed  *atomic.Bool
	}
	var open []held
	nodes := map[uint64]bool{}
	const rounds, window = 300, 20
	for i := range rounds {
		h := held{content: fmt.Sprintf("content %d", i), closed: new(atomic.Bool)}
		_, err := c.Mount("/rafs/x", &flat{content: h.content, names: []string{"f"}},
			mountfs.MountOptions{Identity: h.content, Closed: func() { h.closed.Store(true) }})
		if err != nil {
			t.Fatal(err)
		}
		h.node = c.lookup(t, "rafs", "x", "f").NodeID
		if nodes[h.node] {
			t.Fatalf("node %#x was given out before", h.node)
		}
		nodes[h.node] = true
		if _, err := fusesrvtest.Open(c.d, fusesrv.OpOpen, h.node, 0); err != nil {
			t.Fatal(err)
		}
		open = append(open, h)
		if err := c.Unmount("/rafs/x"); err != nil {
			t.Fatal(err)
		}
		for _, h := range open {
			if b, err := fusesrvtest.Read(c.d, h.node, 0, 0, 100); err != nil || string(b) != h.content {
				t.Fatalf("round %d: got %q, %v of an open file, want %q", i, b, err, h.content)
			}
			if _, err := fusesrvtest.Open(c.d, fusesrv.OpOpen, h.node, 0); err != syscall.ESTALE {
				t.Fatalf("opened a file of what is not mounted: %v", err)
			}
		}
		if len(open) < window && i < rounds-1 {
			continue
		}
		for _, h := range open {
			if h.closed.Load() {
				t.Fatalf("%s was closed while a file was open", h.content)
			}
			if _, err := c.d.Call(fusesrv.OpRelease, h.node, fusesrvtest.Args(t, fusesrv.ReleaseIn{}), 0); err != nil {
				t.Fatal(err)
			}
			if _, err := fusesrvtest.Getattr(c.d, h.node); err != syscall.ESTALE {
				t.Fatalf("after the last close: got %v, want ESTALE", err)
			}
		}
		c.Wait()
		for _, h := range open {
			if !h.closed.Load() {
				t.Fatalf("%s is not closed", h.content)
			}
		}
		open = nil
	}
}

func TestSurplusReleasesTakeNothingAway(t *testing.T) {
	c := newConn(t, mountfs.Options{})
	c.mount(t, "/x", "x")
	f := c.lookup(t, "x", "f").NodeID
	for range 10 {
		if _, err := c.d.Call(fusesrv.OpRelease, f, fusesrvtest.Args(t, fusesrv.ReleaseIn{}), 0); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := fusesrvtest.Read(c.d, f, 0, 0, 10); err != nil || string(b) != "x" {
		t.Errorf("got %q, %v, want x", b, err)
	}
	if err := c.Unmount("/x"); err != nil {
		t.Fatal(err)
	}
	if _, err := fusesrvtest.Read(c.d, f, 0, 0, 10); err != syscall.ESTALE {
		t.Errorf("after unmount: got %v, want ESTALE", err)
	}
}

func TestSessionEndDropsHandles(t *testing.T) {
	c := newConn(t, mountfs.Options{})
	closed := make(chan struct{})
	if _, err := c.Mount("/x", &flat{content: "x", names: []string{"f"}}, mountfs.MountOptions{Closed: func() { close(closed) }}); err != nil {
		t.Fatal(err)
	}
	if _, err := fusesrvtest.Open(c.d, fusesrv.OpOpen, c.lookup(t, "x", "f").NodeID, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Unmount("/x"); err != nil {
		t.Fatal(err)
	}
	if _, err := fusesrvtest.Init(c.d, 45, fusesrvtest.AllFlags); err != nil {
		t.Fatal(err)
	}
	<-closed
}
