package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/internal/testenv"
	"vrafs/vhostuser"
	"vrafs/vhostuser/vhostusertest"
)

// sendRead has the guest ask for the beginning of a file, and waits for no answer.
func (g *guest) sendRead(t *testing.T, client int, path string) {
	t.Helper()
	e, err := walk(g.clients[client], path)
	if err != nil {
		t.Fatal(err)
	}
	g.sendReadOf(t, client, e.Node)
}

func (g *guest) sendReadOf(t *testing.T, client int, node uint64) {
	t.Helper()
	c := g.clients[client]
	if _, err := c.Send(&vhostusertest.Request{Op: uint32(fusesrv.OpRead), Node: node, Args: vhostusertest.ReadArgs(0, 0, 4096), Room: 4096}); err != nil {
		t.Fatal(err)
	}
	if err := c.Ring.Kick(); err != nil {
		t.Fatal(err)
	}
}

// mountsUnderReaders: the first container's image is read while others come and go.
func mountsUnderReaders(t *testing.T) {
	im, other := smallImage(t), oneFile(t, "other")
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=/rafs/c1/lowerdir", im.mountBody(""))
	g := boot(t, sock, vhostusertest.GuestConfig{Rings: 3})
	files := g.tree(t, "/rafs/c1/lowerdir", im.Tree)
	looker := g.clients[1]
	g.clients = g.clients[:1]
	l := startLoad(t, g, files)
	for range 20 {
		p.must(204, "POST", "/api/v1/mount?mountpoint=/rafs/c2/lowerdir", other.mountBody(""))
		e, err := walk(looker, "/rafs/c2/lowerdir/f") // 204 says that the tree is there
		if err != nil {
			t.Fatal(err)
		}
		if data, err := looker.Read(e.Node, 0, 0, 4096); err != nil || string(data) != "other" {
			t.Errorf("got %q, %v", data, err)
		}
		l.advance(2)
		p.must(204, "DELETE", "/api/v1/mount?mountpoint=/rafs/c2/lowerdir", "")
		p.must(500, "DELETE", "/api/v1/mount?mountpoint=/rafs/c2/lowerdir", "")
	}
	l.end()
}

// deleteOfBusy: an open file is served until it is released, and a read that waits
// for a back end ends.
func deleteOfBusy(t *testing.T) {
	im, hung := oneFile(t, "still here"), oneFile(t, "never comes")
	hung.BlobDir = hungDir(t)
	sock, api := sockets(t)
	p := virtiofs(t, sock, api, "--request-timeout", "2").ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=/rafs/a/lowerdir", im.mountBody(""))
	p.must(204, "POST", "/api/v1/mount?mountpoint=/rafs/b/lowerdir", hung.mountBody(""))
	g := boot(t, sock, vhostusertest.GuestConfig{Rings: 3})
	c := g.clients[0]
	e, err := walk(c, "/rafs/a/lowerdir/f")
	if err != nil {
		t.Fatal(err)
	}
	fh, _, err := c.Open(e.Node, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	g.sendRead(t, 1, "/rafs/b/lowerdir/f")
	p.eventually("vrafs_pending_requests 1", "/metrics")
	for _, place := range []string{"/rafs/a/lowerdir", "/rafs/b/lowerdir"} {
		p.must(204, "DELETE", "/api/v1/mount?mountpoint="+place, "")
		p.must(500, "DELETE", "/api/v1/mount?mountpoint="+place, "")
		if _, err := walk(c, place+"/f"); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("%s is still found: %v", place, err)
		}
	}
	if data, err := c.Read(e.Node, fh, 0, 4096); err != nil || string(data) != "still here" {
		t.Errorf("the open file gives %q, %v", data, err)
	}
	if err := c.Release(e.Node, fh, false); err != nil {
		t.Error(err)
	}
	if _, err := c.Getattr(e.Node); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("a released file of an image that is gone: %v", err)
	}
	if r, err := g.clients[1].Recv(); err != nil || r.Errno == 0 {
		t.Errorf("the read that waited: %+v, %v", r, err)
	}
}

// pseudoDirectories exist for what is mounted below them.
func pseudoDirectories(t *testing.T) {
	im := oneFile(t, "text")
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	g := boot(t, sock, vhostusertest.GuestConfig{})
	c := g.clients[0]
	names := func(path string) (list []string) {
		e, err := walk(c, path)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := c.ReadDirPlus(e.Node, 0, 0, 64<<10)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range entries {
			if d.Name != "." && d.Name != ".." {
				list = append(list, d.Name)
			}
		}
		return list
	}
	p.must(204, "POST", "/api/v1/mount?mountpoint=/rafs/c1/lowerdir", im.mountBody(""))
	p.must(204, "POST", "/api/v1/mount?mountpoint=/rafs/c2/lowerdir", im.mountBody(""))
	if got := names("/"); len(got) != 1 || got[0] != "rafs" {
		t.Errorf("/ holds %q", got)
	}
	if got := names("/rafs"); len(got) != 2 {
		t.Errorf("/rafs holds %q", got)
	}
	top, err := walk(c, "/rafs/c1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(&vhostusertest.Request{Op: uint32(fusesrv.OpMkdir), Node: top.Node, Args: append(make([]byte, 8), "x\x00"...), Room: 128}); err == nil {
		t.Error("a directory was made among the pseudo directories")
	}
	p.must(204, "DELETE", "/api/v1/mount?mountpoint=/rafs/c1/lowerdir", "")
	if got := names("/rafs"); len(got) != 1 || got[0] != "c2" {
		t.Errorf("/rafs holds %q", got)
	}
	p.must(204, "DELETE", "/api/v1/mount?mountpoint=/rafs/c2/lowerdir", "")
	if got := names("/"); len(got) != 0 {
		t.Errorf("/ holds %q", got)
	}
}

// timeouts: a guest asks again for names above and of mounts, so that those that are
// gone disappear, and never again for those in an image.
func timeouts(t *testing.T) {
	im := oneFile(t, "text")
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=/rafs/c1/lowerdir", im.mountBody(""))
	c := boot(t, sock, vhostusertest.GuestConfig{}).clients[0]
	for _, tt := range []struct {
		path    string
		forEver bool
	}{{"/rafs", false}, {"/rafs/c1", false}, {"/rafs/c1/lowerdir", false}, {"/rafs/c1/lowerdir/f", true}} {
		e, err := walk(c, tt.path)
		if err != nil {
			t.Fatal(err)
		}
		if tt.forEver && e.EntryValid < 1<<31 || !tt.forEver && (e.EntryValid != 0 || e.EntryValidNsec != 0) {
			t.Errorf("%s is valid for %d.%09d s", tt.path, e.EntryValid, e.EntryValidNsec)
		}
	}
	root, err := walk(c, "/rafs")
	if err != nil {
		t.Fatal(err)
	}
	if e, err := c.Lookup(root.Node, "c2"); err == nil && (e.EntryValid != 0 || e.EntryValidNsec != 0) || err != nil && !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a name that may come is remembered as missing: %+v, %v", e, err)
	}
}

// frontEndsInTurn: one that leaves, or breaks the protocol, makes room for the next.
func frontEndsInTurn(t *testing.T) {
	im := oneFile(t, "text")
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
	for i := range 6 {
		if i%2 == 1 { // one that talks nonsense
			c, err := net.Dial("unix", sock)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("%d bytes for nonsense", n)
			}
			c.Close()
			continue
		}
		g := boot(t, sock, vhostusertest.GuestConfig{Order: vhostusertest.Orders()[i/2]})
		if e, err := walk(g.clients[0], "/a/f"); err != nil || e.Attr.Size != 4 {
			t.Errorf("got %+v, %v", e, err)
		}
		_ = g.conn.Close()
	}
	if got := p.state(); got != "RUNNING" {
		t.Error(got)
	}
}

// newSession: a guest that rebooted knows nothing of the handles that it had.
func newSession(t *testing.T) {
	im := oneFile(t, "text")
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	const place = "/api/v1/mount?mountpoint=/a"
	p.must(204, "POST", place, im.mountBody(""))
	g := boot(t, sock, vhostusertest.GuestConfig{})
	c := g.clients[0]
	e, err := walk(c, "/a/f")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Open(e.Node, 0, false); err != nil {
		t.Fatal(err)
	}
	p.must(204, "DELETE", place, "") // the handle keeps the image
	if _, err := c.Getattr(e.Node); err != nil {
		t.Fatal(err)
	}
	g.init(t)
	if _, err := c.Getattr(e.Node); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("a node of the session before: %v", err)
	}
	p.must(204, "POST", place, im.mountBody(""))
	if e, err = walk(c, "/a/f"); err != nil || e.Attr.Size != 4 {
		t.Errorf("got %+v, %v", e, err)
	}
}

// pauseAndResume: rings stop, as for a pause, a snapshot or a reset of the driver, and
// start again, with the same nodes and no INIT.
func pauseAndResume(t *testing.T) {
	im := smallImage(t)
	for _, order := range vhostusertest.Orders() {
		sock, api := sockets(t)
		p := virtiofs(t, sock, api).ready()
		p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
		g := boot(t, sock, vhostusertest.GuestConfig{Order: order, EventIdx: true, Indirect: true})
		files := g.tree(t, "/a", im.Tree)
		for i := range 10 {
			if err := readAll(g.clients[0], files[i%len(files)]); err != nil {
				t.Error(order, err)
			}
			if err := g.Stop(g.conn); err != nil {
				t.Fatal(order, err)
			}
			if err := g.Activate(g.conn); err != nil {
				t.Fatal(order, err)
			}
		}
		p.end()
	}
}

// memoryHotPlug: a container with a memory limit makes Kata plug a DIMM.
func memoryHotPlug(t *testing.T) {
	im := smallImage(t)
	for name, slots := range map[string]bool{"whole tables": false, "regions": true} {
		sock, api := sockets(t)
		p := virtiofs(t, sock, api).ready()
		p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
		g := boot(t, sock, vhostusertest.GuestConfig{Slots: slots})
		l := startLoad(t, g, g.tree(t, "/a", im.Tree))
		for i := range 20 {
			r, err := vhostusertest.NewRegion(0x10_0000_0000, 0x6f00_0000_0000, 32<<20)
			if err != nil {
				t.Fatal(err)
			}
			if err := g.Plug(g.conn, r); err != nil {
				t.Fatal(name, i, err)
			}
			l.advance(1)
			if err := g.Unplug(g.conn, r); err != nil {
				t.Fatal(name, i, err)
			}
			r.Close()
			l.advance(1)
		}
		l.end()
		p.end()
	}
}

// leastOffer is the device that Kata has QEMU make: a high-priority and one request
// queue of 1024 entries, and no configuration space.
func leastOffer(t *testing.T) {
	im := oneFile(t, "text")
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
	g := boot(t, sock, vhostusertest.GuestConfig{Rings: 2, QueueSize: 1024})
	if e, err := walk(g.clients[0], "/a/f"); err != nil || e.Attr.Size != 4 {
		t.Errorf("got %+v, %v", e, err)
	}
	if bad := g.conn.Proto & (vhostuser.ProtocolConfig | vhostuser.ProtocolBackendReq | vhostuser.ProtocolStatus); bad != 0 {
		t.Errorf("protocol features %#x are offered", bad)
	}
	if want := uint64(vhostuser.ProtocolMQ | vhostuser.ProtocolReplyAck | vhostuser.ProtocolConfigureSlots); g.conn.Proto&want != want {
		t.Errorf("protocol features %#x, want %#x among them", g.conn.Proto, want)
	}
	// An id that nobody has, with NEED_REPLY, and a message that is refused.
	if err := g.conn.CallAck(vhostuser.Request(200), nil); !errors.Is(err, vhostusertest.ErrRefused) {
		t.Errorf("an unknown message is answered with %v", err)
	}
	if err := g.conn.CallAck(vhostuser.SetVringNum, vhostusertest.State(1, 12345)); !errors.Is(err, vhostusertest.ErrRefused) {
		t.Errorf("a bad ring size is answered with %v", err)
	}
}

// socketOwner: Kata's rootless VMM runs as a user that owns the directory.
func socketOwner(t *testing.T) {
	testenv.Need(t, testenv.Root)
	sock, api := sockets(t)
	if err := os.Chown(filepath.Dir(sock), 1234, 2345); err != nil {
		t.Fatal(err)
	}
	virtiofs(t, sock, api).ready()
	for _, path := range []string{sock, api} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Uid != 1234 || st.Gid != 2345 {
			t.Errorf("%s belongs to %d:%d, %v", path, st.Uid, st.Gid, err)
		}
	}
}
