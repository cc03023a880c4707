package vm

import (
	"strings"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testtree"
	"vrafs/test/vm/guestapi"
)

// TestDaemonServesOnWhateverTheMachineDoes takes one daemon through what happens
// to virtual machines: memory plugged in, pause, driver unbound, reset, reboot and
// a front-end that crashes. Each is done while the guest reads and compares files,
// as far as the guest survives it.
func TestDaemonServesOnWhateverTheMachineDoes(t *testing.T) {
	needVM(t)
	tree := testtree.Make(t, testtree.Small(3))
	addProgram(t, tree)
	im := makeImage(t, variants[0], tree)
	for _, series := range Series {
		t.Run(series, func(t *testing.T) {
			s := im.serve(t)
			m := bootWith(t, series, Options{PlugMB: 512}, s)
			s.mount(t, m)
			for _, step := range []struct {
				name string
				run  func(t *testing.T, m *Machine, s *share)
			}{
				{"request_queues", usesItsQueues},
				{"memory_hot_plug", plugUnderLoad},
				{"pause_and_resume", pauseUnderLoad},
				{"unbind_and_bind", rebind},
				{"reset_under_load", resetUnderLoad},
				{"guest_reboot", reboot},
			} {
				if !t.Run(step.name, func(t *testing.T) { step.run(t, m, s) }) {
					t.FailNow() // the machine's state is unknown
				}
			}
			s.startLoad(t, m)
			m.Kill()
			t.Run("front_end_crash", func(t *testing.T) {
				m := bootWith(t, series, Options{}, s)
				s.mount(t, m)
				s.compare(t, m)
			})
		})
	}
}

func (s *share) startLoad(t *testing.T, m *Machine) {
	t.Helper()
	do(t, m, guestapi.LoadStart, guestapi.LoadArgs{Path: s.dir(), Manifest: s.manifestFile(), Readers: 4})
}

// stopLoad fails the test if a reader saw an error or wrong bytes.
func stopLoad(t *testing.T, m *Machine) {
	t.Helper()
	r := call[guestapi.LoadResult](t, m, guestapi.LoadStop, nil)
	t.Logf("load: %d files, %d KiB", r.Files, r.Bytes>>10)
	for _, e := range r.Errors {
		t.Error(e)
	}
	if r.Files == 0 {
		t.Error("the load read nothing")
	}
}

// waitLoad returns when the readers have got on by some files.
func waitLoad(t *testing.T, m *Machine, files int64) {
	t.Helper()
	do(t, m, guestapi.LoadWait, guestapi.LoadWaitArgs{Files: files})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// usesItsQueues checks which request queues carry the load: one before Linux 6.10,
// then one per CPU at most.
func usesItsQueues(t *testing.T, m *Machine, s *share) {
	s.startLoad(t, m)
	waitLoad(t, m, 100)
	stopLoad(t, m)
	info := call[guestapi.InfoResult](t, m, guestapi.Info, nil)
	busy := 0
	for name, n := range info.Interrupts {
		if strings.Contains(name, "requests") && n > 20 {
			busy++
		}
	}
	want := 1
	if m.opts.Kernel.Series != Series[0] {
		want = info.CPUs
	}
	if busy != want {
		t.Errorf("%d request queues are busy, want %d: %v", busy, want, info.Interrupts)
	}
}

// plugUnderLoad adds memory, which changes the memory table of a busy device, and
// has the guest use it.
func plugUnderLoad(t *testing.T, m *Machine, s *share) {
	before := call[guestapi.InfoResult](t, m, guestapi.Info, nil)
	s.startLoad(t, m)
	waitLoad(t, m, 20)
	for range 2 {
		check(t, m.PlugMemory(256))
		waitLoad(t, m, 20)
	}
	waitFor(t, "plugged memory in the guest", func() bool {
		return call[guestapi.InfoResult](t, m, guestapi.Info, nil).MemBytes >= before.MemBytes+512<<20
	})
	stopLoad(t, m)
}

// pauseUnderLoad stops and continues the machine with requests in flight: the
// rings are handed back and forth, the session goes on.
func pauseUnderLoad(t *testing.T, m *Machine, s *share) {
	s.startLoad(t, m)
	for range testenv.Rounds(100) {
		waitLoad(t, m, 5)
		check(t, m.Pause())
		check(t, m.Resume())
	}
	waitLoad(t, m, 20)
	stopLoad(t, m)
}

// rebind takes the device from the driver and gives it back, which is a new
// session for the daemon.
func rebind(t *testing.T, m *Machine, s *share) {
	for range testenv.Rounds(50) {
		unmount(t, m, s.dir())
		do(t, m, guestapi.Rebind, nil)
		s.mount(t, m)
		s.checkExec(t, m)
	}
}

func resetUnderLoad(t *testing.T, m *Machine, s *share) {
	for range testenv.Rounds(20) {
		s.startLoad(t, m)
		waitLoad(t, m, 10)
		check(t, m.Reset())
		s.mount(t, m)
	}
}

func reboot(t *testing.T, m *Machine, s *share) {
	check(t, m.Reboot())
	s.mount(t, m)
	s.compare(t, m)
}

// TestGuestUsesPackedRings has a kernel's driver drive packed rings, and hand them
// back and forth.
func TestGuestUsesPackedRings(t *testing.T) {
	needVM(t)
	tree := testtree.Make(t, testtree.Small(4))
	addProgram(t, tree)
	s := makeImage(t, variants[0], tree).serve(t)
	s.device.Packed = true
	m := bootWith(t, Series[len(Series)-1], Options{PlugMB: 512}, s)
	s.checkTree(t, m)
	const ringPacked = 34
	features := "/sys/bus/virtio/devices/virtio0/features" // a digit for each bit
	got := call[guestapi.ReadAtResult](t, m, guestapi.ReadAt, guestapi.ReadAtArgs{Path: features, Offsets: []int64{ringPacked}, Length: 1})
	if got.Digests[0] != hexDigest([]byte("1")) {
		t.Fatal("the guest did not agree to packed rings")
	}
	pauseUnderLoad(t, m, s)
	plugUnderLoad(t, m, s)
	resetUnderLoad(t, m, s)
	s.compare(t, m)
}
