package vhostusertest_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"vrafs/vhostuser"
	"vrafs/vhostuser/vhostusertest"
	"vrafs/virtqueue"
)

// A liar is a FUSE back-end of a few lines: it answers every request with the
// request's own bytes, and wrongly where told to.
type liar struct {
	spoil func(reply []byte) (written uint32) // nil: the truth
}

func (*liar) Properties() vhostuser.Properties { return vhostuser.Properties{Queues: 3} }
func (*liar) Reset()                           {}
func (*liar) SaveState(io.Writer) error        { return nil }
func (*liar) LoadState(io.Reader) error        { return nil }

func (l *liar) StartQueue(v *vhostuser.Vring) vhostuser.QueueHandler { return &liarQueue{l, v} }

type liarQueue struct {
	l *liar
	v *vhostuser.Vring
}

func (*liarQueue) Abort() {}

func (*liarQueue) Unrepeatable() int { return 0 }
func (*liarQueue) Close()            {}

func (q *liarQueue) Handle(c *virtqueue.Chain) {
	const forget = 2
	in := bytes.Join(c.In, nil)
	if binary.LittleEndian.Uint32(in[4:]) == forget {
		q.v.Push(c.Head, nil, 0)
		return
	}
	room := int(c.WritableBytes) - 16
	reply := make([]byte, 16, 16+room)
	for len(reply) < 16+room { // the arguments, over and over
		reply = append(reply, in[40:][:min(len(in)-40, 16+room-len(reply))]...)
		if len(in) == 40 {
			break
		}
	}
	binary.LittleEndian.PutUint32(reply, uint32(len(reply)))
	copy(reply[8:16], in[8:16])
	written := uint32(len(reply))
	if q.l.spoil != nil {
		written = q.l.spoil(reply)
	}
	rest := reply
	for _, out := range c.Out {
		rest = rest[copy(out, rest):]
	}
	q.v.Push(c.Head, c.Writable, written)
}

// connect starts a guest on a back-end that serves dev.
func connect(t *testing.T, dev vhostuser.Device, cfg vhostusertest.GuestConfig) *vhostusertest.Guest {
	t.Helper()
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = vhostuser.Serve(context.Background(), c.(*net.UnixConn), dev, vhostuser.Options{})
			_ = c.Close()
		}
		done <- err
	}()
	conn, err := vhostusertest.Dial(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	g, err := vhostusertest.NewGuest(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = l.Close()
		g.Close()
	})
	if err := g.Start(conn); err != nil {
		t.Fatal(err)
	}
	return g
}

func newClient(t *testing.T, r *vhostusertest.Ring, cfg vhostusertest.ClientConfig) *vhostusertest.Client {
	t.Helper()
	c, err := vhostusertest.NewClient(r, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pattern is what the liar answers to args with this room.
func pattern(args []byte, room int) []byte {
	return bytes.Repeat(args, room/len(args)+1)[:room]
}

func TestEverySplitArrivesWhole(t *testing.T) {
	for _, scatter := range []bool{false, true} {
		g := connect(t, &liar{}, vhostusertest.GuestConfig{EventIdx: true, Indirect: true})
		c := newClient(t, g.Ring(1), vhostusertest.ClientConfig{Depth: 2, MaxRoom: 1 << 16, Scatter: scatter})
		args := []byte("one two three four five")
		for _, room := range []int{1, 104, 4096, 4097, 65536} {
			for _, cuts := range [][]int{nil, {}, {1}, {4, 8, 16, 39}, {16, 17, 18}, {8, 4000, 9000}} {
				r, err := c.Do(&vhostusertest.Request{Op: 3, Args: args, Room: room, InCuts: cuts, OutCuts: cuts})
				if err != nil {
					t.Fatalf("scatter %v, room %d, cuts %v: %v", scatter, room, cuts, err)
				}
				if !bytes.Equal(r.Body, pattern(args, room)) {
					t.Errorf("scatter %v, room %d, cuts %v: other bytes", scatter, room, cuts)
				}
			}
		}
		if err := c.Forget(7, 1); err != nil {
			t.Error(err)
		}
	}
}

func TestRingsRunSideBySide(t *testing.T) {
	g := connect(t, &liar{}, vhostusertest.GuestConfig{Rings: 3, EventIdx: true, Indirect: true, QueueSize: 32})
	var wg sync.WaitGroup
	for i := range 3 {
		c := newClient(t, g.Ring(i), vhostusertest.ClientConfig{Depth: 16, MaxRoom: 4096})
		wg.Go(func() { pump(t, c, 2000) })
	}
	wg.Wait()
}

// pump sends n requests, as many at a time as the client holds.
func pump(t *testing.T, c *vhostusertest.Client, n int) {
	want := map[uint64]uint64{} // unique to argument
	for sent, done := 0, 0; done < n; {
		for sent < n {
			args := binary.LittleEndian.AppendUint64(nil, uint64(sent)|0xabcd<<48)
			unique, err := c.Send(&vhostusertest.Request{Op: 1, Args: args, Room: 8})
			if vhostusertest.IsFull(err) {
				break
			}
			if err != nil {
				t.Error(err)
				return
			}
			want[unique] = binary.LittleEndian.Uint64(args)
			sent++
		}
		if err := c.Ring.Kick(); err != nil {
			t.Error(err)
			return
		}
		r, err := c.Recv()
		if err != nil || len(r.Body) != 8 || binary.LittleEndian.Uint64(r.Body) != want[r.Unique] {
			t.Errorf("reply %+v, %v", r, err)
			return
		}
		delete(want, r.Unique)
		done++
	}
}

func TestWrongRepliesAreNoticed(t *testing.T) {
	le := binary.LittleEndian
	for _, tt := range []struct {
		name  string
		spoil func(b []byte) uint32
		errno syscall.Errno // 0: a broken protocol
	}{
		{"used_length_0", func(b []byte) uint32 { return 0 }, 0},
		{"used_length_too_long", func(b []byte) uint32 { return uint32(len(b)) + 1 }, 0},
		{"header_length_short", func(b []byte) uint32 { le.PutUint32(b, 15); return 15 }, 0},
		{"header_length_past_the_buffer", func(b []byte) uint32 { le.PutUint32(b, 1<<20); return 1 << 20 }, 0},
		{"other_unique", func(b []byte) uint32 { b[8]++; return uint32(len(b)) }, 0},
		{"positive_error", func(b []byte) uint32 { le.PutUint32(b[4:], 2); return uint32(len(b)) }, 0},
		{"error_512", func(b []byte) uint32 { le.PutUint32(b, 16); le.PutUint32(b[4:], ^uint32(511)); return 16 }, 0},
		{"error_with_body", func(b []byte) uint32 { le.PutUint32(b[4:], ^uint32(1)); return uint32(len(b)) }, 0},
		{"ENOENT", func(b []byte) uint32 { le.PutUint32(b, 16); le.PutUint32(b[4:], ^uint32(1)); return 16 }, syscall.ENOENT},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := connect(t, &liar{spoil: tt.spoil}, vhostusertest.GuestConfig{})
			c := newClient(t, g.Ring(1), vhostusertest.ClientConfig{Depth: 1, MaxRoom: 4096})
			_, err := c.Do(&vhostusertest.Request{Op: 3, Args: make([]byte, 16), Room: 104})
			want := error(vhostusertest.ErrBackEnd)
			if tt.errno != 0 {
				want = tt.errno
			}
			if !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		})
	}
}

func TestDirectoryEntriesAreDecoded(t *testing.T) {
	var b []byte
	for i, name := range []string{"a", "seven77", "eight888", "nine99999"} {
		e := make([]byte, 152)
		binary.LittleEndian.PutUint64(e, uint64(i+10))
		binary.LittleEndian.PutUint32(e[100:], 0o644) // attr.mode
		binary.LittleEndian.PutUint64(e[136:], uint64(i+1))
		binary.LittleEndian.PutUint32(e[144:], uint32(len(name)))
		binary.LittleEndian.PutUint32(e[148:], 8)
		e = append(e, name...)
		b = append(b, append(e, make([]byte, -len(e)&7)...)...)
	}
	all, err := vhostusertest.ParseDirPlus(b)
	if err != nil || len(all) != 4 || all[3].Name != "nine99999" || all[3].Off != 4 || all[3].Entry.Node != 13 ||
		all[0].Entry.Attr.Mode != 0o644 || all[1].Type != 8 {
		t.Errorf("%+v, %v", all, err)
	}
	for n := range b {
		if got, err := vhostusertest.ParseDirPlus(b[:n]); err == nil && n != 0 && len(got) == 4 {
			t.Errorf("%d of %d bytes: %d entries", n, len(b), len(got))
		}
	}
}

// A steady back-end answers from one buffer, with nothing allocated.
type steady struct {
	liar
	v     *vhostuser.Vring
	reply [16 + 65536]byte
}

func (d *steady) StartQueue(v *vhostuser.Vring) vhostuser.QueueHandler {
	if v.Index() == 1 {
		d.v = v
		binary.LittleEndian.PutUint32(d.reply[:], uint32(len(d.reply)))
	}
	return d
}

func (*steady) Abort() {}

func (*steady) Unrepeatable() int { return 0 }
func (*steady) Close()            {}

func (d *steady) Handle(c *virtqueue.Chain) {
	copy(d.reply[8:16], c.In[0][8:16])
	rest := d.reply[:]
	for _, out := range c.Out {
		rest = rest[copy(out, rest):]
	}
	d.v.Push(c.Head, c.Writable, uint32(len(d.reply)))
}

// TestRequestsDoNotAllocate counts over the whole way: client, ring, kick, the
// back-end's loop, call.
func TestRequestsDoNotAllocate(t *testing.T) {
	for _, packed := range []bool{false, true} {
		g := connect(t, &steady{}, vhostusertest.GuestConfig{EventIdx: true, Indirect: true, Packed: packed})
		c := newClient(t, g.Ring(1), vhostusertest.ClientConfig{Depth: 4, MaxRoom: 1 << 16, Scatter: true})
		q := &vhostusertest.Request{Op: 15, Args: vhostusertest.ReadArgs(1, 0, 65536), Room: 65536}
		round := func() {
			if _, err := c.Send(q); err != nil {
				t.Fatal(err)
			}
			if err := c.Ring.Kick(); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Recv(); err != nil {
				t.Fatal(err)
			}
		}
		for range 200 { // tables and slices grow first
			round()
		}
		if n := testing.AllocsPerRun(200, round); n != 0 {
			t.Errorf("packed %v: %v allocations per request", packed, n)
		}
	}
}
