package fusesrvtest

import (
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
		return hotRequest(t, name, op, dir.NodeID, read(4096), 4096, 16+len(b))
	}
	capability := append(Args(t, fusesrv.GetxattrIn{Size: 64}), "security.capability\x00"...)
	return []HotRequest{
		hotRequest(t, "Lookup", fusesrv.OpLookup, dir.NodeID, Args(t, file.Name), 128, 16+128),
		hotRequest(t, "LookupMiss", fusesrv.OpLookup, dir.NodeID, Args(t, "no such name"), 128, 16+128),
		hotRequest(t, "Getattr", fusesrv.OpGetattr, file.Entry.NodeID, Args(t, fusesrv.GetattrIn{}), 104, 16+104),
		hotRequest(t, "Read4K", fusesrv.OpRead, file.Entry.NodeID, read(4096), 4096, 16+4096),
		hotRequest(t, "Read128K", fusesrv.OpRead, file.Entry.NodeID, read(size), size, 16+size),
		listing("ReaddirPlus", fusesrv.OpReaddirplus),
		listing("Readdir", fusesrv.OpReaddir),
		hotRequest(t, "Getxattr", fusesrv.OpGetxattr, file.Entry.NodeID, capability, 64, 16),
		hotRequest(t, "Forget", fusesrv.OpForget, file.Entry.NodeID, Args(t, fusesrv.ForgetIn{Nlookup: 1}), 0, 0),
	}
}

func hotRequest(t testing.TB, name string, op fusesrv.Opcode, node uint64, args []byte, room, want int) HotRequest {
	h := Args(t, fusesrv.InHeader{Len: uint32(fusesrv.InHeaderSize + len(args)), Opcode: op, Unique: 2, NodeID: node})
	q := HotRequest{Name: name, In: [][]byte{h, args}, Out: [][]byte{make([]byte, fusesrv.OutHeaderSize)}, Want: want}
	for ; room > 0; room -= 4096 {
		q.Out = append(q.Out, make([]byte, min(4096, room)))
	}
	return q
}
