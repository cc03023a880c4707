package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/testenv"
	"vrafs/vhostuser/vhostusertest"
)

// A podShare is what a guest knows and has open of a shared directory.
type podShare struct {
	t     *testing.T
	c     *vhostusertest.Client
	dir   string
	root  uint64
	known map[uint64]uint64 // lookups by node
	inos  map[uint64]uint64 // inode number by node

	read, write, gone, unmounted, list fusesrvtest.Created
	sub                                uint64
	names                              map[string]int // of the listing, so far
	next                               uint64         // its cookie
}

func (s *podShare) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// met counts a lookup.
func (s *podShare) met(e fusesrv.EntryOut) uint64 {
	if was, ok := s.inos[e.NodeID]; ok && was != e.Attr.Ino {
		s.t.Errorf("node %#x: inode number %#x, it was %#x", e.NodeID, e.Attr.Ino, was)
	}
	s.known[e.NodeID]++
	s.inos[e.NodeID] = e.Attr.Ino
	return e.NodeID
}

func (s *podShare) create(dir uint64, name string) fusesrvtest.Created {
	s.t.Helper()
	o, err := fusesrvtest.Create(s.c, dir, name, unix.O_RDWR, 0o644)
	s.must(err)
	s.met(o.Entry)
	return o
}

const manyNames = 500

// sharePod shares two directories, of which one is unmounted again with a file open.
func sharePod(t *testing.T, p *process, g *guest) *podShare {
	s := &podShare{t: t, c: g.clients[0], dir: t.TempDir(), known: map[uint64]uint64{}, inos: map[uint64]uint64{}, names: map[string]int{}}
	const shared, other = "/api/v1/mount?mountpoint=/containers", "/api/v1/mount?mountpoint=/other"
	p.must(204, "POST", shared, shareBody(s.dir))
	p.must(204, "POST", other, shareBody(t.TempDir()))
	e, err := walk(s.c, "/containers")
	s.must(err)
	s.root = e.Node
	e, err = walk(s.c, "/other")
	s.must(err)
	s.unmounted, err = fusesrvtest.Create(s.c, e.Node, "file", unix.O_RDWR, 0o644)
	s.must(err)
	p.must(204, "DELETE", other, "")

	s.read, s.write, s.gone = s.create(s.root, "read"), s.create(s.root, "write"), s.create(s.root, "gone")
	s.must(os.WriteFile(filepath.Join(s.dir, "read"), []byte("to be read"), 0o644))
	s.must(fusesrvtest.Remove(s.c, fusesrv.OpUnlink, s.root, "gone"))
	sub, err := fusesrvtest.Mkdir(s.c, s.root, "sub", 0o755)
	s.must(err)
	s.sub = s.met(sub)
	for range 2 {
		sub, err = fusesrvtest.Lookup(s.c, s.root, "sub")
		s.must(err)
		s.met(sub)
	}
	many, err := fusesrvtest.Mkdir(s.c, s.root, "many", 0o755)
	s.must(err)
	s.met(many)
	for i := range manyNames {
		s.must(os.WriteFile(filepath.Join(s.dir, "many", fmt.Sprint("name-", i)), nil, 0o644))
	}
	s.list.Entry = many
	s.list.Open, err = fusesrvtest.Open(s.c, fusesrv.OpOpendir, many.NodeID, 0)
	s.must(err)
	return s
}

// use looks at everything after the n-th change of programs, and changes it.
func (s *podShare) use(n int) {
	s.t.Helper()
	text := fmt.Sprintf("round %d;", n)
	put := func(o fusesrvtest.Created, check bool) {
		s.t.Helper()
		off := uint64(n * 100)
		_, err := fusesrvtest.Write(s.c, o.Entry.NodeID, fusesrv.WriteIn{FH: o.Open.FH, Offset: off}, []byte(text))
		s.must(err)
		if check {
			got, err := fusesrvtest.Read(s.c, o.Entry.NodeID, o.Open.FH, off, 100)
			if err != nil || string(got) != text {
				s.t.Errorf("%q, %v", got, err)
			}
		}
	}
	if got, err := fusesrvtest.Read(s.c, s.read.Entry.NodeID, s.read.Open.FH, 0, 100); err != nil || string(got) != "to be read" {
		s.t.Errorf("%q, %v", got, err)
	}
	put(s.write, false)
	if b, err := os.ReadFile(filepath.Join(s.dir, "write")); err != nil || !bytes.HasSuffix(b, []byte(text)) {
		s.t.Errorf("%q, %v", b, err)
	}
	put(s.gone, true)
	put(s.unmounted, true)
	again, err := fusesrvtest.Open(s.c, fusesrv.OpOpen, s.gone.Entry.NodeID, unix.O_RDONLY)
	s.must(err)
	s.must(fusesrvtest.Release(s.c, fusesrv.OpRelease, s.gone.Entry.NodeID, again.FH))

	// A directory goes by its node, not by its name.
	from, to := fmt.Sprint("sub-", n), fmt.Sprint("sub-", n+1)
	if n == 0 {
		from = "sub"
	}
	s.must(fusesrvtest.Rename(s.c, s.root, from, s.root, to, 0))
	o := s.create(s.sub, fmt.Sprint("made-", n))
	s.must(fusesrvtest.Release(s.c, fusesrv.OpRelease, o.Entry.NodeID, o.Open.FH))
	if _, err := os.Stat(filepath.Join(s.dir, to, fmt.Sprint("made-", n))); err != nil {
		s.t.Error(err)
	}
	for node := range s.known {
		a, err := fusesrvtest.Getattr(s.c, node)
		if err != nil || a.Attr.Ino != s.inos[node] {
			s.t.Fatalf("node %#x: inode number %#x, it was %#x, %v", node, a.Attr.Ino, s.inos[node], err)
		}
	}
	s.readOn()
}

// readOn reads some more names, with a lookup of each.
func (s *podShare) readOn() {
	s.t.Helper()
	list, err := fusesrvtest.Readdir(s.c, true, s.list.Entry.NodeID, s.list.Open.FH, s.next, 8<<10)
	s.must(err)
	for _, d := range list {
		s.next = d.Next
		if d.Name != "." && d.Name != ".." {
			s.names[d.Name]++
			s.met(d.Entry)
		}
	}
}

// forget gives everything back. A node is known until its last lookup is, and no longer.
func (s *podShare) forget() {
	s.t.Helper()
	for len(s.names) < manyNames {
		before := len(s.names)
		if s.readOn(); len(s.names) == before {
			break
		}
	}
	for name, n := range s.names {
		if n != 1 {
			s.t.Errorf("%s was listed %d times", name, n)
		}
	}
	if len(s.names) != manyNames {
		s.t.Errorf("%d names, want %d", len(s.names), manyNames)
	}
	s.must(fusesrvtest.Release(s.c, fusesrv.OpReleasedir, s.list.Entry.NodeID, s.list.Open.FH))
	for _, o := range []fusesrvtest.Created{s.read, s.write, s.gone, s.unmounted} {
		s.must(fusesrvtest.Release(s.c, fusesrv.OpRelease, o.Entry.NodeID, o.Open.FH))
	}
	for _, node := range slices.Sorted(maps.Keys(s.known)) {
		if n := s.known[node]; n > 1 {
			s.must(s.c.Forget(node, n-1))
		}
		if _, err := fusesrvtest.Getattr(s.c, node); err != nil {
			s.t.Fatalf("node %#x before its last forget: %v", node, err)
		}
		s.must(s.c.Forget(node, 1))
		if a, err := fusesrvtest.Getattr(s.c, node); !errors.Is(err, unix.ESTALE) {
			s.t.Fatalf("node %#x after its last forget: %+v, %v", node, a, err)
		}
	}
}

// startChanging has a client make, fill, rename, read and remove files until it is
// stopped, at the latest with the test. Each step has to be done once.
func startChanging(t *testing.T, c *vhostusertest.Client, dir uint64) (stop func() int) {
	var end atomic.Bool
	ended := make(chan error, 1)
	rounds := 0
	one := func(i int) error {
		name, other := fmt.Sprint("busy-", i), fmt.Sprint("moved-", i)
		o, err := fusesrvtest.Create(c, dir, name, unix.O_RDWR|unix.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("create: %w", err)
		}
		data := bytes.Repeat([]byte(name), 4000/len(name))
		if n, err := fusesrvtest.Write(c, o.Entry.NodeID, fusesrv.WriteIn{FH: o.Open.FH, Flags: unix.O_APPEND}, data); err != nil || n != len(data) {
			return fmt.Errorf("write: %d, %w", n, err)
		}
		if err := fusesrvtest.Rename(c, dir, name, dir, other, unix.RENAME_NOREPLACE); err != nil {
			return fmt.Errorf("rename: %w", err)
		}
		if got, err := fusesrvtest.Read(c, o.Entry.NodeID, o.Open.FH, 0, 64<<10); err != nil || !bytes.Equal(got, data) {
			return fmt.Errorf("read: %d bytes, want %d, %w", len(got), len(data), err)
		}
		return errors.Join(fusesrvtest.Remove(c, fusesrv.OpUnlink, dir, other),
			fusesrvtest.Release(c, fusesrv.OpRelease, o.Entry.NodeID, o.Open.FH), c.Forget(o.Entry.NodeID, 1))
	}
	go func() {
		for ; !end.Load(); rounds++ {
			if err := one(rounds); err != nil {
				ended <- fmt.Errorf("round %d: %w", rounds, err)
				return
			}
		}
		ended <- nil
	}()
	stop = sync.OnceValue(func() int {
		end.Store(true)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		return rounds
	})
	t.Cleanup(func() { stop() })
	return stop
}

// inherited lists descriptors beside the standard ones that a child would inherit. Some
// may come from whoever started the test.
func (p *process) inherited(t *testing.T) (list []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	fds, err := os.ReadDir(dir + "fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		info, err := os.ReadFile(dir + "fdinfo/" + fd.Name())
		var flags int
		if _, e := fmt.Sscanf(string(info), "pos: %d\nflags: %o", new(int), &flags); err != nil || e != nil {
			continue // closed by now
		}
		if flags&unix.O_CLOEXEC == 0 && !slices.Contains([]string{"0", "1", "2"}, fd.Name()) {
			to, _ := os.Readlink(dir + "fd/" + fd.Name())
			list = append(list, fd.Name()+" "+to)
		}
	}
	return list
}

// TestUpgradeKeepsSharedDirectories: files that a guest has open, also ones without a name or
// of a directory that was unmounted, a listing in the middle, nodes and how often they were
// looked up are what they were in the next program, while another client changes the
// directory. Upgrades that fail, at whatever step, change nothing.
func TestUpgradeKeepsSharedDirectories(t *testing.T) {
	testenv.Need(t, testenv.Root)
	im := oneFile(t, "of the image")
	p, install := installed(t)
	p.must(204, "POST", "/api/v1/mount?mountpoint=/rafs/a", im.mountBody(""))
	g := boot(t, p.sock, vhostusertest.GuestConfig{Rings: 3, EventIdx: true, Indirect: true})
	s := sharePod(t, p, g)
	stop := startChanging(t, g.clients[1], s.root)
	before, n, base := 0, 0, p.inherited(t)
	step := func() {
		t.Helper()
		s.use(n)
		n++
		if e, err := walk(s.c, "/rafs/a/f"); err != nil {
			t.Error(err)
		} else if b, err := s.c.Read(e.Node, 0, 0, 100); err != nil || string(b) != "of the image" {
			t.Errorf("%q, %v", b, err)
		}
	}
	step()
	for i := range testenv.Rounds(20) {
		install(binary)
		p.upgrade(i + 1)
		step()
		if list := p.inherited(t); !slices.Equal(list, base) {
			t.Fatalf("children would inherit %q, not %q", list, base)
		}
		if i == 0 {
			before = p.holds(t).fds
		}
	}
	for name, text := range map[string]string{
		"refuses":           "#!/bin/sh\necho 'Error: state: version 9 is not known' >&2\nexit 1\n",
		"can't be executed": goneInterpreter(t),
	} {
		path := filepath.Join(t.TempDir(), "program")
		s.must(os.WriteFile(path, []byte(text), 0o755))
		install(path)
		if status, body := p.ask("PUT", "/api/v1/daemon/upgrade", ""); status == 204 {
			p.waitLog("upgrade refused: this program goes on")
		} else if !strings.Contains(body, "version 9 is not known") {
			t.Errorf("%s: %d %s", name, status, body)
		}
		step()
		if list := p.inherited(t); !slices.Equal(list, base) {
			t.Errorf("%s: children would inherit %q, not %q", name, list, base)
		}
	}
	install(binary)
	p.upgrade(testenv.Rounds(20) + 1)
	step()
	t.Logf("%d rounds of changes meanwhile", stop())
	s.forget()
	if after := p.holds(t).fds; after > before {
		t.Errorf("%d descriptors, %d when everything was open", after, before)
	}
	p.must(204, "DELETE", "/api/v1/mount?mountpoint=/containers", "")
	p.endsInTime()
}

// goneInterpreter is a program that takes any state when it is asked, and whose
// interpreter is gone afterwards: it can't be executed.
func goneInterpreter(t *testing.T) string {
	t.Helper()
	sh := filepath.Join(t.TempDir(), "sh")
	if err := os.Symlink("/bin/sh", sh); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("#!%s\nrm %s\n", sh, sh)
}

// TestUpgradeInPlaceBetweenReleases goes back and forth between the last commit's program
// and this one. Without a shared directory each takes the other's state. With one it may
// refuse it, when it is asked; whichever goes on has what the guest has.
func TestUpgradeInPlaceBetweenReleases(t *testing.T) {
	testenv.Long(t)
	testenv.Need(t, testenv.Root)
	last := lastRelease(t)
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared=%v", shared), func(t *testing.T) {
			im := oneFile(t, "of the image")
			p, install := installed(t)
			p.must(204, "POST", "/api/v1/mount?mountpoint=/rafs/a", im.mountBody(""))
			g := boot(t, p.sock, vhostusertest.GuestConfig{Rings: 3})
			file, err := walk(g.clients[0], "/rafs/a/f")
			if err != nil {
				t.Fatal(err)
			}
			var s *podShare
			if shared {
				s = sharePod(t, p, g)
			}
			lives := 0
			for i, program := range []string{last, binary, last, last, binary, binary} {
				install(program)
				switch status, body := p.ask("PUT", "/api/v1/daemon/upgrade", ""); {
				case status == 204:
					lives++
					p.upgraded(lives)
				case !shared:
					t.Fatalf("from step %d to %s: %d %s", i, filepath.Base(program), status, body)
				default:
					t.Logf("step %d to %s: %s", i, filepath.Base(program), body)
				}
				if b, err := g.clients[0].Read(file.Node, 0, 0, 100); err != nil || string(b) != "of the image" {
					t.Errorf("%q, %v", b, err)
				}
				if shared {
					s.use(i)
				}
			}
			if shared {
				s.forget()
			}
		})
	}
}
