package fusesrv_test

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/testenv"
	"vrafs/internal/testleak"
)

var update = flag.Bool("update", false, "rewrite the fuzz seeds")

// hostile returns a stack with an image, nested mounts and pseudo directories, and
// the node ids that a hostile guest would try.
func hostile(t testing.TB) (*fusesrvtest.Stack, *fusesrvtest.Direct, []uint64) {
	t.Helper()
	im := image(t)
	s := fusesrvtest.Serve(t, im, fusesrvtest.StackOptions{At: "/rafs/one/lowerdir"})
	s.Mount(t, im, fusesrvtest.StackOptions{At: "/rafs/one/lowerdir/kinds"})
	s.Mount(t, im, fusesrvtest.StackOptions{At: "/containers"})
	d := s.Start(t)
	s.Warm(t, d) // so that an input always takes the same way
	nodes := []uint64{fusesrv.RootID, 0, 2, 1 << 40, 1<<40 | 2, 1<<40 | 3, 1<<62 | 1, 1<<63 - 1, ^uint64(0)}
	for _, path := range [][]string{
		{"rafs"}, {"rafs", "one", "lowerdir"}, {"rafs", "one", "lowerdir", "kinds", "kinds"}, {"containers"},
		{"containers", "kinds", "link"}, {"containers", "xattrs", "large"}, {"containers", "sizes"},
	} {
		node := uint64(fusesrv.RootID)
		for _, name := range path {
			e, err := fusesrvtest.Lookup(d, node, name)
			if err != nil || e.NodeID == 0 {
				t.Fatalf("lookup %v: node %d, %v", path, e.NodeID, err)
			}
			node = e.NodeID
		}
		nodes = append(nodes, node, node+1)
	}
	return s, d, nodes
}

// A script reads what to do out of fuzz input; behind its end are zeros.
type script []byte

func (s *script) u8() (b byte) {
	if len(*s) > 0 {
		b, *s = (*s)[0], (*s)[1:]
	}
	return b
}

func (s *script) bytes(n int) []byte {
	n = min(n, len(*s))
	b := (*s)[:n:n]
	*s = (*s)[n:]
	return b
}

func (s *script) cuts() []int {
	cuts := make([]int, s.u8()%6)
	at := 0
	for i := range cuts {
		at += int(s.u8())
		cuts[i] = at
	}
	return cuts
}

// step sends one request: opcode, node, lengths, cuts and arguments as the script
// says.
func (s *script) step(t testing.TB, d *fusesrvtest.Direct, nodes []uint64) error {
	op := fusesrv.Opcode(s.u8())
	if op > 60 {
		op = fusesrv.Opcode(op) << 24 // also a swapped INIT
	}
	node := nodes[int(s.u8())%len(nodes)]
	kind := s.u8()
	room := int(s.u8()) * int(1+s.u8()%32)
	d.InCuts, d.OutCuts = s.cuts(), s.cuts()
	args := s.bytes(int(s.u8()))
	h := fusesrv.InHeader{Len: uint32(40 + len(args)), Opcode: op, Unique: uint64(kind)<<56 | 2, NodeID: node}
	if kind&1 != 0 {
		h.Len += uint32(int8(s.u8()))
	}
	if kind&2 != 0 {
		h.ExtLen = uint16(s.u8())
	}
	request := fusesrvtest.Args(t, h, args)
	if kind&4 != 0 {
		request = request[:min(len(request), int(s.u8()))]
	}
	_, err := d.Send(request, room)
	return err
}

// maxSteps bounds the requests of one input.
const maxSteps = 64

func FuzzRequest(f *testing.F) {
	s, d, nodes := hostile(f)
	if *update {
		writeSeeds(f, nodes)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		in := script(input)
		for steps := 0; len(in) > 0 && steps < maxSteps; steps++ {
			if err := in.step(t, d, nodes); err != nil {
				t.Fatal(err)
			}
		}
		// A well-behaved session works afterwards.
		d.InCuts, d.OutCuts = nil, nil
		if _, err := fusesrvtest.Init(d, 45, fusesrvtest.AllFlags); err != nil {
			t.Fatal(err)
		}
		if _, err := fusesrvtest.List(d, true, nodes[len(nodes)-2], 4096); err != nil {
			t.Fatal(err)
		}
		if n := len(s.Server.Inflight(nil)); n != 0 {
			t.Fatalf("%d requests left in flight", n)
		}
	})
}

// writeSeeds stores one input per opcode, each with ordinary arguments.
func writeSeeds(f *testing.F, nodes []uint64) {
	args := fusesrvtest.Args(f, fusesrv.ReadIn{Size: 4096}, "name", "target")
	for op := range byte(fusesrv.NumOpcodes) {
		var in []byte
		for node := range nodes {
			in = append(in, op, byte(node), 0, 64, 63, 2, 16, 24, 1, 16, byte(len(args)))
			in = append(in, args...)
			in = append(in, op, byte(node), 0, 16, 8, 0, 0, 5)
			in = append(in, "kind\x00"...)
		}
		writeSeed(f, fmt.Sprintf("opcode-%02d", op), in)
	}
}

// writeSeed stores an input of f.
func writeSeed(f *testing.F, name string, in []byte) {
	dir := filepath.Join("testdata", "fuzz", f.Name())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		f.Fatal(err)
	}
	text := "go test fuzz v1\n[]byte(" + strconv.Quote(string(in)) + ")\n"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		f.Fatal(err)
	}
}

func TestFloodsLeaveNothingBehind(t *testing.T) {
	s, d, nodes := hostile(t)
	flood := func(rounds int) {
		for op := range fusesrv.Opcode(fusesrv.NumOpcodes + 2) {
			args := fusesrvtest.Args(t, fusesrv.ReadIn{Size: 1 << 30}, "one-byte", "target", make([]byte, 64))
			for i := range rounds {
				binary.LittleEndian.PutUint64(args[8:], uint64(i)<<uint(i%60))
				if _, err := d.Call(op, nodes[i%len(nodes)], args, 4096); errors.Is(err, fusesrvtest.ErrServer) {
					t.Fatalf("%v: %v", op, err)
				}
			}
			if _, err := fusesrvtest.Init(d, 45, fusesrvtest.AllFlags); err != nil {
				t.Fatalf("after %v: %v", op, err)
			}
		}
	}
	flood(100) // what grows once has grown
	grown := testleak.Growth(t)
	flood(testenv.Rounds(10_000))
	grown()
	if got := len(s.Tree.Mounts()); got != 3 {
		t.Errorf("got %d mounts, want 3", got)
	}
}

func FuzzParseSettings(f *testing.F) {
	if *update {
		writeSeed(f, "version-1", (&fusesrv.Settings{Major: 7, Minor: 45, Flags: fusesrv.DefaultFlags, NoOpen: true}).Save())
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := fusesrv.ParseSettings(p)
		if err != nil {
			return
		}
		again, err := fusesrv.ParseSettings(s.Save())
		if err != nil || again != s {
			t.Errorf("got %+v, %v back from %+v", again, err, s)
		}
	})
}
