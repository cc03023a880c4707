package vhostuser_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/vhostuser"
	"vrafs/vhostuser/vhostusertest"
)

// tracked is a guest whose requests survive its back-end.
var tracked = vhostusertest.GuestConfig{Order: vhostusertest.CloudHypervisor, Inflight: true, EventIdx: true,
	Indirect: true, QueueSize: 64, Base: 65500}

// eachTracked runs f with tracked guests of both kinds of rings.
func eachTracked(t *testing.T, f func(t *testing.T, cfg vhostusertest.GuestConfig)) {
	t.Run("split", func(t *testing.T) { f(t, tracked) })
	t.Run("packed", func(t *testing.T) {
		cfg := tracked
		cfg.Packed, cfg.QueueSize = true, 200
		cfg.Indirect = false // so that chains take several entries
		f(t, cfg)
	})
}

// TestRequestsSurviveTheConnection hangs up with requests in every state, and
// lets the front-end come back. The driver complains of any completion that it
// does not wait for, so nothing is doubled either.
func TestRequestsSurviveTheConnection(t *testing.T) {
	eachTracked(t, surviveConnection)
}

func surviveConnection(t *testing.T, cfg vhostusertest.GuestConfig) {
	noLeaks(t)
	g := newGuest(t, cfg)
	e := newEchoFor(t, 2)
	s := serve(t, e, vhostuser.Options{})
	must(t, g.Start(s.Conn))
	c := newCaller(g, 1)
	r := rand.New(rand.NewPCG(1, 2))
	for round := range testenv.Rounds(500) {
		if round%2 == 0 {
			e.shut()
		}
		for range r.IntN(20) {
			_, err := c.send([]uint64{opEcho, opPark, opSilent}[r.IntN(3)], 64)
			must(t, err)
		}
		for range r.IntN(3) { // some are taken by the driver, most are not
			if done, ok, err := c.ring.Driver.Poll(); err != nil {
				t.Fatal(err)
			} else if ok {
				delete(c.pending, done.ID)
			}
		}
		_ = s.end(t)
		e.open()
		s = serve(t, e, vhostuser.Options{})
		must(t, g.Reconnect(s.Conn))
		for len(c.pending) > 0 {
			_, err := c.recv()
			must(t, err)
		}
	}
	must(t, g.Stop(s.Conn))
}

func TestRequestsAreTakenAgainInTheirOrder(t *testing.T) {
	eachTracked(t, takenInOrder)
}

func takenInOrder(t *testing.T, cfg vhostusertest.GuestConfig) {
	noLeaks(t)
	g := newGuest(t, cfg)
	e := newEchoFor(t, 2)
	s := serve(t, e, vhostuser.Options{})
	must(t, g.Start(s.Conn))
	c := newCaller(g, 1)
	// Old requests stay while younger ones come and go, so that the order of
	// heads is not that of the requests.
	for range 8 {
		sendN(t, c, 3, opEcho)
		sendN(t, c, 1, opPark)
		recvN(t, c, 3)
	}
	e.waitParked(8)
	_ = s.end(t)
	again := &recorder{echo: newEchoFor(t, 2)}
	again.open()
	s = serve(t, again, vhostuser.Options{})
	must(t, g.Reconnect(s.Conn))
	recvN(t, c, 8)
	must(t, g.Stop(s.Conn))
	again.mu.Lock()
	defer again.mu.Unlock()
	if !slices.IsSorted(again.order) {
		t.Errorf("taken again out of order: %x", again.order)
	}
	if len(again.order) != 8 {
		t.Errorf("%d requests taken again, want 8", len(again.order))
	}
}

// TestComesBackWithACall: a killed back-end may have published completions without
// calling; nobody else will, and the guest sleeps.
func TestComesBackWithACall(t *testing.T) {
	noLeaks(t)
	g := newGuest(t, tracked)
	s := serve(t, newEcho(2), vhostuser.Options{})
	must(t, g.Start(s.Conn))
	must(t, newCaller(g, 1).stream(10, 4, 64, always(opEcho)))
	_ = s.end(t)
	call := g.Ring(1).CallFD()
	for vhostusertest.Readable(call, 0) {
		var b [8]byte
		_, err := syscall.Read(call, b[:])
		must(t, err)
	}
	s = serve(t, newEcho(2), vhostuser.Options{})
	must(t, g.Reconnect(s.Conn))
	if !vhostusertest.Readable(call, 30*time.Second) {
		t.Error("no call")
	}
	must(t, g.Stop(s.Conn))
}

// A recorder remembers in which order ring 1's requests come.
type recorder struct {
	*echo
	order []uint64
}

func (r *recorder) StartQueue(v *vhostuser.Vring) vhostuser.QueueHandler {
	q := r.echo.StartQueue(v).(*echoQueue)
	if v.Index() == 1 {
		q.onToken = func(token uint64) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.order = append(r.order, token)
		}
	}
	return q
}

func TestInflightRegionSurvivesAGuestReset(t *testing.T) {
	eachTracked(t, regionSurvivesReset)
}

func regionSurvivesReset(t *testing.T, cfg vhostusertest.GuestConfig) {
	noLeaks(t)
	g := newGuest(t, cfg)
	s := serve(t, newEcho(2), vhostuser.Options{})
	must(t, g.Start(s.Conn))
	must(t, newCaller(g, 1).stream(100, 8, 64, always(opEcho)))
	must(t, g.Stop(s.Conn))
	// The new driver starts its rings at 0, the front-end keeps the region.
	cfg.Base, cfg.Inflight = 0, false
	g2 := newGuest(t, cfg)
	must(t, g2.Start(s.Conn))
	must(t, newCaller(g2, 1).stream(100, 8, 64, always(opEcho)))
}

// TestInflightRegionOfTheOtherKindIsRefused: the messages do not say for which kind
// of ring a region is, so that features changed in between show only by its size.
func TestInflightRegionOfTheOtherKindIsRefused(t *testing.T) {
	noLeaks(t)
	s, _ := prepared(t, allProtocol)
	spec, fd, err := s.GetInflight(2, 64)
	must(t, err)
	defer unix.Close(fd)
	s.Ack = true
	must(t, s.Call(vhostuser.SetFeatures, vhostusertest.U64(vhostuser.FeatureVersion1|vhostuser.FeatureRingPacked)))
	if got := s.exchange(t, vhostuser.SetInflightFD, vhostusertest.InflightBytes(spec), true, false, fd); got != refusal {
		t.Errorf("got %v", got)
	}
}

func TestBadInflightRegionsAreRefused(t *testing.T) {
	noLeaks(t)
	s, _ := prepared(t, allProtocol)
	for _, spec := range []struct {
		queues, size uint16
		mmap, off    uint64
	}{{0, 64, 4096, 0}, {2, 0, 4096, 0}, {2, 64, 100, 0}, {2, 64, 1 << 21, 0}, {2, 64, ^uint64(0), 0},
		{2, 64, 4096, ^uint64(0)}, {2, 64, 4096, 4}, {65535, 32768, 1 << 20, 0}, {1, 40000, 1 << 20, 0}} {
		p := vhostusertest.State(0, 0)[:0]
		p = append(p, vhostusertest.U64(spec.mmap)...)
		p = append(p, vhostusertest.U64(spec.off)...)
		p = append(p, byte(spec.queues), byte(spec.queues>>8), byte(spec.size), byte(spec.size>>8))
		if got := s.exchange(t, vhostuser.SetInflightFD, p, true, false, memFD(t)...); got != refusal {
			t.Errorf("%+v: got %v", spec, got)
		}
	}
	for _, spec := range [][2]int{{0, 64}, {3, 64}, {2, 0}, {2, 40000}} {
		if _, _, err := s.GetInflight(spec[0], spec[1]); !errors.Is(err, vhostusertest.ErrRefused) {
			t.Errorf("region of %d queues of %d: %v", spec[0], spec[1], err)
		}
	}
}

// serverVariable names the socket that this test binary serves instead of
// running tests.
const serverVariable = "VHOSTUSER_TEST_SERVER"

func TestMain(m *testing.M) {
	if path := os.Getenv(serverVariable); path != "" {
		if err := echoServer(path); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// echoServer serves one connection after another until it is killed.
func echoServer(path string) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	e := newEcho(2)
	e.open()
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return err
		}
		_ = vhostuser.Serve(context.Background(), c, e, vhostuser.Options{}) // its front-end is a test's
		_ = c.Close()
	}
}

// TestRequestsSurviveKill kills the back-end at random moments under load; the
// front-end reconnects as Cloud Hypervisor does.
func TestRequestsSurviveKill(t *testing.T) {
	testenv.Long(t)
	eachTracked(t, surviveKill)
}

func surviveKill(t *testing.T, cfg vhostusertest.GuestConfig) {
	noLeaks(t)
	g := newGuest(t, cfg)
	path := filepath.Join(t.TempDir(), "echo.sock")
	kids := [2]*caller{newCaller(g, 0), newCaller(g, 1)}
	r := rand.New(rand.NewPCG(3, 4))
	requests := 0
	for round := range testenv.Rounds(200) {
		server, conn := startServer(t, path)
		if round == 0 {
			must(t, g.Start(conn))
		} else {
			must(t, g.Reconnect(conn))
		}
		for _, c := range kids { // what was in flight at the kill
			for len(c.pending) > 0 {
				_, err := c.recv()
				must(t, err)
			}
		}
		dead := make(chan struct{})
		time.AfterFunc(time.Duration(r.IntN(8000))*time.Microsecond, func() { _ = server.Process.Kill() })
		go func() {
			defer close(dead)
			_ = server.Wait() // killed, so an error
		}()
		for alive := true; alive; {
			select {
			case <-dead:
				alive = false
			default:
			}
			for _, c := range kids {
				n, err := c.churn(r, 24)
				if err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				requests += n
			}
		}
		_ = conn.Close()
	}
	t.Logf("%d requests, the back-end killed %d times", requests, testenv.Rounds(200))
}

// churn fills up to n requests in flight and takes what is completed, without
// waiting for a back-end that may be dead. It returns how many that were.
func (c *caller) churn(r *rand.Rand, n int) (done int, err error) {
	for len(c.pending) < n {
		if _, err := c.send([]uint64{opEcho, opPark}[r.IntN(2)], 256); err != nil {
			return done, err
		}
	}
	for ; ; done++ {
		completion, ok, err := c.ring.Driver.Poll()
		if err != nil || !ok {
			return done, err
		}
		if _, err := c.check(completion); err != nil {
			return done, err
		}
	}
}

// startServer runs this test binary as a back-end and connects to it.
func startServer(t testing.TB, path string) (*exec.Cmd, *vhostusertest.Conn) {
	t.Helper()
	_ = os.Remove(path) // left by the one that was killed
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), serverVariable+"="+path)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, cmd.Start())
	conn, err := vhostusertest.DialWait(t.Context(), path)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatal(err)
	}
	return cmd, conn
}
