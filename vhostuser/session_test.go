package vhostuser_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"vrafs/internal/testleak"
	"vrafs/vhostuser"
	"vrafs/vhostuser/vhostusertest"
	"vrafs/virtqueue"
	"vrafs/virtqueue/virtqueuetest"
)

// A served is one connection with a back-end behind it.
type served struct {
	*vhostusertest.Conn
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of Serve, after done
}

// serve connects a front-end to a back-end that serves dev.
func serve(t testing.TB, dev vhostuser.Device, o vhostuser.Options) *served {
	t.Helper()
	front, back := socketpair(t)
	ctx, cancel := context.WithCancel(context.Background())
	s := &served{Conn: vhostusertest.NewConn(front), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.err = vhostuser.Serve(ctx, back, dev, o)
		_ = back.Close()
	}()
	t.Cleanup(func() { s.end(t) })
	return s
}

// end hangs up and returns what Serve returned.
func (s *served) end(t testing.TB) error {
	t.Helper()
	_ = s.Close()
	<-s.done
	s.cancel()
	return s.err
}

// socketpair returns two connected sockets.
func socketpair(t testing.TB) (front, back *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	front, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	back, err = l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	return front, back
}

// noLeaks fails the test if goroutines or descriptors are left at its end. Call
// it first, so that its check runs last.
func noLeaks(t testing.TB) {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	fds := testleak.Descriptors(t)
	t.Cleanup(func() {
		if err := goleak.Find(ignore); err != nil {
			t.Error(err)
		}
		if now := testleak.Descriptors(t); now != fds {
			t.Errorf("%d descriptors open, %d before", now, fds)
		}
	})
}

// newGuest returns a guest that lives as long as the test.
func newGuest(t testing.TB, cfg vhostusertest.GuestConfig) *vhostusertest.Guest {
	t.Helper()
	g, err := vhostusertest.NewGuest(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// must ends the test on an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A caller sends echo requests over a ring.
type caller struct {
	ring    *vhostusertest.Ring
	guest   *vhostusertest.Guest
	token   uint64
	pending map[uint16]call
	free    []call // buffers
}

type call struct {
	in, out       virtqueue.GPA
	inMem, outMem []byte
	token         uint64
	silent        bool
}

func newCaller(g *vhostusertest.Guest, ring int) *caller {
	return &caller{ring: g.Ring(ring), guest: g, token: uint64(ring) << 32, pending: map[uint16]call{}}
}

// send adds a request with size bytes of reply and publishes it, kicking if the
// device wants that. It returns the token.
func (c *caller) send(op uint64, size int) (uint64, error) {
	k, err := c.buffers(size)
	if err != nil {
		return 0, err
	}
	c.token++
	k.token, k.silent = c.token, op == opSilent
	binary.LittleEndian.PutUint64(k.inMem, k.token)
	binary.LittleEndian.PutUint64(k.inMem[8:], op)
	clear(k.outMem)
	id, ok, err := c.ring.Driver.Add([]virtqueue.Seg{{Addr: k.in, Len: 8}, {Addr: k.in + 8, Len: 8}},
		[]virtqueue.Seg{{Addr: k.out, Len: 16}, {Addr: k.out + 16, Len: uint32(size - 16)}})
	if err != nil || !ok {
		return 0, fmt.Errorf("ring full: %w", err)
	}
	c.pending[id] = k
	return k.token, c.ring.Kick()
}

// buffers returns buffers for a request, with size bytes of reply.
func (c *caller) buffers(size int) (k call, err error) {
	if n := len(c.free); n > 0 && len(c.free[n-1].outMem) == size {
		k, c.free = c.free[n-1], c.free[:n-1]
		return k, nil
	}
	if k.in, k.inMem, err = c.guest.Alloc(16); err != nil {
		return k, err
	}
	k.out, k.outMem, err = c.guest.Alloc(size)
	return k, err
}

// recv waits for a completion, checks its bytes and returns its token.
func (c *caller) recv() (uint64, error) {
	done, err := c.ring.Wait()
	if err != nil {
		return 0, err
	}
	return c.check(done)
}

// check looks at a completion and returns its token.
func (c *caller) check(done virtqueuetest.Completion) (uint64, error) {
	k := c.pending[done.ID]
	delete(c.pending, done.ID)
	c.free = append(c.free, k)
	want := uint32(len(k.outMem))
	if k.silent {
		want = 0
	}
	if done.Written != want {
		return k.token, fmt.Errorf("request %#x: %d bytes written, wanted %d", k.token, done.Written, want)
	}
	for i := 0; i < int(want); i += 8 {
		if got := binary.LittleEndian.Uint64(k.outMem[i:]); got != k.token {
			return k.token, fmt.Errorf("request %#x: reply %#x at %d", k.token, got, i)
		}
	}
	return k.token, nil
}

// echo does one request.
func (c *caller) echo(size int) error {
	want, err := c.send(opEcho, size)
	if err != nil {
		return err
	}
	got, err := c.recv()
	if err == nil && got != want {
		err = fmt.Errorf("request %#x completed, wanted %#x", got, want)
	}
	return err
}

// stream does n requests, up to depth at a time.
func (c *caller) stream(n, depth, size int, op func(i int) uint64) error {
	sent := 0
	for done := 0; done < n; done++ {
		for ; sent < n && sent-done < depth; sent++ {
			if _, err := c.send(op(sent), size); err != nil {
				return err
			}
		}
		if _, err := c.recv(); err != nil {
			return err
		}
	}
	return nil
}

func always(op uint64) func(int) uint64 { return func(int) uint64 { return op } }

// ringKinds are the ring formats a front-end may choose.
var ringKinds = []struct {
	name string
	cfg  vhostusertest.GuestConfig
}{
	{"split", vhostusertest.GuestConfig{}},
	{"split_event_idx", vhostusertest.GuestConfig{EventIdx: true, Indirect: true, Base: 65530}},
	{"packed", vhostusertest.GuestConfig{Packed: true}},
	{"packed_event_idx", vhostusertest.GuestConfig{Packed: true, EventIdx: true, Indirect: true}},
}

func TestEveryFrontEndIsServed(t *testing.T) {
	for _, order := range vhostusertest.Orders() {
		for _, kind := range ringKinds {
			t.Run(order.String()+"/"+kind.name, func(t *testing.T) {
				noLeaks(t)
				cfg := kind.cfg
				cfg.Order, cfg.QueueSize = order, 32
				g := newGuest(t, cfg)
				s := serve(t, newEcho(3), vhostuser.Options{})
				must(t, g.Start(s.Conn))
				c := newCaller(g, 1)
				for round := range 3 {
					must(t, c.stream(200, 1+round*3, 5000, always(opEcho)))
					must(t, g.Stop(s.Conn))
					must(t, g.Activate(s.Conn))
				}
				must(t, newCaller(g, 0).stream(100, 2, 64, always(opEcho)))
				must(t, s.end(t))
			})
		}
	}
}

// sendAt adds a chain whose writable buffer lies at an offset from a good one.
func (c *caller) sendAt(addr virtqueue.GPA, off uint64) error {
	_, ok, err := c.ring.Driver.Add(nil, []virtqueue.Seg{{Addr: addr + virtqueue.GPA(off), Len: 64}})
	if err != nil || !ok {
		return fmt.Errorf("ring full: %w", err)
	}
	return c.ring.Kick()
}

// sendTo adds a request with 4096 bytes of reply at addr that recv does not
// know, and publishes it without a kick.
func (c *caller) sendTo(addr virtqueue.GPA, op uint64) error {
	k, err := c.buffers(64)
	if err != nil {
		return err
	}
	c.token++
	binary.LittleEndian.PutUint64(k.inMem, c.token)
	binary.LittleEndian.PutUint64(k.inMem[8:], op)
	_, ok, err := c.ring.Driver.Add([]virtqueue.Seg{{Addr: k.in, Len: 16}}, []virtqueue.Seg{{Addr: addr, Len: 4096}})
	if err != nil || !ok {
		return fmt.Errorf("ring full: %w", err)
	}
	c.ring.Driver.Publish()
	return nil
}
