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

// TestWritesLeaveTheQueueToOthers writes where an image might be served beside: what may
// wait for a disk does not happen on the queue's own goroutine.
func TestWritesLeaveTheQueueToOthers(t *testing.T) {
	testenv.Need(t, testenv.Root)
	for _, m := range media {
		for _, beside := range []bool{false, true} {
			t.Run(fmt.Sprint(m.name, "_beside_", beside), func(t *testing.T) { writeBeside(t, m.dir(t), beside) })
		}
	}
}

func writeBeside(t *testing.T, dir string, beside bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	memory := st.Type == unix.TMPFS_MAGIC // also where TMPDIR is
	s := serve(t, dir, 0, passthrough.Options{Beside: func() bool { return beside }})
	c := client(t, s)
	o, err := fusesrvtest.Create(c, fusesrv.RootID, "file", unix.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	for op, args := range map[fusesrv.Opcode][]byte{
		fusesrv.OpWrite: fusesrvtest.Args(t, fusesrv.WriteIn{FH: o.Open.FH, Size: 4}, []byte("text")),
		fusesrv.OpFsync: fusesrvtest.Args(t, fusesrv.FsyncIn{FH: o.Open.FH}),
	} {
		h := fusesrv.InHeader{Len: uint32(fusesrv.InHeaderSize + len(args)), Opcode: op, Unique: 2, NodeID: o.Entry.NodeID}
		in, out := [][]byte{fusesrvtest.Args(t, h), args}, [][]byte{make([]byte, 64)}
		var r fusesrv.Request
		_, pending := s.server.Handle(c.W, &r, in, out)
		if want := beside && !memory || op == fusesrv.OpFsync; pending != want {
			t.Errorf("%v pending: %v, want %v", op, pending, want)
		}
		if pending {
			s.server.Wait(t.Context(), &r)
			if n, again := s.server.Finish(c.W, &r, in, out); again || n < fusesrv.OutHeaderSize || out[0][4] != 0 {
				t.Errorf("%v: reply of %d bytes: %v", op, n, out[0][:16])
			}
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(b) != "text" {
		t.Errorf("%q, %v", b, err)
	}
}
