package vhostuser_test

import (
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/vhostuser"
	"vrafs/vhostuser/vhostusertest"
	"vrafs/virtqueue"
)

func TestBadMemoryTablesAreRefused(t *testing.T) {
	noLeaks(t)
	s, g, _, c := started(t, vhostusertest.GuestConfig{Slots: true, MemSize: 1 << 20}, vhostuser.Options{})
	guest := g.Memory().Spec
	region := func(change func(*virtqueue.RegionSpec)) []byte {
		r := spare
		change(&r)
		return vhostusertest.MemReg(r)
	}
	for _, tt := range []struct {
		name    string
		req     vhostuser.Request
		payload []byte
		fds     []int
	}{
		{"empty region", vhostuser.AddMemReg, region(func(r *virtqueue.RegionSpec) { r.Size = 0 }), memFD(t)},
		{"longer than its file", vhostuser.AddMemReg, region(func(r *virtqueue.RegionSpec) { r.Size++ }), memFD(t)},
		{"offset past its file", vhostuser.AddMemReg, region(func(r *virtqueue.RegionSpec) { r.MmapOffset = 1 << 20 }), memFD(t)},
		{"offset and size wrap around", vhostuser.AddMemReg, region(func(r *virtqueue.RegionSpec) { r.MmapOffset = ^uint64(0) }), memFD(t)},
		{"size wraps around", vhostuser.AddMemReg, region(func(r *virtqueue.RegionSpec) { r.Size = ^uint64(0) }), memFD(t)},
		{"guest address wraps around", vhostuser.AddMemReg, region(func(r *virtqueue.RegionSpec) { r.GPA = ^virtqueue.GPA(4095) }), memFD(t)},
		{"user address wraps around", vhostuser.AddMemReg, region(func(r *virtqueue.RegionSpec) { r.UVA = ^virtqueue.UVA(4095) }), memFD(t)},
		{"guest addresses overlap", vhostuser.AddMemReg, region(func(r *virtqueue.RegionSpec) { r.GPA = guest.GPA + 4096 }), memFD(t)},
		{"user addresses overlap", vhostuser.AddMemReg, region(func(r *virtqueue.RegionSpec) { r.UVA = guest.UVA - 4096 }), memFD(t)},
		{"same region again", vhostuser.AddMemReg, vhostusertest.MemReg(guest), []int{g.Memory().FD}},
		{"a pipe", vhostuser.AddMemReg, vhostusertest.MemReg(spare), pipeFD(t)},
		{"an eventfd", vhostuser.AddMemReg, vhostusertest.MemReg(spare), eventFD(t)},
		{"a region that is not there", vhostuser.RemMemReg, vhostusertest.MemReg(spare), nil},
		{"guest address of another", vhostuser.RemMemReg, region(func(r *virtqueue.RegionSpec) { *r = guest; r.GPA++ }), nil},
		{"user address of another", vhostuser.RemMemReg, region(func(r *virtqueue.RegionSpec) { *r = guest; r.UVA++ }), nil},
		{"size of another", vhostuser.RemMemReg, region(func(r *virtqueue.RegionSpec) { *r = guest; r.Size++ }), nil},
		{"table that overlaps itself", vhostuser.SetMemTable, vhostusertest.MemTable(spare, spare), append(memFD(t), memFD(t)...)},
		{"table with a bad second region", vhostuser.SetMemTable, vhostusertest.MemTable(spare, virtqueue.RegionSpec{}), append(memFD(t), memFD(t)...)},
		{"table with fewer regions than it says", vhostuser.SetMemTable, vhostusertest.State(1, 0), memFD(t)},
		{"table with more descriptors than regions", vhostuser.SetMemTable, vhostusertest.MemTable(spare), append(memFD(t), memFD(t)...)},
		{"table of 2^32-1 regions", vhostuser.SetMemTable, vhostusertest.State(-1, 0), nil},
		{"log of size 0", vhostuser.SetLogBase, append(vhostusertest.U64(0), vhostusertest.U64(0)...), memFD(t)},
		{"log longer than its file", vhostuser.SetLogBase, append(vhostusertest.U64(1<<21), vhostusertest.U64(0)...), memFD(t)},
		{"log in a pipe", vhostuser.SetLogBase, append(vhostusertest.U64(4096), vhostusertest.U64(0)...), pipeFD(t)},
	} {
		if got := s.exchange(t, tt.req, tt.payload, true, false, tt.fds...); got != refusal {
			t.Errorf("%s: got %v", tt.name, got)
		}
		must(t, c.echo(64)) // the old table stands
	}
	if n, err := s.AskU64(vhostuser.GetMaxMemSlots, nil); err != nil || n != vhostuser.MaxMemSlots {
		t.Errorf("%d slots, %v", n, err)
	}
}

func TestEverySlotCanBeUsed(t *testing.T) {
	noLeaks(t)
	s, _, _, c := started(t, vhostusertest.GuestConfig{Slots: true, MemSize: 1 << 20}, vhostuser.Options{})
	fd := memFD(t)[0]
	reg := func(i int) []byte {
		return vhostusertest.MemReg(virtqueue.RegionSpec{GPA: virtqueue.GPA(i) << 13, UVA: virtqueue.UVA(i) << 13, Size: 4096})
	}
	for i := 1; i < vhostuser.MaxMemSlots; i++ {
		must(t, s.CallAck(vhostuser.AddMemReg, reg(i), fd))
	}
	if got := s.exchange(t, vhostuser.AddMemReg, reg(vhostuser.MaxMemSlots), true, false, fd); got != refusal {
		t.Errorf("one too many: %v", got)
	}
	must(t, c.stream(20, 4, 64, always(opEcho)))
	for i := 1; i < vhostuser.MaxMemSlots; i++ {
		// Some front-ends send the descriptor again.
		must(t, s.CallAck(vhostuser.RemMemReg, reg(i), fd))
	}
}

// poison fills the region so that a byte written to a wrong mapping shows.
func poison(r *vhostusertest.Region) {
	for i := range r.Mem {
		r.Mem[i] = 0xA5
	}
}

// poisoned reports whether the region is as poison left it.
func poisoned(r *vhostusertest.Region) bool {
	for _, b := range r.Mem {
		if b != 0xA5 {
			return false
		}
	}
	return true
}

// TestMemoryHotPlugUnderLoad plugs and unplugs regions as fast as it can, more than
// a thousand times a second on an idle machine, while requests are served, some of
// them stalled into regions that go away. New mappings are poisoned: a stale host
// address would leave its mark there.
func TestMemoryHotPlugUnderLoad(t *testing.T) {
	testenv.Long(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4)) // queues + 2, as the daemon sets it
	for _, slots := range []bool{true, false} {
		noLeaks(t)
		s, g, e, c := started(t, vhostusertest.GuestConfig{Slots: slots, EventIdx: true, Indirect: true}, vhostuser.Options{StopGrace: time.Millisecond})
		stop, load := make(chan struct{}), make(chan error, 1)
		hiprio := newCaller(g, 0)
		go func() {
			for {
				select {
				case <-stop:
					load <- nil
					return
				default:
				}
				if err := hiprio.stream(50, 8, 8192, always(opEcho)); err != nil {
					load <- err
					return
				}
			}
		}()
		var took []time.Duration // until the acknowledgement
		timed := func(change func(*served, *vhostusertest.Guest, *vhostusertest.Region) error, r *vhostusertest.Region) {
			begin := time.Now()
			must(t, change(s, g, r))
			took = append(took, time.Since(begin))
		}
		rounds, began := testenv.Rounds(5000), time.Now()
		e.open()
		for round := range rounds {
			const gpa, uva = 0x8000_0000, 0x1000_0000
			r, err := vhostusertest.NewRegion(gpa, uva, 1<<16)
			must(t, err)
			poison(r)
			timed(plugAcked, r)
			stalled := round%16 == 0
			if stalled { // a request into the region outlives it
				e.shut()
				must(t, c.sendTo(gpa, opPark))
				must(t, vhostusertest.Signal(c.ring.KickFD()))
				e.waitParked(1)
			}
			timed(unplugAcked, r)
			if !poisoned(r) {
				t.Fatal("a byte was written to a region that no finished request names")
			}
			if stalled {
				again, err := vhostusertest.NewRegion(gpa+1<<20, uva, 1<<16)
				must(t, err)
				poison(again)
				timed(plugAcked, again)
				e.open()
				done, err := c.ring.Wait()
				if err != nil || done.Written != 0 {
					t.Fatalf("request into a region that is gone: %v, %v", done, err)
				}
				if !poisoned(r) || !poisoned(again) {
					t.Fatal("a stalled request wrote through a stale address")
				}
				timed(unplugAcked, again)
				again.Close()
			}
			r.Close()
		}
		close(stop)
		must(t, <-load)
		e.mu.Lock()
		gone := e.gone
		e.mu.Unlock()
		if want := (rounds + 15) / 16; gone != want {
			t.Errorf("%d requests found their memory gone, want %d", gone, want)
		}
		rate := float64(len(took)) / time.Since(began).Seconds()
		slices.Sort(took)
		t.Logf("slots %v: %d changes, %.0f a second, acknowledged in %v (median), %v (slowest)",
			slots, len(took), rate, took[len(took)/2], took[len(took)-1])
		must(t, s.end(t))
	}
}

// plugAcked is Plug with an acknowledgement whatever the order does.
func plugAcked(s *served, g *vhostusertest.Guest, r *vhostusertest.Region) error {
	s.Ack = true
	return g.Plug(s.Conn, r)
}

func unplugAcked(s *served, g *vhostusertest.Guest, r *vhostusertest.Region) error {
	s.Ack = true
	return g.Unplug(s.Conn, r)
}

// TestRingMemoryComesAndGoes takes the ring's own memory away while a request is
// stalled: its completion is published when the memory is back.
func TestRingMemoryComesAndGoes(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg vhostusertest.GuestConfig) {
		cfg.Slots = true
		s, g, e, c := started(t, cfg, vhostuser.Options{})
		r := g.Memory()
		for range 20 {
			sendN(t, c, 2, opPark)
			e.waitParked(2)
			must(t, s.CallAck(vhostuser.RemMemReg, vhostusertest.MemReg(r.Spec)))
			e.open()
			e.workers.Wait()
			must(t, s.CallAck(vhostuser.AddMemReg, vhostusertest.MemReg(r.Spec), r.FD))
			for range 2 { // the memory was gone when they were answered
				if done, err := c.ring.Wait(); err != nil || done.Written != 0 {
					t.Fatalf("completion %v, %v", done, err)
				}
			}
			must(t, c.stream(4, 2, 64, always(opEcho)))
			e.shut()
		}
		// An empty table, as between guest resets.
		must(t, s.CallAck(vhostuser.SetMemTable, vhostusertest.MemTable()))
		sendN(t, c, 1, opEcho)
		must(t, s.CallAck(vhostuser.SetMemTable, vhostusertest.MemTable(r.Spec), r.FD))
		recvN(t, c, 1)
	})
}

// TestTruncatedMemoryBreaksRingsNotTheProcess shortens the guest's file under a
// running device: touching it is a fault.
func TestTruncatedMemoryBreaksRingsNotTheProcess(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg vhostusertest.GuestConfig) {
		for _, part := range []string{"buffers", "all"} {
			var stats vhostuser.Stats
			cfg.MemSize = 4 << 20
			s, g, e, c := started(t, cfg, vhostuser.Options{Stats: &stats, StopGrace: time.Millisecond, AbortWait: time.Millisecond})
			must(t, c.stream(10, 2, 64, always(opEcho)))
			sendN(t, c, 1, opPark)
			e.waitParked(1)
			size := int64(0)
			if part == "buffers" {
				size = 1 << 20
				gpa, _, err := g.Alloc(2 << 20) // what comes next lies past the new end
				must(t, err)
				must(t, c.sendTo(gpa+(1<<20), opEcho))
			}
			must(t, unix.Ftruncate(g.Memory().FD, size))
			must(t, vhostusertest.Signal(c.ring.KickFD()))
			if !vhostusertest.Readable(c.ring.ErrFD(), time.Minute) {
				t.Fatal("the error descriptor was not signalled")
			}
			e.open()
			e.workers.Wait()
			if stats.Faults.Load() == 0 {
				t.Error("no fault was counted")
			}
			_ = s.end(t)
		}
		// The next guest is served.
		_, _, _, c := started(t, vhostusertest.GuestConfig{}, vhostuser.Options{})
		must(t, c.stream(10, 2, 64, always(opEcho)))
	})
}

// TestRegionOnAFileThatNeverAnswers gives the back-end memory that a FUSE server
// holds: a load from it would stop the whole process, and so would fstat, fstatfs
// and close its control goroutine. No option allows it.
func TestRegionOnAFileThatNeverAnswers(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE)
	t.Run("tmpfs_only", func(t *testing.T) { neverAnswers(t, vhostuser.Options{}) })
	t.Run("any_memory", func(t *testing.T) { neverAnswers(t, vhostuser.Options{AnyMemory: true}) })
}

func neverAnswers(t *testing.T, o vhostuser.Options) {
	noLeaks(t)
	fd, abort := hungFile(t)
	s, g, _, _ := started(t, vhostusertest.GuestConfig{Slots: true}, o)
	for _, tt := range []struct {
		req     vhostuser.Request
		payload []byte
	}{
		{vhostuser.AddMemReg, vhostusertest.MemReg(spare)},
		{vhostuser.SetMemTable, vhostusertest.MemTable(spare)},
		{vhostuser.SetLogBase, append(vhostusertest.U64(4096), vhostusertest.U64(0)...)},
		{vhostuser.SetVringKick, vhostusertest.U64(0)},
		{vhostuser.SetVringErr, vhostusertest.U64(0)},
		{vhostuser.SetLogFD, nil},
		{vhostuser.SetDeviceStateFD, vhostusertest.State(0, 0)},
		{9999, nil},
	} {
		if got := s.exchange(t, tt.req, tt.payload, true, false, fd); got != refusal && tt.req != vhostuser.SetDeviceStateFD {
			t.Errorf("%v: got %v", tt.req, got)
		}
	}
	must(t, newCaller(g, 1).stream(20, 2, 64, always(opEcho)))
	must(t, s.end(t))
	runtime.GC()
	// A second session is served, and a cancelled one ends at once.
	s2, _, _, c := started(t, vhostusertest.GuestConfig{}, o)
	must(t, c.stream(20, 2, 64, always(opEcho)))
	begin := time.Now()
	s2.cancel()
	if err := s2.wait(); err == nil {
		t.Error("a cancelled session returned nil")
	}
	t.Logf("shut down in %v", time.Since(begin))
	// Who goes on sending such files is hung up on before descriptors run out.
	s3 := serve(t, newEcho(1), o)
	for range 200 {
		if s3.Send(vhostuser.GetFeatures, nil, false, fd) != nil {
			break
		}
	}
	if err := s3.wait(); !errors.Is(err, vhostuser.ErrProtocol) {
		t.Errorf("Serve returned %v", err)
	}
	abort()
}
