package imagefs_test

import (
	"testing"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/testimage"
	"vrafs/rafs"
)

// A prepared is a request with its buffers, cut as a guest does.
type prepared struct {
	name    string
	in, out [][]byte
	want    int // length of the reply
}

// prepare makes one request of each hot kind for a warm image.
func prepare(t testing.TB, s *fusesrvtest.Stack, d *fusesrvtest.Direct) []prepared {
	t.Helper()
	s.Warm(t, d)
	dir, err := fusesrvtest.Lookup(d, fusesrv.RootID, "sizes")
	if err != nil || dir.NodeID == 0 {
		t.Fatalf("no directory of files: %v", err)
	}
	list, err := fusesrvtest.List(d, true, dir.NodeID, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var file fusesrvtest.DirEntry
	for _, e := range list {
		if e.Entry.Attr.Mode&rafs.ModeType == rafs.ModeRegular && e.Entry.Attr.Size > file.Entry.Attr.Size {
			file = e
		}
	}
	size := int(min(128<<10, file.Entry.Attr.Size))
	request := func(op fusesrv.Opcode, node uint64, args []byte, room int) ([][]byte, [][]byte) {
		h := fusesrvtest.Args(fusesrv.InHeader{Len: uint32(40 + len(args)), Opcode: op, Unique: 2, NodeID: node})
		out := [][]byte{make([]byte, 16)}
		for ; room > 0; room -= 4096 {
			out = append(out, make([]byte, min(4096, room)))
		}
		return [][]byte{h, args}, out
	}
	var all []prepared
	add := func(name string, op fusesrv.Opcode, node uint64, args []byte, room, want int) {
		in, out := request(op, node, args, room)
		all = append(all, prepared{name, in, out, want})
	}
	read := func(n int) []byte { return fusesrvtest.Args(fusesrv.ReadIn{Size: uint32(n)}) }
	add("Lookup", fusesrv.OpLookup, dir.NodeID, fusesrvtest.Args(file.Name), 128, 16+128)
	add("LookupMiss", fusesrv.OpLookup, dir.NodeID, fusesrvtest.Args("no such name"), 128, 16+128)
	add("Getattr", fusesrv.OpGetattr, file.Entry.NodeID, fusesrvtest.Args(fusesrv.GetattrIn{}), 104, 16+104)
	add("Read4K", fusesrv.OpRead, file.Entry.NodeID, read(4096), 4096, 16+4096)
	add("Read128K", fusesrv.OpRead, file.Entry.NodeID, read(size), size, 16+size)
	add("ReaddirPlus", fusesrv.OpReaddirplus, dir.NodeID, read(4096), 4096, 0)
	add("Readdir", fusesrv.OpReaddir, dir.NodeID, read(4096), 4096, 0)
	add("Getxattr", fusesrv.OpGetxattr, file.Entry.NodeID, append(fusesrvtest.Args(fusesrv.GetxattrIn{Size: 64}), "security.capability\x00"...), 64, 16)
	add("Forget", fusesrv.OpForget, file.Entry.NodeID, fusesrvtest.Args(fusesrv.ForgetIn{Nlookup: 1}), 0, -1)
	return all
}

func warm(t testing.TB) (*fusesrvtest.Stack, *fusesrvtest.Direct) {
	im := small(t, testimage.Options{Version: rafs.V6, Compressor: rafs.CompressorLZ4})
	s := fusesrvtest.Serve(t, im, fusesrvtest.StackOptions{})
	return s, s.Start(t)
}

func TestHotRequestsAllocateNothing(t *testing.T) {
	s, d := warm(t)
	for _, p := range prepare(t, s, d) {
		t.Run(p.name, func(t *testing.T) {
			allocs := testing.AllocsPerRun(200, func() {
				n, pending := s.Server.Handle(d.W, &d.R, p.in, p.out)
				if pending || p.want > 0 && n != p.want {
					t.Fatalf("got %d bytes, pending %v, want %d at once", n, pending, p.want)
				}
			})
			if allocs != 0 {
				t.Errorf("got %v allocations per request, want 0", allocs)
			}
		})
	}
}

func BenchmarkHandle(b *testing.B) {
	s, d := warm(b)
	for _, p := range prepare(b, s, d) {
		b.Run(p.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, pending := s.Server.Handle(d.W, &d.R, p.in, p.out); pending {
					b.Fatal("not served at once")
				}
			}
		})
	}
}
