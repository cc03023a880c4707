package passthrough_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/passthrough"
	"vrafs/internal/testenv"
)

// hotRequests are the requests that decide how fast a shared directory is, on files that
// the guest knows and the host has in memory. dir is empty.
func hotRequests(t testing.TB, dir string) (*shared, *fusesrvtest.Direct, []fusesrvtest.HotRequest) {
	t.Helper()
	testenv.Need(t, testenv.Root)
	const size = 1 << 20
	for i := range 50 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file-", i)), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, dir, 0, passthrough.Options{})
	c := client(t, s)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	file, err := fusesrvtest.Lookup(c, fusesrv.RootID, "file-7")
	must(err)
	o, err := fusesrvtest.Open(c, fusesrv.OpOpen, file.NodeID, unix.O_RDWR)
	must(err)
	d, err := fusesrvtest.Open(c, fusesrv.OpOpendir, fusesrv.RootID, 0)
	must(err)
	args := func(v any) []byte { return fusesrvtest.Args(t, v) }
	hot := func(name string, op fusesrv.Opcode, node uint64, in, data []byte, room int) fusesrvtest.HotRequest {
		return fusesrvtest.Hot(t, name, op, node, in, data, room, fusesrv.OutHeaderSize+room)
	}
	read := func(n int) fusesrvtest.HotRequest {
		return hot(fmt.Sprintf("Read%dK", n>>10), fusesrv.OpRead, file.NodeID, args(fusesrv.ReadIn{FH: o.FH, Size: uint32(n)}), nil, n)
	}
	write := func(n int) fusesrvtest.HotRequest {
		return hot(fmt.Sprintf("Write%dK", n>>10), fusesrv.OpWrite, file.NodeID, args(fusesrv.WriteIn{FH: o.FH, Size: uint32(n)}), make([]byte, n), 8)
	}
	list := func(name string, op fusesrv.Opcode) fusesrvtest.HotRequest {
		in := args(fusesrv.ReadIn{FH: d.FH, Size: 4096})
		b, err := c.Call(op, fusesrv.RootID, in, 4096)
		if err != nil || len(b) == 0 {
			t.Fatalf("%v: %d bytes, %v", op, len(b), err)
		}
		return fusesrvtest.Hot(t, name, op, fusesrv.RootID, in, nil, 4096, fusesrv.OutHeaderSize+len(b))
	}
	return s, c, []fusesrvtest.HotRequest{
		hot("Lookup", fusesrv.OpLookup, fusesrv.RootID, args("file-7"), nil, 128),
		hot("Getattr", fusesrv.OpGetattr, file.NodeID, args(fusesrv.GetattrIn{}), nil, 104),
		hot("GetattrOpen", fusesrv.OpGetattr, file.NodeID, args(fusesrv.GetattrIn{Flags: fusesrv.GetattrFH, FH: o.FH}), nil, 104),
		read(4 << 10), read(size), write(4 << 10), write(size),
		list("ReaddirPlus", fusesrv.OpReaddirplus), list("Readdir", fusesrv.OpReaddir),
	}
}

// media are what directories are on: a disk, and memory, where preadv2(2) does not know
// RWF_NOWAIT.
var media = []struct {
	name string
	dir  func(t testing.TB) string
}{{"Disk", func(t testing.TB) string { return t.TempDir() }}, {"Memory", tmpfs}}

func tmpfs(t testing.TB) string {
	t.Helper()
	testenv.Need(t, testenv.Root)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestHotRequestsAllocateNothing(t *testing.T) {
	for _, m := range media {
		s, c, hot := hotRequests(t, m.dir(t))
		for _, p := range hot {
			t.Run(m.name+p.Name, func(t *testing.T) {
				allocs := testing.AllocsPerRun(100, func() {
					n, pending := s.server.Handle(c.W, &c.R, p.In, p.Out)
					if pending || n != p.Want {
						t.Fatalf("got %d bytes, pending %v, want %d at once", n, pending, p.Want)
					}
				})
				if allocs != 0 {
					t.Errorf("got %v allocations per request, want 0", allocs)
				}
			})
		}
	}
}

func BenchmarkHandle(b *testing.B) {
	for _, m := range media {
		s, c, hot := hotRequests(b, m.dir(b))
		for _, p := range hot {
			b.Run(m.name+p.Name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, pending := s.server.Handle(c.W, &c.R, p.In, p.Out); pending {
						b.Fatal("not served at once")
					}
				}
			})
		}
	}
}
