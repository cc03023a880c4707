package mountfs_test

import (
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/mountfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A flat is a file system with a root and some files, each of which holds what
// its name and the content say. Its node ids are 1 for the root and 2.. for files.
type flat struct {
	fusesrv.ReadOnly
	content string
	names   []string
}

func (f *flat) Root() uint64 { return 1 }

func (f *flat) RootEntry(out *fusesrv.EntryOut) syscall.Errno {
	*out = f.entry(1)
	return 0
}

func (f *flat) entry(node uint64) fusesrv.EntryOut {
	mode := uint32(syscall.S_IFREG | 0o444)
	if node == 1 {
		mode = syscall.S_IFDIR | 0o755
	}
	return fusesrv.EntryOut{NodeID: node, EntryValid: 1000, AttrValid: 1000,
		Attr: fusesrv.Attr{Ino: node, Mode: mode, Nlink: 1, Size: uint64(len(f.content))}}
}

func (f *flat) Lookup(r *fusesrv.Request, name []byte, out *fusesrv.EntryOut) syscall.Errno {
	for i, n := range f.names {
		if r.Node == 1 && n == string(name) {
			*out = f.entry(uint64(2 + i))
			return 0
		}
	}
	return syscall.ENOENT
}

func (f *flat) known(r *fusesrv.Request) bool {
	return r.Node >= 1 && r.Node < uint64(2+len(f.names))
}

func (f *flat) Getattr(r *fusesrv.Request, _ *fusesrv.GetattrIn, out *fusesrv.AttrOut) syscall.Errno {
	if !f.known(r) {
		return syscall.ESTALE
	}
	out.Attr = f.entry(r.Node).Attr
	return 0
}

func (f *flat) Open(*fusesrv.Request, *fusesrv.OpenIn, *fusesrv.OpenOut) syscall.Errno { return 0 }
func (f *flat) Release(*fusesrv.Request, *fusesrv.ReleaseIn) syscall.Errno             { return 0 }
func (f *flat) Opendir(*fusesrv.Request, *fusesrv.OpenIn, *fusesrv.OpenOut) syscall.Errno {
	return 0
}

func (f *flat) Read(r *fusesrv.Request, in *fusesrv.ReadIn, w *fusesrv.Reply) syscall.Errno {
	if !f.known(r) {
		return syscall.ESTALE
	}
	return w.Bytes([]byte(f.content)[:min(len(f.content), int(in.Size))])
}

func (f *flat) Readdir(_ *fusesrv.Request, in *fusesrv.ReadIn, w *fusesrv.Reply) syscall.Errno {
	for i := int(in.Offset); i < len(f.names); i++ {
		if !w.Dir.Add(uint64(2+i), uint64(i+1), 8, []byte(f.names[i])) {
			break
		}
	}
	return 0
}

func (f *flat) Readdirplus(_ *fusesrv.Request, in *fusesrv.ReadIn, w *fusesrv.Reply) syscall.Errno {
	for i := int(in.Offset); i < len(f.names); i++ {
		w.Dir.Entry = f.entry(uint64(2 + i))
		if !w.Dir.AddPlus(uint64(i+1), 8, []byte(f.names[i])) {
			break
		}
	}
	return 0
}

// A conn is a tree with a server and a client.
type conn struct {
	*mountfs.FS
	s *fusesrv.Server
	d *fusesrvtest.Direct
}

func newConn(t testing.TB, o mountfs.Options) *conn {
	t.Helper()
	c := &conn{FS: mountfs.New(o)}
	c.s = fusesrv.NewServer(c.FS, fusesrv.Options{})
	c.Serve(c.s.Quiesce)
	c.d = fusesrvtest.NewDirect(t, c.s)
	t.Cleanup(c.Wait)
	if _, err := fusesrvtest.Init(c.d, fusesrv.Minor, fusesrvtest.AllFlags); err != nil {
		t.Fatal(err)
	}
	return c
}

// mount mounts a flat file system, whose content is what, with one file "f".
func (c *conn) mount(t testing.TB, at, what string) mountfs.Mount {
	t.Helper()
	m, err := c.Mount(at, &flat{content: what, names: []string{"f"}}, mountfs.MountOptions{Identity: what})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// lookup follows names from the root; node 0 if one is not there.
func (c *conn) lookup(t testing.TB, names ...string) fusesrv.EntryOut {
	t.Helper()
	e := fusesrv.EntryOut{NodeID: fusesrv.RootID}
	for _, name := range names {
		var err error
		e, err = fusesrvtest.Lookup(c.d, e.NodeID, name)
		if err == syscall.ENOENT {
			return fusesrv.EntryOut{}
		}
		if err != nil {
			t.Fatalf("lookup %v: %v", names, err)
		}
	}
	return e
}

// names lists a directory without its dots.
func (c *conn) names(t testing.TB, node uint64, size int) (names []string) {
	t.Helper()
	for _, plus := range []bool{true, false} {
		list, err := fusesrvtest.List(c.d, plus, node, size)
		if err != nil {
			t.Fatal(err)
		}
		names = nil
		for _, e := range list {
			if e.Name != "." && e.Name != ".." {
				names = append(names, e.Name)
			}
		}
	}
	return names
}
