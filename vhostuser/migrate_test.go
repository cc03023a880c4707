package vhostuser_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/vhostuser"
	"vrafs/vhostuser/vhostusertest"
)

// TestDirtyLogCoversEveryChangedPage compares the log with what really changed:
// a snapshot of guest memory before and after the device worked alone.
func TestDirtyLogCoversEveryChangedPage(t *testing.T) {
	eachKind(t, func(t *testing.T, cfg vhostusertest.GuestConfig) {
		cfg.MemSize, cfg.QueueSize = 8<<20, 256
		s, g, e, c := started(t, cfg, vhostuser.Options{})
		must(t, g.StartLog(s.Conn))
		for round := range 4 {
			must(t, s.CallAck(vhostuser.SetVringEnable, vhostusertest.State(1, 0)))
			for i := range 12 {
				_, err := c.send([]uint64{opEcho, opPark, opSilent}[i%3], []int{64, 5000, 1 << 16}[(i+round)%3])
				must(t, err)
			}
			g.Dirty()
			before := bytes.Clone(g.Memory().Mem)
			must(t, s.CallAck(vhostuser.SetVringEnable, vhostusertest.State(1, 1)))
			e.waitParked(4)
			e.open()
			e.workers.Wait()
			must(t, s.CallAck(vhostuser.SetVringEnable, vhostusertest.State(1, 0))) // everything is published
			dirty := map[int]bool{}
			for _, p := range g.Dirty() {
				dirty[p] = true
			}
			changed := 0
			for p := range len(before) / 4096 {
				if bytes.Equal(before[p*4096:][:4096], g.Memory().Mem[p*4096:][:4096]) {
					continue
				}
				changed++
				if !dirty[p] {
					t.Errorf("round %d: page %d changed and is not in the log", round, p)
				}
			}
			// Pages may be logged that kept their bytes, but not many.
			if len(dirty) > changed+4 || changed == 0 {
				t.Errorf("round %d: %d pages logged, %d changed", round, len(dirty), changed)
			}
			recvN(t, c, 12)
			e.shut()
			must(t, s.CallAck(vhostuser.SetVringEnable, vhostusertest.State(1, 1)))
		}
		g.Dirty()
		must(t, g.StopLog(s.Conn))
		must(t, c.stream(20, 2, 64, always(opEcho)))
	})
}

func TestPagesBeyondTheLogAreHarmless(t *testing.T) {
	noLeaks(t)
	s, _, _, c := started(t, vhostusertest.GuestConfig{}, vhostuser.Options{})
	v, err := s.AskU64(vhostuser.SetLogBase, append(vhostusertest.U64(64), vhostusertest.U64(0)...), memFD(t)[0])
	if err != nil || v != 0 {
		t.Fatal(v, err)
	}
	must(t, s.CallAck(vhostuser.SetFeatures, vhostusertest.U64(vhostuser.FeatureVersion1|vhostuser.FeatureProtocolFeatures|vhostuser.FeatureLogAll)))
	must(t, c.stream(50, 4, 8192, always(opEcho)))
}

// TestMigrationUnderLoad moves a running guest from one back-end to another and
// back: memory by the dirty log alone where the device writes it.
func TestMigrationUnderLoad(t *testing.T) {
	testenv.Long(t)
	eachKind(t, func(t *testing.T, cfg vhostusertest.GuestConfig) {
		cfg.MemSize, cfg.Order = 16<<20, vhostusertest.QEMU
		s, g, e, c := started(t, cfg, vhostuser.Options{})
		for round := range testenv.Rounds(50) {
			e.setState([]byte{byte(round), 1, 2, 3}, false)
			must(t, c.stream(100, 8, 4096, always(opEcho)))
			must(t, g.StartLog(s.Conn))
			copied := bytes.Clone(g.Memory().Mem) // the first pass
			e.open()
			for range 3 { // the guest runs on
				must(t, c.stream(40, 8, 4096, func(i int) uint64 { return uint64(i%2) * opPark }))
				copyPages(copied, g.Memory().Mem, g.Dirty())
			}
			e.shut()
			sendN(t, c, 4, opPark) // finished by the stop
			e.waitParked(4)
			time.AfterFunc(time.Millisecond, e.open)
			must(t, g.Stop(s.Conn))
			copyPages(copied, g.Memory().Mem, g.Dirty())
			state, err := s.SaveState()
			must(t, err)
			must(t, s.end(t))
			g.EndMigration()
			// What is not in the log was written by the driver.
			must(t, g.MoveMemory(func(dst, src []byte) {
				for _, p := range c.devicePages(g) {
					if !bytes.Equal(copied[p*4096:][:4096], src[p*4096:][:4096]) {
						t.Errorf("page %d was written by the device and is not in the log", p)
					}
				}
				copy(dst, src)
			}))
			e = newEchoFor(t, 2)
			e.open()
			s = serve(t, e, vhostuser.Options{})
			must(t, g.Realize(s.Conn))
			must(t, s.LoadState(state))
			if !bytes.Equal(e.loaded(), state) {
				t.Errorf("state % x arrived as % x", state, e.loaded())
			}
			must(t, g.Activate(s.Conn))
			recvN(t, c, 4)
		}
	})
}

func copyPages(dst, src []byte, pages []int) {
	for _, p := range pages {
		copy(dst[p*4096:][:4096], src[p*4096:])
	}
}

// devicePages is the pages of reply buffers, which only the device writes once a
// request is sent.
func (c *caller) devicePages(g *vhostusertest.Guest) (pages []int) {
	for _, k := range slices.AppendSeq(slices.Clone(c.free), maps.Values(c.pending)) {
		first := int(k.out-g.Memory().Spec.GPA) / 4096
		for p := first; p < first+(len(k.outMem)+4095)/4096; p++ {
			pages = append(pages, p)
		}
	}
	return pages
}

func TestDeviceStateMovesWhole(t *testing.T) {
	noLeaks(t)
	for _, n := range []int{0, 1, 4096, 1 << 20} {
		state := bytes.Repeat([]byte("state of n bytes"), n/16+1)[:n]
		from := newEcho(2)
		from.setState(state, false)
		s := serve(t, from, vhostuser.Options{})
		must(t, negotiate(s))
		got, err := s.SaveState()
		must(t, err)
		if !bytes.Equal(got, state) {
			t.Errorf("%d bytes saved, want %d", len(got), n)
		}
		to := newEcho(2)
		s = serve(t, to, vhostuser.Options{})
		must(t, negotiate(s))
		must(t, s.LoadState(state))
		if !bytes.Equal(to.loaded(), state) {
			t.Errorf("%d bytes loaded, want %d", len(to.loaded()), n)
		}
	}
}

// negotiate agrees on every protocol feature.
func negotiate(s *served) error {
	s.AckedProto = allProtocol
	return s.Send(vhostuser.SetProtocolFeatures, vhostusertest.U64(allProtocol), false)
}

func TestDeviceStateThatGoesWrong(t *testing.T) {
	noLeaks(t)
	t.Run("refused_by_the_device", func(t *testing.T) {
		e := newEcho(2)
		e.setState(nil, true)
		s := serve(t, e, vhostuser.Options{})
		must(t, negotiate(s))
		if err := s.LoadState([]byte("foreign")); !errors.Is(err, vhostusertest.ErrRefused) {
			t.Errorf("got %v", err)
		}
		e.setState(nil, false)
		must(t, s.LoadState([]byte("own"))) // another try
	})
	t.Run("while_rings_run", func(t *testing.T) {
		s, _, _, _ := started(t, vhostusertest.GuestConfig{}, vhostuser.Options{})
		if err := s.SetDeviceState(0, pipeFD(t)[0]); !errors.Is(err, vhostusertest.ErrRefused) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("check_without_transfer", func(t *testing.T) {
		s := serve(t, newEcho(2), vhostuser.Options{})
		must(t, negotiate(s))
		if err := s.CheckDeviceState(); !errors.Is(err, vhostusertest.ErrRefused) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("bad_direction_phase_and_file", func(t *testing.T) {
		s := serve(t, newEcho(2), vhostuser.Options{})
		must(t, negotiate(s))
		for _, p := range [][]byte{vhostusertest.State(2, 0), vhostusertest.State(0, 1)} {
			v, err := s.AskU64(vhostuser.SetDeviceStateFD, p, pipeFD(t)[0])
			if err != nil || v != 0x101 {
				t.Errorf("payload % x: %#x, %v", p, v, err)
			}
		}
		for _, fd := range []int{memFD(t)[0], eventFD(t)[0]} {
			if err := s.SetDeviceState(0, fd); !errors.Is(err, vhostusertest.ErrRefused) {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("reader_gone", func(t *testing.T) {
		e := newEcho(2)
		e.setState(make([]byte, 1<<20), false)
		s := serve(t, e, vhostuser.Options{})
		must(t, negotiate(s))
		r, w, err := os.Pipe()
		must(t, err)
		must(t, s.SetDeviceState(0, int(w.Fd())))
		must(t, w.Close())
		must(t, r.Close())
		if err := s.CheckDeviceState(); !errors.Is(err, vhostusertest.ErrRefused) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("writer_never_ends", func(t *testing.T) {
		s := serve(t, newEcho(2), vhostuser.Options{})
		must(t, negotiate(s))
		r, w, err := os.Pipe()
		must(t, err)
		must(t, s.SetDeviceState(1, int(r.Fd())))
		must(t, r.Close())
		must(t, s.Send(vhostuser.CheckDeviceState, nil, false))
		_ = s.end(t) // the front-end leaves: the wait ends
		must(t, w.Close())
		// Replaced by another transfer, and ended by a cancelled session.
		s = serve(t, newEcho(2), vhostuser.Options{})
		must(t, negotiate(s))
		for range 3 {
			r, w, err := os.Pipe()
			must(t, err)
			must(t, s.SetDeviceState(1, int(r.Fd())))
			must(t, r.Close())
			defer func() { _ = w.Close() }()
		}
		s.cancel()
		_ = s.wait()
	})
	t.Run("endless_stream", func(t *testing.T) {
		s := serve(t, newEcho(2), vhostuser.Options{MaxState: 1 << 20})
		must(t, negotiate(s))
		r, w, err := os.Pipe()
		must(t, err)
		must(t, s.SetDeviceState(1, int(r.Fd())))
		must(t, r.Close())
		for err == nil {
			_, err = w.Write(make([]byte, 1<<16))
		}
		if !errors.Is(err, unix.EPIPE) {
			t.Errorf("got %v", err)
		}
		must(t, w.Close())
		if err := s.CheckDeviceState(); !errors.Is(err, vhostusertest.ErrRefused) {
			t.Errorf("got %v", err)
		}
	})
}
