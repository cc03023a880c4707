package vhostuser_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/vhostuser"
	"vrafs/vhostuser/vhostusertest"
)

// started returns a session with a running guest, and a caller of its ring 1.
func started(t testing.TB, cfg vhostusertest.GuestConfig, o vhostuser.Options) (*served, *vhostusertest.Guest, *echo, *caller) {
	t.Helper()
	g := newGuest(t, cfg)
	e := newEchoFor(t, 2)
	s := serve(t, e, o)
	must(t, g.Start(s.Conn))
	return s, g, e, newCaller(g, 1)
}

// each runs f for every ring format.
func eachKind(t *testing.T, f func(t *testing.T, cfg vhostusertest.GuestConfig)) {
	for _, k := range ringKinds {
		t.Run(k.name, func(t *testing.T) {
			noLeaks(t)
			f(t, k.cfg)
		})
	}
}

// sendN sends n requests.
func sendN(t testing.TB, c *caller, n int, op uint64) {
	t.Helper()
	for range n {
		_, err := c.send(op, 4096)
		must(t, err)
	}
}

func recvN(t testing.TB, c *caller, n int) {
	t.Helper()
	for range n {
		_, err := c.recv()
		must(t, err)
	}
}

func TestStopWaitsForRequestsInFlight(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg vhostusertest.GuestConfig) {
		s, g, e, c := started(t, cfg, vhostuser.Options{StopGrace: time.Hour})
		sendN(t, c, 5, opPark)
		e.waitParked(5)
		must(t, s.Send(vhostuser.GetVringBase, vhostusertest.State(1, 0), false))
		e.open()
		p, _, err := s.Receive(vhostuser.GetVringBase)
		if err != nil || len(p) != 8 {
			t.Fatal(p, err)
		}
		if !cfg.Packed && cfg.Base+5 != uint16(p[4])|uint16(p[5])<<8 {
			t.Errorf("base % x after 5 requests from %d", p[4:], cfg.Base)
		}
		// Everything was published before the answer.
		for range 5 {
			done, ok, err := c.ring.Driver.Poll()
			if !ok || err != nil || done.Written != 4096 {
				t.Fatalf("completion %v, %v, %v", done, ok, err)
			}
		}
		must(t, g.Stop(s.Conn))
	})
}

func TestStopAbortsWhatDoesNotEnd(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg vhostusertest.GuestConfig) {
		s, g, e, c := started(t, cfg, vhostuser.Options{StopGrace: time.Millisecond})
		sendN(t, c, 3, opPark)
		e.waitParked(3)
		must(t, g.Stop(s.Conn))
		for range 3 {
			done, ok, err := c.ring.Driver.Poll()
			if !ok || err != nil || done.Written != 0 {
				t.Fatalf("completion %v, %v, %v", done, ok, err)
			}
		}
		e.open()
		must(t, g.Activate(s.Conn))
		must(t, c.stream(50, 3, 64, always(opPark)))
	})
}

func TestStopGivesUpWhatIgnoresTheAbort(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg vhostusertest.GuestConfig) {
		var stats vhostuser.Stats
		s, g, e, c := started(t, cfg, vhostuser.Options{StopGrace: time.Millisecond, AbortWait: time.Millisecond, Stats: &stats})
		sendN(t, c, 2, opStuck)
		e.waitParked(2)
		must(t, g.Stop(s.Conn))
		if n := stats.Lost.Load(); n != 2 {
			t.Errorf("%d requests counted as lost, want 2", n)
		}
		// Late completions find a closed queue and must leave memory alone.
		before := append([]byte{}, g.Memory().Mem[:1<<18]...)
		e.open()
		e.workers.Wait()
		if string(before) != string(g.Memory().Mem[:1<<18]) {
			t.Error("guest memory changed after the stop")
		}
	})
}

// A keeper remembers ring 1's Vring.
type keeper struct {
	*echo
	v *vhostuser.Vring
}

func (k *keeper) StartQueue(v *vhostuser.Vring) vhostuser.QueueHandler {
	if v.Index() == 1 {
		k.v = v
	}
	return k.echo.StartQueue(v)
}

// TestFaultAfterTheStopTouchesNothing lets a worker come too late with a fault:
// the ring's descriptors may be somebody else's by then.
func TestFaultAfterTheStopTouchesNothing(t *testing.T) {
	noLeaks(t)
	var stats vhostuser.Stats
	k := &keeper{echo: newEchoFor(t, 2)}
	g := newGuest(t, vhostusertest.GuestConfig{})
	s := serve(t, k, vhostuser.Options{Stats: &stats})
	must(t, g.Start(s.Conn))
	must(t, newCaller(g, 1).echo(64))
	must(t, s.end(t))
	var fds []int
	for range 32 {
		fds = append(fds, eventFD(t)...)
	}
	k.v.Fault("too late")
	k.v.Complete(0, nil, 0)
	for _, fd := range fds {
		if vhostusertest.Readable(fd, 0) {
			t.Error("a descriptor that is not the ring's was signalled")
		}
	}
	if n := stats.BrokenRings.Load(); n != 0 {
		t.Errorf("%d broken rings counted", n)
	}
}

func TestCancelledSessionDoesNotWaitForRequests(t *testing.T) {
	for _, op := range []uint64{opPark, opStuck} {
		noLeaks(t)
		s, _, e, c := started(t, vhostusertest.GuestConfig{}, vhostuser.Options{StopGrace: time.Hour, AbortWait: time.Hour})
		sendN(t, c, 2, op)
		e.waitParked(2)
		must(t, s.Send(vhostuser.GetVringBase, vhostusertest.State(1, 0), false))
		s.cancel()
		if err := s.wait(); !errors.Is(err, context.Canceled) {
			t.Errorf("Serve returned %v", err)
		}
	}
}

func TestRequestsPublishedBeforeTheStartAreServedWithoutKick(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg vhostusertest.GuestConfig) {
		s, g, _, c := started(t, cfg, vhostuser.Options{})
		must(t, g.Stop(s.Conn))
		sendN(t, c, 4, opEcho)
		// The kick is lost, as if a former life of the back-end had taken it.
		var b [8]byte
		_, _ = unix.Read(c.ring.KickFD(), b[:])
		must(t, g.Activate(s.Conn))
		recvN(t, c, 4)
	})
}

func TestDisabledRingIsLeftAlone(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg vhostusertest.GuestConfig) {
		s, _, e, c := started(t, cfg, vhostuser.Options{})
		must(t, c.stream(10, 2, 64, always(opEcho)))
		must(t, s.CallAck(vhostuser.SetVringEnable, vhostusertest.State(1, 0)))
		handled := len(e.handled())
		sendN(t, c, 4, opEcho)
		must(t, s.CallAck(vhostuser.SetVringEnable, vhostusertest.State(0, 1))) // time for a mistake
		if n := len(e.handled()); n != handled {
			t.Errorf("%d requests taken from a disabled ring", n-handled)
		}
		must(t, s.CallAck(vhostuser.SetVringEnable, vhostusertest.State(1, 1)))
		recvN(t, c, 4)
		must(t, s.CallAck(vhostuser.ResetOwner, nil))
		sendN(t, c, 4, opEcho)
		must(t, s.CallAck(vhostuser.SetVringEnable, vhostusertest.State(1, 1)))
		recvN(t, c, 4)
	})
}

func TestRingWithoutKickDescriptorIsPolled(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg vhostusertest.GuestConfig) {
		s, _, _, c := started(t, cfg, vhostuser.Options{})
		must(t, s.CallAck(vhostuser.SetVringKick, vhostusertest.U64(1|1<<8)))
		must(t, c.stream(50, 4, 64, always(opEcho)))
	})
}

func TestDescriptorThatIsNoEventFDCannotSpinOrBlock(t *testing.T) {
	noLeaks(t)
	s, _, _, c := started(t, vhostusertest.GuestConfig{}, vhostuser.Options{})
	// An epoll descriptor that is always readable and can't be read.
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	must(t, err)
	owned(t, ep)
	fd := eventFD(t)[0]
	must(t, vhostusertest.Signal(fd))
	must(t, unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN}))
	must(t, s.CallAck(vhostuser.SetVringKick, vhostusertest.U64(1), ep))
	must(t, c.stream(50, 4, 64, always(opEcho))) // polled instead
	for _, bad := range [][]int{pipeFD(t), memFD(t)} {
		for _, req := range []vhostuser.Request{vhostuser.SetVringKick, vhostuser.SetVringCall, vhostuser.SetVringErr} {
			if got := s.exchange(t, req, vhostusertest.U64(1), true, false, bad...); got != refusal {
				t.Errorf("%v: got %v", req, got)
			}
		}
	}
}

func TestReplacedCallDescriptorIsTheOneCalled(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg vhostusertest.GuestConfig) {
		s, _, e, c := started(t, cfg, vhostuser.Options{})
		sendN(t, c, 1, opPark)
		e.waitParked(1)
		c.ring.Driver.WantCall()
		other := eventFD(t)[0]
		must(t, s.CallAck(vhostuser.SetVringCall, vhostusertest.U64(1), other))
		vhostusertest.Readable(c.ring.CallFD(), 0)
		var b [8]byte
		_, _ = unix.Read(c.ring.CallFD(), b[:]) // left from earlier
		e.open()
		if !vhostusertest.Readable(other, time.Minute) {
			t.Error("the new descriptor was not called")
		}
		if vhostusertest.Readable(c.ring.CallFD(), 0) {
			t.Error("the old descriptor was called")
		}
		recvN(t, c, 1)
	})
}

func TestCallThatHadNoDescriptorIsMadeUpFor(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg vhostusertest.GuestConfig) {
		s, _, e, c := started(t, cfg, vhostuser.Options{})
		must(t, s.CallAck(vhostuser.SetVringCall, vhostusertest.U64(1|1<<8)))
		c.ring.Driver.WantCall()
		sendN(t, c, 1, opPark)
		e.waitParked(1)
		e.open()
		e.workers.Wait()
		other := eventFD(t)[0]
		must(t, s.CallAck(vhostuser.SetVringCall, vhostusertest.U64(1), other))
		if !vhostusertest.Readable(other, 0) {
			t.Error("the completion was never called out")
		}
		recvN(t, c, 1)
	})
}

func TestResetEndsTheSessionOfTheDevice(t *testing.T) {
	for _, how := range []struct {
		name    string
		req     vhostuser.Request
		payload []byte
	}{
		{"RESET_DEVICE", vhostuser.ResetDevice, nil},
		{"SET_STATUS_0", vhostuser.SetStatus, vhostusertest.U64(0)},
	} {
		t.Run(how.name, func(t *testing.T) {
			noLeaks(t)
			s, g, e, c := started(t, vhostusertest.GuestConfig{}, vhostuser.Options{Status: true, StopGrace: time.Millisecond})
			must(t, s.CallAck(vhostuser.SetStatus, vhostusertest.U64(0xf)))
			if v, err := s.AskU64(vhostuser.GetStatus, nil); err != nil || v != 0xf {
				t.Errorf("status %#x, %v", v, err)
			}
			sendN(t, c, 2, opPark)
			e.waitParked(2)
			must(t, s.CallAck(how.req, how.payload))
			e.mu.Lock()
			if e.resets != 1 {
				t.Errorf("device was reset %d times", e.resets)
			}
			e.mu.Unlock()
			if v, err := s.AskU64(vhostuser.GetStatus, nil); err != nil || v != 0 {
				t.Errorf("status %#x, %v after the reset", v, err)
			}
			// A new driver with new rings, memory still known.
			g2 := newGuest(t, vhostusertest.GuestConfig{})
			must(t, g2.Start(s.Conn))
			must(t, newCaller(g2, 1).stream(20, 2, 64, always(opEcho)))
			must(t, g.Stop(s.Conn))
		})
	}
}

func TestWithoutProtocolFeaturesRingsNeedNoEnable(t *testing.T) {
	noLeaks(t)
	g := newGuest(t, vhostusertest.GuestConfig{})
	s := serve(t, newEcho(2), vhostuser.Options{})
	must(t, s.Send(vhostuser.SetFeatures, vhostusertest.U64(vhostuser.FeatureVersion1), false))
	must(t, s.Send(vhostuser.SetMemTable, vhostusertest.MemTable(g.Memory().Spec), false, g.Memory().FD))
	r := g.Ring(1)
	must(t, s.Send(vhostuser.SetVringNum, vhostusertest.State(1, 128), false))
	must(t, s.Send(vhostuser.SetVringCall, vhostusertest.U64(1), false, r.CallFD()))
	must(t, s.Send(vhostuser.SetVringAddr, r.AddrBytes(), false))
	must(t, s.Send(vhostuser.SetVringKick, vhostusertest.U64(1), false, r.KickFD()))
	must(t, newCaller(g, 1).stream(20, 2, 64, always(opEcho)))
	if got := s.exchange(t, vhostuser.SetVringEnable, vhostusertest.State(1, 1), false, false); got != hangup {
		t.Errorf("SET_VRING_ENABLE without PROTOCOL_FEATURES: %v", got)
	}
}

func TestFileFlagsOfReceivedDescriptorsStay(t *testing.T) {
	for _, blocking := range []bool{false, true} {
		noLeaks(t)
		s, g, _, c := started(t, vhostusertest.GuestConfig{BlockingFDs: blocking, EventIdx: true}, vhostuser.Options{})
		fds := []int{c.ring.KickFD(), c.ring.CallFD(), c.ring.ErrFD(), g.Memory().FD}
		log := eventFD(t)[0]
		must(t, s.CallAck(vhostuser.SetLogFD, nil, log))
		var before []int
		for _, fd := range append(fds, log) {
			before = append(before, fileFlags(t, fd))
		}
		must(t, c.stream(100, 4, 64, always(opEcho)))
		must(t, g.Stop(s.Conn))
		must(t, g.Activate(s.Conn))
		must(t, s.end(t))
		for i, fd := range append(fds, log) {
			if now := fileFlags(t, fd); now != before[i] {
				t.Errorf("descriptor %d: flags %#x, were %#x", i, now, before[i])
			}
		}
		if got := before[0]&unix.O_NONBLOCK == 0; got != blocking {
			t.Errorf("test is wrong: kick descriptor blocking: %v", got)
		}
	}
}

func TestInheritedSocketKeepsItsFlags(t *testing.T) {
	for _, nonblock := range []int{0, unix.SOCK_NONBLOCK} {
		noLeaks(t)
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|nonblock, 0)
		must(t, err)
		parent, err := unix.FcntlInt(uintptr(pair[1]), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		owned(t, parent)
		done := make(chan error, 1)
		go func() { done <- vhostuser.ServeFD(t.Context(), pair[1], newEcho(1), vhostuser.Options{}) }()
		want := fileFlags(t, parent)
		_, err = unix.Write(pair[0], vhostusertest.Encode(vhostuser.GetFeatures, 1, nil))
		must(t, err)
		vhostusertest.Readable(pair[0], time.Minute)
		if got := fileFlags(t, parent); got != want {
			t.Errorf("flags %#x, were %#x", got, want)
		}
		must(t, unix.Close(pair[0]))
		must(t, <-done)
	}
}

func fileFlags(t testing.TB, fd int) int {
	t.Helper()
	f, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	must(t, err)
	return f
}

func TestHandlerThatPanicsBreaksItsRingOnly(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg vhostusertest.GuestConfig) {
		var stats vhostuser.Stats
		cfg.QueueSize = 64
		s, g, _, c := started(t, cfg, vhostuser.Options{StopGrace: time.Hour, Stats: &stats})
		sendN(t, c, 1, opPanic)
		if !vhostusertest.Readable(c.ring.ErrFD(), time.Minute) {
			t.Fatal("the error descriptor was not signalled")
		}
		must(t, newCaller(g, 0).stream(20, 2, 64, always(opEcho)))
		// The stop does not wait for the request that died.
		must(t, g.Stop(s.Conn))
		if n := stats.BrokenRings.Load(); n != 1 {
			t.Errorf("%d broken rings counted", n)
		}
		must(t, g.Activate(s.Conn))
		must(t, c.stream(20, 2, 64, always(opEcho)))
	})
}

func TestCorruptRingStopsThatRingOnly(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg vhostusertest.GuestConfig) {
		s, g, e, c := started(t, cfg, vhostuser.Options{})
		sendN(t, c, 2, opPark)
		e.waitParked(2)
		bad, _, err := g.Alloc(4096)
		must(t, err)
		must(t, c.sendAt(bad, 1<<40)) // a buffer outside guest memory
		if !vhostusertest.Readable(c.ring.ErrFD(), time.Minute) {
			t.Fatal("the error descriptor was not signalled")
		}
		must(t, newCaller(g, 0).stream(20, 2, 64, always(opEcho)))
		e.open()
		must(t, g.Stop(s.Conn)) // waits for the parked ones
		// A driver that knows starts over with a new ring.
		g2 := newGuest(t, cfg)
		must(t, g2.Start(s.Conn))
		must(t, newCaller(g2, 1).stream(20, 2, 64, always(opEcho)))
	})
}

func TestBadValuesAreRefused(t *testing.T) {
	noLeaks(t)
	s, _, _, c := started(t, vhostusertest.GuestConfig{EventIdx: true}, vhostuser.Options{MaxQueueSize: 256, Status: true})
	desc, avail, used := c.ring.Driver.Layout()
	must(t, s.Call(vhostuser.SetVringEnable, vhostusertest.State(0, 0)))
	if _, err := s.GetVringBase(0); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		req     vhostuser.Request
		payload []byte
		fds     []int
	}{
		{"num of ring 2", vhostuser.SetVringNum, vhostusertest.State(2, 64), nil},
		{"num 0", vhostuser.SetVringNum, vhostusertest.State(0, 0), nil},
		{"num 96", vhostuser.SetVringNum, vhostusertest.State(0, 96), nil},
		{"num 512", vhostuser.SetVringNum, vhostusertest.State(0, 512), nil},
		{"num 2^31", vhostuser.SetVringNum, vhostusertest.State(0, 1<<31), nil},
		{"num of a running ring", vhostuser.SetVringNum, vhostusertest.State(1, 64), nil},
		{"base of ring 2", vhostuser.SetVringBase, vhostusertest.State(2, 0), nil},
		{"base 65536", vhostuser.SetVringBase, vhostusertest.State(0, 65536), nil},
		{"base of a running ring", vhostuser.SetVringBase, vhostusertest.State(1, 1), nil},
		{"addr of ring 2", vhostuser.SetVringAddr, vhostusertest.Addr(2, 0, desc, used, avail, 0), nil},
		{"addr of a running ring", vhostuser.SetVringAddr, vhostusertest.Addr(1, 0, desc+16, used, avail, 0), nil},
		{"kick of ring 255", vhostuser.SetVringKick, vhostusertest.U64(255 | 1<<8), nil},
		{"kick with bit 9", vhostuser.SetVringKick, vhostusertest.U64(1 << 9), eventFD(t)},
		{"kick with no descriptor", vhostuser.SetVringKick, vhostusertest.U64(0), nil},
		{"call with both", vhostuser.SetVringCall, vhostusertest.U64(1 << 8), eventFD(t)},
		{"enable 2", vhostuser.SetVringEnable, vhostusertest.State(0, 2), nil},
		{"enable of ring 2", vhostuser.SetVringEnable, vhostusertest.State(2, 1), nil},
		{"features without VERSION_1", vhostuser.SetFeatures, vhostusertest.U64(1 << 30), nil},
		{"features with IN_ORDER", vhostuser.SetFeatures, vhostusertest.U64(1<<30 | 1<<32 | 1<<35), nil},
		{"features with ACCESS_PLATFORM", vhostuser.SetFeatures, vhostusertest.U64(1<<30 | 1<<32 | 1<<33), nil},
		{"status 256", vhostuser.SetStatus, vhostusertest.U64(256), nil},
		{"config written", vhostuser.SetConfig, append(vhostusertest.State(0, 4), 0, 0, 0, 0, 'e', 'c', 'h', 'o'), nil},
	} {
		if got := s.exchange(t, tt.req, tt.payload, true, false, tt.fds...); got != refusal {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
	must(t, c.stream(50, 4, 64, always(opEcho)))

}

func TestBadRingAddressesAreRefusedAtTheStart(t *testing.T) {
	noLeaks(t)
	s, _, _, c := started(t, vhostusertest.GuestConfig{}, vhostuser.Options{})
	desc, avail, used := c.ring.Driver.Layout()
	for _, tt := range []struct {
		name    string
		payload []byte
	}{
		{"unaligned descriptors", vhostusertest.Addr(1, 0, desc+8, used, avail, 0)},
		{"unaligned available ring", vhostusertest.Addr(1, 0, desc, used, avail+2, 0)},
		{"unaligned used ring", vhostusertest.Addr(1, 0, desc, used+2, avail, 0)},
		{"used over available ring", vhostusertest.Addr(1, 0, desc, avail, avail, 0)},
		{"used inside descriptors", vhostusertest.Addr(1, 0, desc, desc+64, avail, 0)},
		{"outside memory", vhostusertest.Addr(1, 0, desc, used, 0x1000, 0)},
		{"wrapping around", vhostusertest.Addr(1, 0, ^desc&^15, used, avail, 0)},
	} {
		if _, err := s.GetVringBase(1); err != nil {
			t.Fatal(err)
		}
		must(t, s.CallAck(vhostuser.SetVringAddr, tt.payload))
		got := s.exchange(t, vhostuser.SetVringKick, vhostusertest.U64(1), true, false, c.ring.KickFD())
		if got != refusal {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
	if _, err := s.GetVringBase(1); err != nil {
		t.Fatal(err)
	}
	must(t, s.CallAck(vhostuser.SetVringCall, vhostusertest.U64(1), c.ring.CallFD()))
	must(t, s.CallAck(vhostuser.SetVringAddr, c.ring.AddrBytes()))
	must(t, s.CallAck(vhostuser.SetVringKick, vhostusertest.U64(1), c.ring.KickFD()))
	must(t, c.stream(50, 4, 64, always(opEcho)))
}
