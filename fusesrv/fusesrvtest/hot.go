package fusesrvtest

import (
	"slices"
	"testing"

	"vrafs/fusesrv"
	"vrafs/rafs"
)

// A HotRequest is one of the kinds that decide how fast a mount is, with its
// buffers cut as a guest cuts them.
type HotRequest struct {
	Name    string
	In, Out [][]byte
	Want    int // length of the reply; 0: there is none
}

// HotRequests makes one of each kind for the tree of testimage, whose data it
// fetches first.
func (s *Stack) HotRequests(t testing.TB, d *Direct) []HotRequest {
	t.Helper()
	s.Warm(t, d)
	dir, err := Lookup(d, fusesrv.RootID, "sizes")
	if err != nil || dir.NodeID == 0 {
		t.Fatalf("no directory of files: %v", err)
	}
	list, err := List(d, true, dir.NodeID, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var file DirEntry
	for _, e := range list {
		if e.Entry.Attr.Mode&rafs.ModeType == rafs.ModeRegular && e.Entry.Attr.Size > file.Entry.Attr.Size {
			file = e
		}
	}
	size := int(min(128<<10, file.Entry.Attr.Size))
	read := func(n int) []byte { return Args(t, fusesrv.ReadIn{Size: uint32(n)}) }
	listing := func(name string, op fusesrv.Opcode) HotRequest {
		b, err := d.Call(op, dir.NodeID, read(4096), 4096)
		if err != nil || len(b) == 0 {
			t.Fatalf("%v: %d bytes, %v", op, len(b), err)
		}
		return Hot(t, name, op, dir.NodeID, read(4096), nil, 4096, 16+len(b))
	}
	capability := append(Args(t, fusesrv.GetxattrIn{Size: 64}), "security.capability\x00"...)
	return []HotRequest{
		Hot(t, "Lookup", fusesrv.OpLookup, dir.NodeID, Args(t, file.Name), nil, 128, 16+128),
		Hot(t, "LookupMiss", fusesrv.OpLookup, dir.NodeID, Args(t, "no such name"), nil, 128, 16+128),
		Hot(t, "Getattr", fusesrv.OpGetattr, file.Entry.NodeID, Args(t, fusesrv.GetattrIn{}), nil, 104, 16+104),
		Hot(t, "Read4K", fusesrv.OpRead, file.Entry.NodeID, read(4096), nil, 4096, 16+4096),
		Hot(t, "Read128K", fusesrv.OpRead, file.Entry.NodeID, read(size), nil, size, 16+size),
		listing("ReaddirPlus", fusesrv.OpReaddirplus),
		listing("Readdir", fusesrv.OpReaddir),
		Hot(t, "Getxattr", fusesrv.OpGetxattr, file.Entry.NodeID, capability, nil, 64, 16),
		Hot(t, "Forget", fusesrv.OpForget, file.Entry.NodeID, Args(t, fusesrv.ForgetIn{Nlookup: 1}), nil, 0, 0),
	}
}

// Hot makes a request of a kind that is decisive: args and data as they come behind the
// header, data in pages, room for so many bytes of answer, in pages. want is the length
// of the reply.
func Hot(t testing.TB, name string, op fusesrv.Opcode, node uint64, args, data []byte, room, want int) HotRequest {
	h := Args(t, fusesrv.InHeader{Len: uint32(fusesrv.InHeaderSize + len(args) + len(data)), Opcode: op, Unique: 2, NodeID: node})
	q := HotRequest{Name: name, In: [][]byte{h, args}, Out: [][]byte{make([]byte, fusesrv.OutHeaderSize)}, Want: want}
	q.In = slices.AppendSeq(q.In, slices.Chunk(data, 4096))
	for ; room > 0; room -= 4096 {
		q.Out = append(q.Out, make([]byte, min(4096, room)))
	}
	return q
}
