package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"vrafs/fusesrv"
	"vrafs/internal/testenv"
	"vrafs/vhostuser/vhostusertest"
)

// A guest is a front-end with a client for each request queue.
type guest struct {
	*vhostusertest.Guest
	conn    *vhostusertest.Conn
	clients []*vhostusertest.Client
}

// boot connects a guest to a daemon and negotiates FUSE.
func boot(t testing.TB, sock string, cfg vhostusertest.GuestConfig) *guest {
	t.Helper()
	g, err := vhostusertest.NewGuest(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	gu := &guest{Guest: g}
	gu.connect(t, sock)
	if err := g.Start(gu.conn); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < max(2, cfg.Rings); i++ {
		c, err := vhostusertest.NewClient(g.Ring(i), vhostusertest.ClientConfig{Depth: 4, MaxRoom: 128 << 10})
		if err != nil {
			t.Fatal(err)
		}
		gu.clients = append(gu.clients, c)
	}
	gu.init(t)
	return gu
}

func (g *guest) connect(t testing.TB, sock string) {
	t.Helper()
	c, err := vhostusertest.Dial(sock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	g.conn = c
}

func (g *guest) init(t testing.TB) {
	t.Helper()
	flags := fusesrv.DefaultFlags | fusesrv.NoOpenSupport | fusesrv.NoOpendirSupport | fusesrv.InitExt
	if _, err := g.clients[0].Init(vhostusertest.Init{Major: 7, Minor: 45, MaxReadahead: 128 << 10, Flags: uint64(flags)}); err != nil {
		t.Fatal(err)
	}
}

// walk looks a path up from the root.
func walk(c *vhostusertest.Client, p string) (vhostusertest.Entry, error) {
	e := vhostusertest.Entry{Node: fusesrv.RootID}
	for _, name := range splitPath(p) {
		var err error
		if e, err = c.Lookup(e.Node, name); err != nil {
			return e, fmt.Errorf("lookup %s in %s: %w", name, p, err)
		}
		if e.Node == 0 {
			return e, fmt.Errorf("lookup %s in %s: %w", name, p, syscall.ENOENT)
		}
	}
	return e, nil
}

func splitPath(p string) []string {
	var names []string
	for p = path.Clean("/" + p); p != "/"; p = path.Dir(p) {
		names = append([]string{path.Base(p)}, names...)
	}
	return names
}

// A file of a tree that a guest reads.
type file struct {
	node uint64
	data []byte
	path string
}

// tree finds every regular file below a place of the guest's mount and what the
// source directory holds for it.
func (g *guest) tree(t testing.TB, place, source string) []file {
	t.Helper()
	root, err := walk(g.clients[0], place)
	if err != nil {
		t.Fatal(err)
	}
	var files []file
	g.collect(t, root.Node, source, &files)
	if len(files) < 10 {
		t.Fatalf("only %d files below %s", len(files), place)
	}
	return files
}

// biggest is the size of files that a guest of these tests reads.
const biggest = 8 << 20

func (g *guest) collect(t testing.TB, node uint64, source string, files *[]file) {
	t.Helper()
	for off := uint64(0); ; {
		list, err := g.clients[0].ReadDirPlus(node, 0, off, 64<<10)
		if err != nil {
			t.Fatalf("readdirplus of %s: %v", source, err)
		}
		if len(list) == 0 {
			return
		}
		for _, e := range list {
			off = e.Off
			p := filepath.Join(source, e.Name)
			switch {
			case e.Name == "." || e.Name == "..":
			case e.Entry.Attr.Mode&syscall.S_IFMT == syscall.S_IFDIR:
				g.collect(t, e.Entry.Node, p, files)
			case e.Entry.Attr.Mode&syscall.S_IFMT == syscall.S_IFREG && e.Entry.Attr.Size <= biggest:
				data, err := os.ReadFile(p)
				if err != nil {
					t.Fatal(err)
				}
				*files = append(*files, file{e.Entry.Node, data, p})
			}
		}
	}
}

// readAll compares a whole file.
func readAll(c *vhostusertest.Client, f file) error {
	for off := 0; ; {
		p, err := c.Read(f.node, 0, uint64(off), 128<<10)
		if err != nil {
			return fmt.Errorf("read %s at %d: %w", f.path, off, err)
		}
		if len(p) == 0 {
			if off != len(f.data) {
				return fmt.Errorf("%s ends at %d of %d", f.path, off, len(f.data))
			}
			return nil
		}
		if off+len(p) > len(f.data) || !bytes.Equal(p, f.data[off:off+len(p)]) {
			return fmt.Errorf("%s differs in %d bytes at %d", f.path, len(p), off)
		}
		off += len(p)
	}
}

// TestGuestReadsAMountedImage in every front-end's message order.
func TestGuestReadsAMountedImage(t *testing.T) {
	im := smallImage(t)
	for _, order := range vhostusertest.Orders() {
		t.Run(order.String(), func(t *testing.T) {
			sock, api := sockets(t)
			p := virtiofs(t, sock, api).ready()
			p.must(204, "POST", "/api/v1/mount?mountpoint=/rafs/c1/lowerdir", im.mountBody(""))
			g := boot(t, sock, vhostusertest.GuestConfig{Order: order, EventIdx: true, Indirect: true})
			for _, f := range g.tree(t, "/rafs/c1/lowerdir", im.Tree) {
				if err := readAll(g.clients[0], f); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestGuestReadsTheImageOfTheCommandLine at the root, with no API at all.
func TestGuestReadsTheImageOfTheCommandLine(t *testing.T) {
	im := smallImage(t)
	sock, api := sockets(t)
	p := virtiofs(t, sock, api, "--bootstrap", im.Bootstrap, "--localfs-dir", im.BlobDir).ready()
	g := boot(t, sock, vhostusertest.GuestConfig{Rings: 5})
	files := g.tree(t, "/", im.Tree)
	var wg sync.WaitGroup
	for i, c := range g.clients {
		wg.Go(func() {
			for j := range files {
				if err := readAll(c, files[(j+i*37)%len(files)]); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if body := p.must(200, "GET", "/api/v1/daemon", ""); !bytes.Contains([]byte(body), []byte(`"/":{"backend_type":"Rafs"`)) {
		t.Errorf("got %s", body)
	}
}

// TestMetricsCountExactly: one read of a 6-byte file.
func TestMetricsCountExactly(t *testing.T) {
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "f"), []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	im := imageOf(t, source)
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=/", im.mountBody(im.v1(map[string]any{"iostats_files": true, "access_pattern": true, "latest_read_files": true})))
	g := boot(t, sock, vhostusertest.GuestConfig{})
	e, err := walk(g.clients[0], "/f")
	if err != nil {
		t.Fatal(err)
	}
	if data, err := g.clients[0].Read(e.Node, 0, 0, 4096); err != nil || string(data) != "hello\n" {
		t.Fatalf("got %q, %v", data, err)
	}
	for target, want := range map[string]string{
		"/api/v1/metrics?id=/":              `"data_read":6,"block_count_read":[1,0,0,0,0,0,0,0],"fop_hits":[0,0,0,0,1,`,
		"/api/v1/metrics":                   `"id":"/"`,
		"/api/v1/metrics/backend":           `{"backend_type":"localfs","read_count":`,
		"/api/v1/metrics/blobcache":         `"store_path":"` + im.cache + `"`,
		"/api/v1/metrics/files":             `"data_read":6,`,
		"/api/v1/metrics/pattern":           `"nr_read":1,`,
		"/api/v1/metrics/files?latest=true": `[[`,
		"/metrics":                          `vrafs_read_bytes_total{mountpoint="/"} 6`,
	} {
		if body := p.must(200, "GET", target, ""); !bytes.Contains([]byte(body), []byte(want)) {
			t.Errorf("%s: got %s, want %s", target, body, want)
		}
	}
	if body := p.must(200, "GET", "/api/v1/metrics/files?latest=true", ""); body != "[]" {
		t.Errorf("record not cleared: %s", body)
	}
}

// TestMountCyclesUnderALiveGuest: images change at one place again and again while a
// guest reads, each unmounted with a file of it open. No node is ever another file, and
// in the end the daemon holds what it held after the first rounds.
func TestMountCyclesUnderALiveGuest(t *testing.T) {
	testenv.Long(t)
	images := []*imageFixture{oneFile(t, "first"), oneFile(t, "second, longer")}
	texts := []string{"first", "second, longer"}
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	g := boot(t, sock, vhostusertest.GuestConfig{})
	c := g.clients[0]
	seen := map[uint64]bool{}
	const place = "/api/v1/mount?mountpoint=/rafs/c/lowerdir"
	round := func(i int) {
		p.must(204, "POST", place, images[i%2].mountBody(""))
		e, err := walk(c, "/rafs/c/lowerdir/f")
		if err != nil {
			t.Fatal(i, err)
		}
		if seen[e.Node] {
			t.Fatalf("round %d: node %#x was another file", i, e.Node)
		}
		seen[e.Node] = true
		fh, _, err := c.Open(e.Node, 0, false)
		if err != nil {
			t.Fatal(i, err)
		}
		p.must(204, "DELETE", place, "")
		if data, err := c.Read(e.Node, fh, 0, 4096); err != nil || string(data) != texts[i%2] {
			t.Fatalf("round %d: the open file gives %q, %v", i, data, err)
		}
		if err := c.Release(e.Node, fh, false); err != nil {
			t.Fatal(i, err)
		}
		if _, err := c.Getattr(e.Node); !errors.Is(err, syscall.ESTALE) {
			t.Fatalf("round %d: a node of an image that is gone: %v", i, err)
		}
	}
	const first = 20
	for i := range first {
		round(i)
	}
	before := p.holds(t)
	const rounds = 1000 // a few seconds
	for i := range rounds {
		round(first + i)
	}
	after := p.holds(t)
	const some = 8 // a connection, a thread's stack: they come and go
	if after.fds > before.fds+some || after.maps > before.maps+4*some || after.threads > before.threads+some || after.rss > before.rss+4<<10 {
		t.Errorf("after %d rounds the daemon holds %+v, before them %+v", rounds, after, before)
	}
	t.Logf("%d rounds: %+v, then %+v", rounds, before, after)
	if e, err := c.Lookup(fusesrv.RootID, "rafs"); err == nil && e.Node != 0 {
		t.Error("pseudo directories are left after the last unmount")
	}
}

// readSome sends random reads of a file, several in flight, and compares every
// answer.
func readSome(c *vhostusertest.Client, r *rand.Rand, files []file) error {
	const room = 16 << 10
	type want struct {
		f   file
		off int
	}
	wants := map[uint64]want{}
	for len(wants) < 4 {
		w := want{f: files[r.IntN(len(files))]}
		w.off = r.IntN(len(w.f.data) + 1)
		unique, err := c.Send(&vhostusertest.Request{Op: uint32(fusesrv.OpRead), Node: w.f.node, Args: vhostusertest.ReadArgs(0, uint64(w.off), room), Room: room})
		if err != nil {
			return err
		}
		wants[unique] = w
	}
	if err := c.Ring.Kick(); err != nil {
		return err
	}
	for len(wants) > 0 {
		got, err := c.Recv()
		if err != nil {
			return err
		}
		w, ok := wants[got.Unique]
		delete(wants, got.Unique)
		end := min(w.off+room, len(w.f.data))
		if !ok || got.Errno != 0 || !bytes.Equal(got.Body, w.f.data[w.off:end]) {
			return fmt.Errorf("read %s at %d: errno %d, %d bytes, want %d right ones", w.f.path, w.off, got.Errno, len(got.Body), end-w.off)
		}
	}
	return nil
}

// load keeps every client reading until it is stopped.
type load struct {
	t        *testing.T
	stop     atomic.Bool
	wg       sync.WaitGroup
	progress chan struct{}
	failed   chan error
}

func startLoad(t *testing.T, g *guest, files []file) *load {
	l := &load{t: t, progress: make(chan struct{}), failed: make(chan error, len(g.clients))}
	for i, c := range g.clients {
		r := rand.New(rand.NewPCG(1, uint64(i)))
		l.wg.Go(func() {
			for !l.stop.Load() {
				if err := readSome(c, r, files); err != nil {
					l.failed <- err
					return
				}
				select {
				case l.progress <- struct{}{}:
				default:
				}
			}
		})
	}
	return l
}

// advance waits until n batches were read right.
func (l *load) advance(n int) {
	l.t.Helper()
	for range n {
		select {
		case <-l.progress:
		case err := <-l.failed:
			l.t.Fatal(err)
		case <-time.After(patience):
			l.t.Fatal("the guest gets no answers")
		}
	}
}

func (l *load) end() {
	l.stop.Store(true)
	l.wg.Wait()
	select {
	case err := <-l.failed:
		l.t.Error(err)
	default:
	}
}

// TestKilledDaemonLosesNoRequest: SIGKILL with requests in flight, again and
// again, every other time with an empty cache; the restarted daemon goes on for
// the same guest, with the same nodes, and no INIT.
func TestKilledDaemonLosesNoRequest(t *testing.T) {
	testenv.Long(t)
	cfg := vhostusertest.GuestConfig{Order: vhostusertest.CloudHypervisor, Inflight: true, Rings: 3}
	t.Run("split", func(t *testing.T) { killUnderLoad(t, cfg) })
	cfg.Packed = true
	t.Run("packed", func(t *testing.T) { killUnderLoad(t, cfg) })
}

func killUnderLoad(t *testing.T, cfg vhostusertest.GuestConfig) {
	im := smallImage(t)
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	const a, b = "/api/v1/mount?mountpoint=/rafs/a/lowerdir", "/api/v1/mount?mountpoint=/rafs/b/lowerdir"
	p.must(204, "POST", a, im.mountBody(""))
	p.must(204, "POST", b, im.mountBody(""))
	p.must(204, "DELETE", a, "")
	g := boot(t, sock, cfg)
	files := g.tree(t, "/rafs/b/lowerdir", im.Tree)
	l := startLoad(t, g, files)
	defer l.end()
	for round := range testenv.Rounds(200) {
		l.advance(round % 7)
		p.kill()
		_ = g.conn.Close()
		if round%2 == 0 {
			if err := os.RemoveAll(im.cache); err != nil {
				t.Fatal(err)
			}
		}
		p = virtiofs(t, sock, api).ready()
		g.connect(t, sock)
		if err := g.Reconnect(g.conn); err != nil {
			t.Fatal(err)
		}
	}
	l.advance(20)
	// The mounts came back as what they were, and a client may repeat them once.
	p.must(204, "POST", b, im.mountBody(""))
	p.must(500, "POST", b, im.mountBody(""))
	p.must(500, "DELETE", a, "")
}
