package virtiofs_test

import (
	"runtime"
	"testing"
	"time"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/virtiofs"
	"vrafs/internal/testenv"
	"vrafs/internal/testleak"
	"vrafs/rafs"
	"vrafs/vhostuser/vhostusertest"
	"vrafs/virtqueue"
)

// A flood fills a ring with requests over and over. It takes no completion and no
// call, but waits until the device has answered, so that the ring stays valid.
type flood struct {
	ring  *vhostusertest.Ring
	ids   []uint16
	in    [][]byte
	begun uint16 // used index before the first round
	sent  uint16
}

const floodRoom = 4096

func newFlood(t testing.TB, r *rig, ring int) *flood {
	t.Helper()
	f := &flood{ring: r.guest.Ring(ring)}
	f.begun = f.ring.Driver.Answered()
	for {
		in, mem, err := r.guest.Alloc(4096)
		if err != nil {
			t.Fatal(err)
		}
		out, _, err := r.guest.Alloc(floodRoom)
		if err != nil {
			t.Fatal(err)
		}
		id, ok, err := f.ring.Driver.Add([]virtqueue.Seg{{Addr: in, Len: 256}}, []virtqueue.Seg{{Addr: out, Len: floodRoom}})
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			f.round(t) // of empty requests
			return f
		}
		f.ids, f.in = append(f.ids, id), append(f.in, mem)
	}
}

// round publishes what was offered and waits until all of it is answered.
func (f *flood) round(t testing.TB) {
	t.Helper()
	if err := f.ring.Kick(); err != nil {
		t.Fatal(err)
	}
	f.sent += uint16(len(f.ids))
	for deadline := time.Now().Add(f.ring.Patience); f.ring.Driver.Answered()-f.begun != f.sent; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d requests answered", f.ring.Driver.Answered()-f.begun, f.sent)
		}
	}
}

// send fills the ring with requests of one opcode.
func (f *flood) send(t testing.TB, op fusesrv.Opcode, nodes []uint64) {
	t.Helper()
	for i, in := range f.in {
		h := fusesrv.InHeader{Len: 256, Opcode: op, Unique: uint64(i)<<1 | 2, NodeID: nodes[i%len(nodes)]}
		args := fusesrvtest.Args(t, h, fusesrv.ReadIn{Size: 1 << 20, Offset: uint64(i) << uint(i%60)}, "name", "target")
		clear(in[copy(in, args):])
	}
	f.ring.Driver.OfferAgain(f.ids)
	f.round(t)
}

func TestQueueThatIsNeverDrainedHurtsNobody(t *testing.T) {
	r := newRig(t, image(t, rafs.V6), fusesrvtest.StackOptions{}, virtiofs.Options{}, vhostusertest.GuestConfig{Rings: 3, EventIdx: true})
	c := r.start(t)
	e, err := fusesrvtest.Lookup(c, fusesrv.RootID, "sizes")
	if err != nil {
		t.Fatal(err)
	}
	f := newFlood(t, r, 2)
	nodes := []uint64{fusesrv.RootID, e.NodeID, 0, ^uint64(0)}
	var grown func()
	for round := range 1 + testenv.Rounds(100) {
		for op := range fusesrv.Opcode(fusesrv.NumOpcodes + 2) {
			f.send(t, op, nodes)
			// The neighbour goes on, in a session of its own if that one was ended.
			if _, err := fusesrvtest.Init(c, fusesrv.Minor, fusesrvtest.AllFlags); err != nil {
				t.Fatalf("after %v: %v", op, err)
			}
			if got, err := fusesrvtest.Lookup(c, fusesrv.RootID, "sizes"); err != nil || got.NodeID != e.NodeID {
				t.Fatalf("after %v: %+v, %v", op, got, err)
			}
		}
		if round == 0 { // what grows once has grown
			grown = testleak.Growth(t)
		}
	}
	grown()
	if n := len(r.Server.Inflight(nil)); n != 0 {
		t.Errorf("%d requests left in flight", n)
	}
}
