package fusesrv_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
)

// image makes a small image.
func image(t testing.TB) *testimage.Image {
	t.Helper()
	testenv.Need(t, testenv.Root)
	return testimage.Make(t, testimage.Options{Version: rafs.V6, Compressor: rafs.CompressorLZ4, Tree: testtree.Small(3)})
}

// A message is a request with room for its reply.
type message struct {
	op   fusesrv.Opcode
	node uint64
	args []byte
	room int
}

// messages returns requests of every opcode, most of which succeed on an image
// that d serves.
func messages(t testing.TB, d fusesrvtest.Caller) []message {
	t.Helper()
	at := func(names ...string) uint64 {
		node := uint64(fusesrv.RootID)
		for _, name := range names {
			e, err := fusesrvtest.Lookup(d, node, name)
			if err != nil || e.NodeID == 0 {
				t.Fatalf("lookup %v: node %d, %v", names, e.NodeID, err)
			}
			node = e.NodeID
		}
		return node
	}
	dir, file, link := at("kinds"), at("xattrs", "large"), at("kinds", "link")
	read := fusesrv.ReadIn{Size: 2500}
	a := func(parts ...any) []byte { return fusesrvtest.Args(t, parts...) }
	list := []message{
		{fusesrv.OpLookup, dir, a("one-byte"), 128}, {fusesrv.OpLookup, dir, a("none"), 128},
		{fusesrv.OpForget, file, a(fusesrv.ForgetIn{Nlookup: 1}), 0},
		{fusesrv.OpBatchForget, 0, a(fusesrv.BatchForgetIn{Count: 2}, fusesrv.ForgetOne{NodeID: 1}, fusesrv.ForgetOne{NodeID: file}), 0},
		{fusesrv.OpGetattr, file, a(fusesrv.GetattrIn{}), 104}, {fusesrv.OpStatx, file, a(fusesrv.StatxIn{Mask: 0xfff}), 288},
		{fusesrv.OpReadlink, link, nil, 4095},
		{fusesrv.OpOpen, file, a(fusesrv.OpenIn{}), 16}, {fusesrv.OpRelease, file, a(fusesrv.ReleaseIn{}), 0},
		{fusesrv.OpRead, file, a(read), 2500}, {fusesrv.OpRead, file, a(fusesrv.ReadIn{Offset: 1 << 40, Size: 10}), 10},
		{fusesrv.OpOpendir, dir, a(fusesrv.OpenIn{}), 16}, {fusesrv.OpReleasedir, dir, a(fusesrv.ReleaseIn{}), 0},
		{fusesrv.OpReaddir, dir, a(read), 2500}, {fusesrv.OpReaddirplus, dir, a(read), 2500},
		{fusesrv.OpGetxattr, file, a(fusesrv.GetxattrIn{Size: 4096}, "user.large"), 4096},
		{fusesrv.OpGetxattr, file, a(fusesrv.GetxattrIn{}, "user.large"), 8},
		{fusesrv.OpListxattr, file, a(fusesrv.GetxattrIn{Size: 100}), 100},
		{fusesrv.OpStatfs, file, nil, 80}, {fusesrv.OpSyncfs, file, make([]byte, 8), 0},
		{fusesrv.OpLseek, file, a(fusesrv.LseekIn{Whence: fusesrv.SeekHole}), 8},
		{fusesrv.OpInit, 0, a(fusesrv.InitIn{Major: 7, Minor: 45, Flags: 0x7ffffffb}), 64},
		{fusesrv.OpMkdir, dir, a(fusesrv.MkdirIn{}, "new"), 128}, {fusesrv.OpMknod, dir, a(fusesrv.MknodIn{}, "new"), 128},
		{fusesrv.OpSymlink, dir, a("new", "target"), 128}, {fusesrv.OpLink, dir, a(fusesrv.LinkIn{OldNodeID: file}, "new"), 128},
		{fusesrv.OpUnlink, dir, a("empty"), 0}, {fusesrv.OpRmdir, dir, a("empty-dir"), 0},
		{fusesrv.OpRename, dir, a(fusesrv.LinkIn{OldNodeID: dir}, "a", "b"), 0},
		{fusesrv.OpRename2, dir, a(fusesrv.RenameIn{NewDir: dir}, "a", "b"), 0},
		{fusesrv.OpCreate, dir, a(fusesrv.CreateIn{}, "new"), 144}, {fusesrv.OpTmpfile, dir, a(fusesrv.CreateIn{}, "new"), 144},
		{fusesrv.OpSetattr, file, a(fusesrv.SetattrIn{}), 104},
		{fusesrv.OpSetxattr, file, a(fusesrv.SetxattrIn{Size: 3}, "user.a", []byte("abc")), 0},
		{fusesrv.OpRemovexattr, file, a("user.large"), 0},
		{fusesrv.OpWrite, file, a(fusesrv.WriteIn{Size: 100}, make([]byte, 100)), 8},
		{fusesrv.OpCopyFileRange, file, a(fusesrv.CopyFileRangeIn{NodeIDOut: file}), 8},
		{fusesrv.OpIoctl, file, a(fusesrv.IoctlIn{InSize: 8, OutSize: 8}, make([]byte, 8)), 24},
		{fusesrv.OpRemovemapping, file, a([]byte{1, 0, 0, 0}, fusesrv.RemovemappingOne{}), 0},
	}
	for op := range fusesrv.NumOpcodes {
		if o := fusesrv.Opcode(op); o.Known() && !slices.ContainsFunc(list, func(m message) bool { return m.op == o }) && o != fusesrv.OpDestroy {
			list = append(list, message{o, file, make([]byte, 64), 64})
		}
	}
	return append(list, message{999, file, make([]byte, 64), 64})
}

func TestAnySplitGivesTheSameReply(t *testing.T) {
	s := fusesrvtest.Serve(t, image(t), fusesrvtest.StackOptions{})
	d := s.Start(t)
	s.Warm(t, d)
	random := rand.New(rand.NewPCG(1, 2))
	for _, m := range messages(t, d) {
		d.InCuts, d.OutCuts = nil, nil
		whole, err := d.Call(m.op, m.node, m.args, m.room)
		want := bytes.Clone(whole)
		same := func() {
			t.Helper()
			got, e := d.Call(m.op, m.node, m.args, m.room)
			if e != err || !bytes.Equal(got, want) {
				t.Fatalf("%v cut at %v and %v: got %d bytes, error %v, want %d, %v", m.op, d.InCuts, d.OutCuts, len(got), e, len(want), err)
			}
		}
		in, out := 40+len(m.args), 16+m.room
		d.InCuts, d.OutCuts = every(in), every(min(out, 512)) // byte by byte
		same()
		for at := 1; at < in; at++ { // in two, everywhere
			d.InCuts, d.OutCuts = []int{at}, nil
			same()
		}
		for at := 1; at < min(out, 512); at++ {
			d.InCuts, d.OutCuts = nil, []int{at}
			same()
		}
		for range 50 {
			d.InCuts, d.OutCuts = some(random, in), some(random, out)
			same()
		}
	}
}

// every returns all places to cut n bytes at.
func every(n int) []int {
	cuts := make([]int, n)
	for i := range cuts {
		cuts[i] = i
	}
	return cuts
}

// some returns places to cut n bytes at, in order.
func some(r *rand.Rand, n int) []int {
	var cuts []int
	for range r.IntN(8) {
		cuts = append(cuts, r.IntN(n))
	}
	slices.Sort(cuts)
	return cuts
}

func TestRepliesFitIntoAnyRoom(t *testing.T) {
	s := fusesrvtest.Serve(t, image(t), fusesrvtest.StackOptions{})
	d := s.Start(t)
	s.Warm(t, d)
	for _, m := range messages(t, d) {
		request := fusesrvtest.Args(t, fusesrv.InHeader{Len: uint32(40 + len(m.args)), Opcode: m.op, Unique: 5, NodeID: m.node}, m.args)
		for room := range min(16+m.room+3, 400) { // Send checks the reply
			if _, err := d.Send(request, room); err != nil {
				t.Fatalf("%v with room for %d: %v", m.op, room, err)
			}
		}
		for n := range len(request) { // cut short, with a header that says so and with one that doesn't
			short := bytes.Clone(request[:n])
			for range 2 {
				if got, err := d.Send(short, 16+m.room); err != nil || n < 40 && got != 0 {
					t.Fatalf("%v of %d bytes: got %d, %v", m.op, n, got, err)
				}
				if n >= 4 {
					short[0], short[1], short[2], short[3] = byte(n), byte(n>>8), byte(n>>16), 0
				}
			}
		}
		if s.Server.Settings().Major == 0 {
			t.Fatalf("%v ended the session", m.op)
		}
	}
}
