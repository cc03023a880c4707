package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/testenv"
	"vrafs/vhostuser/vhostusertest"
)

// A handout is nydus-snapshotter's upgrades (nydusd, section 7.3), for daemons of a guest.
type handout struct {
	t         *testing.T
	sup       *supervisor
	sock, api string
	program   string
	more      []string
	n         int // control sockets that were used
	old       *process
	next      *process // nil: none waits
}

// newHandout starts the first daemon.
func newHandout(t *testing.T, more ...string) *handout {
	t.Helper()
	return newHandoutOf(t, binary, more...)
}

func newHandoutOf(t *testing.T, program string, more ...string) *handout {
	t.Helper()
	sock, api := sockets(t)
	h := &handout{t: t, sup: newSupervisor(t, sock+".sup"), sock: sock, api: api, program: program, more: more}
	h.old = h.daemon()
	return h
}

func (h *handout) daemon(more ...string) *process {
	h.t.Helper()
	h.n++
	api := fmt.Sprint(h.api, h.n)
	args := []string{"virtiofs", "--log-level", "info", "--sock", h.sock, "--apisock", api, "--id", "guest", "--supervisor", h.sup.Path}
	return start(h.t, exec.Command(h.program, append(append(args, h.more...), more...)...), h.sock, api).ready()
}

// handoutSteps are the steps of an upgrade, in order.
var handoutSteps = []struct {
	name string
	do   func(h *handout)
}{
	{"sendfd", func(h *handout) { h.sup.keep(h.old) }},
	{"start_the_new", func(h *handout) { h.next = h.daemon("--upgrade") }},
	{"takeover", func(h *handout) { h.sup.give(h.next) }},
	{"exit_the_old", func(h *handout) { h.exitOld() }},
	{"start", func(h *handout) { h.next.must(204, "PUT", "/api/v1/daemon/start", "") }},
}

func (h *handout) exitOld() {
	h.old.must(204, "PUT", "/api/v1/daemon/exit", "")
	if err := h.old.wait(); err != nil {
		h.t.Error(err)
	}
}

// upgrade does all steps.
func (h *handout) upgrade() {
	h.t.Helper()
	for _, s := range handoutSteps {
		s.do(h)
	}
	h.old, h.next = h.next, nil
}

// TestSupervisedUpgradeLosesNoRequest: a guest reads on while one process after the other
// takes over.
func TestSupervisedUpgradeLosesNoRequest(t *testing.T) {
	testenv.Long(t)
	for _, tt := range []struct {
		order            vhostusertest.Order
		name             string
		packed, inflight bool
	}{
		{vhostusertest.QEMU, "split", false, false},
		{vhostusertest.QEMU, "packed", true, false},
		{vhostusertest.CloudHypervisor, "tracked", false, true},
		{vhostusertest.CloudHypervisor, "packed_tracked", true, true},
	} {
		t.Run(tt.order.String()+"/"+tt.name, func(t *testing.T) {
			im := smallImage(t)
			h := newHandout(t)
			const a, b = "/api/v1/mount?mountpoint=/rafs/a/lowerdir", "/api/v1/mount?mountpoint=/rafs/b/lowerdir"
			h.old.must(204, "POST", a, im.mountBody(""))
			h.old.must(204, "POST", b, im.mountBody(""))
			h.old.must(204, "PUT", "/api/v1/config?id=/rafs/b/lowerdir", `{"proxy_url":"http://p:1"}`)
			g := boot(t, h.sock, vhostusertest.GuestConfig{
				Order: tt.order, Rings: 3, EventIdx: true, Indirect: true, Packed: tt.packed, Inflight: tt.inflight})
			h.old.must(204, "DELETE", a, "")
			l := startLoad(t, g, g.tree(t, "/rafs/b/lowerdir", im.Tree))
			defer l.end()
			for i := range testenv.Rounds(20) {
				l.advance(i % 5)
				if i%3 == 0 {
					if err := os.RemoveAll(im.cache); err != nil { // reads wait for chunks then
						t.Fatal(err)
					}
				}
				h.upgrade()
				l.advance(1)
			}
			h.old.waitLog("going on in the place of the former program")
			h.old.eventuallyAlive(fmt.Sprintf("vrafs_upgrades_total %d\n", testenv.Rounds(20)))
			if got := h.old.must(200, "GET", "/api/v1/config?id=/rafs/b/lowerdir", ""); got != `{"proxy_url":"http://p:1"}` {
				t.Error(got)
			}
			h.old.must(500, "DELETE", a, "")
			h.old.must(204, "POST", b, im.mountBody("")) // a client may repeat it, once
			h.old.must(500, "POST", b, im.mountBody(""))
			l.end()
			h.old.end()
			for _, path := range []string{h.sock, h.sock + ".state"} {
				if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s after the end: %v", path, err)
				}
			}
		})
	}
}

// TestSupervisedUpgradeKeepsSharedDirectories is TestUpgradeKeepsSharedDirectories for another
// process. What a takeover that fails does to the nodes the former doesn't notice.
func TestSupervisedUpgradeKeepsSharedDirectories(t *testing.T) {
	testenv.Need(t, testenv.Root)
	h := newHandout(t)
	g := boot(t, h.sock, vhostusertest.GuestConfig{Rings: 3, EventIdx: true, Indirect: true})
	s := sharePod(t, h.old, g)
	var opened []uint64 // more than one message takes
	for range 600 {
		o, err := fusesrvtest.Open(s.c, fusesrv.OpOpen, s.read.Entry.NodeID, unix.O_RDONLY)
		s.must(err)
		opened = append(opened, o.FH)
	}
	stop := startChanging(t, g.clients[1], s.root)
	n, base := 0, h.old.inherited(t)
	step := func() {
		t.Helper()
		s.use(n)
		n++
		for _, fh := range opened {
			if got, err := fusesrvtest.Read(s.c, s.read.Entry.NodeID, fh, 0, 100); err != nil || string(got) != "to be read" {
				t.Fatalf("%q, %v", got, err)
			}
		}
	}
	step()
	for range testenv.Rounds(10) {
		h.sup.keep(h.old)
		next := h.daemon("--upgrade")
		h.sup.give(next)
		next.kill()
		step() // the former's again
		h.upgrade()
		step()
		if list := h.old.inherited(t); fmt.Sprint(list) != fmt.Sprint(base) {
			t.Fatalf("children would inherit %q, not %q", list, base)
		}
	}
	t.Logf("%d rounds of changes meanwhile", stop())
	for _, fh := range opened {
		s.must(fusesrvtest.Release(s.c, fusesrv.OpRelease, s.read.Entry.NodeID, fh))
	}
	s.forget()
	h.old.must(204, "DELETE", "/api/v1/mount?mountpoint=/containers", "")
	h.old.endsInTime()
}

// TestSupervisedUpgradeWithReadsThatWait: they wait on in the new process, and are
// answered once.
func TestSupervisedUpgradeWithReadsThatWait(t *testing.T) {
	hung := oneFile(t, "never comes")
	hung.BlobDir = hungDir(t)
	h := newHandout(t, "--request-timeout", "5")
	h.old.must(204, "POST", "/api/v1/mount?mountpoint=/hung", hung.mountBody(""))
	g := boot(t, h.sock, vhostusertest.GuestConfig{Rings: 3})
	e, err := walk(g.clients[0], "/hung/f")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		g.sendReadOf(t, 0, e.Node)
	}
	h.old.eventuallyAlive("vrafs_pending_requests 3\n")
	h.upgrade()
	h.old.eventuallyAlive("vrafs_pending_requests 3\n")
	for range 3 {
		if r, err := g.clients[0].Recv(); err != nil || r.Errno == 0 {
			t.Errorf("a read of the hung image: %+v, %v", r, err)
		}
	}
	h.old.endsInTime()
}

// TestSupervisedUpgradeWithoutAFrontEnd, and before the first.
func TestSupervisedUpgradeWithoutAFrontEnd(t *testing.T) {
	im := oneFile(t, "text")
	h := newHandout(t)
	h.old.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
	h.old.must(204, "POST", "/api/v1/mount?mountpoint=/shared", shareBody(t.TempDir()))
	for i := range 3 {
		h.upgrade()
		visit(t, h.sock, i)
		h.old.eventuallyAlive("vrafs_frontend_connected 0\n")
	}
	h.old.endsInTime()
}

// TestKillBetweenStepsOfASupervisedUpgrade kills the former or the new daemon after each step
// under a reading guest. As long as one of them is left that has the guest, nothing is lost.
func TestKillBetweenStepsOfASupervisedUpgrade(t *testing.T) {
	im := smallImage(t)
	for done := 1; done <= len(handoutSteps); done++ {
		for _, killOld := range []bool{true, false} {
			if killOld && done > 3 || !killOld && done < 2 {
				continue // there is none
			}
			t.Run(fmt.Sprintf("%s/old=%v", handoutSteps[done-1].name, killOld), func(t *testing.T) {
				h := newHandout(t)
				h.old.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
				g := boot(t, h.sock, vhostusertest.GuestConfig{Rings: 3})
				files := g.tree(t, "/a", im.Tree)
				lost := killOld && done < 3 || !killOld && done > 3
				if lost {
					h.loses(g, done, killOld)
					return
				}
				for _, s := range handoutSteps[:done-1] {
					s.do(h)
				}
				l := startLoad(t, g, files)
				defer l.end()
				handoutSteps[done-1].do(h)
				h.survives(l, killOld)
			})
		}
	}
}

// survives kills a daemon of two, of which the other has the guest or gets it.
func (h *handout) survives(l *load, killOld bool) {
	h.t.Helper()
	if killOld {
		h.old.kill()
		h.next.must(204, "PUT", "/api/v1/daemon/start", "")
		h.old, h.next = h.next, nil
	} else {
		h.next.kill()
	}
	l.advance(5)
	h.old.must(204, "POST", "/api/v1/mount?mountpoint=/more", shareBody(h.t.TempDir()))
	h.upgrade()
	l.advance(5)
}

// loses kills the only daemon that has the guest after so many steps. Its front-end notices, and
// nobody says otherwise.
func (h *handout) loses(g *guest, done int, killOld bool) {
	h.t.Helper()
	for _, s := range handoutSteps[:done] {
		s.do(h)
	}
	if killOld {
		h.old.kill()
	} else {
		h.next.kill()
	}
	g.awaitHangup(h.t)
	if !killOld {
		return
	}
	if h.next == nil {
		h.next = h.daemon("--upgrade")
	}
	h.refused("that daemon has ended")
}

// awaitHangup waits until the front-end sees that nobody serves it any more.
func (g *guest) awaitHangup(t *testing.T) {
	t.Helper()
	_ = g.conn.Socket().SetReadDeadline(time.Now().Add(patience))
	if n, err := g.conn.Socket().Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the front-end reads %d bytes, %v", n, err)
	}
}

// TestFormerLetsGoOfTheGuest when the successor serves, whether it has ended by then or not:
// the front-end notices the successor's end, and a former that is killed is nothing to it.
func TestFormerLetsGoOfTheGuest(t *testing.T) {
	h, g, l := busyHandout(t)
	defer l.end()
	for range 2 {
		h.sup.keep(h.old)
		h.next = h.daemon("--upgrade")
		h.sup.give(h.next)
		h.next.must(204, "PUT", "/api/v1/daemon/start", "")
		h.old.eventuallyAlive("vrafs_frontend_connected 0\n")
		l.advance(5)
		h.old.kill()
		l.advance(5)
		h.old, h.next = h.next, nil
	}
	h.sup.keep(h.old)
	h.next = h.daemon("--upgrade")
	h.sup.give(h.next)
	h.next.must(204, "PUT", "/api/v1/daemon/start", "")
	h.old.eventuallyAlive("vrafs_frontend_connected 0\n")
	l.end()
	h.next.kill()
	g.awaitHangup(t)
	h.old.end()
}

// TestSuccessorThatNobodyStarts starts by itself: the guest goes on, whatever became of whoever
// upgrades.
func TestSuccessorThatNobodyStarts(t *testing.T) {
	testenv.Long(t)
	im := oneFile(t, "text")
	h := newHandout(t)
	h.old.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
	g := boot(t, h.sock, vhostusertest.GuestConfig{})
	h.sup.keep(h.old)
	next := h.daemon("--upgrade")
	h.sup.give(next)
	begin := time.Now()
	if e, err := walk(g.clients[0], "/a/f"); err != nil || e.Attr.Size != 4 {
		t.Errorf("got %+v, %v", e, err)
	}
	if d := time.Since(begin); d < 15*time.Second {
		t.Errorf("it was served after %v already", d)
	}
	next.waitLog("started without being told")
	if got := next.state(); got != "RUNNING" {
		t.Error(got)
	}
}

// refused has the waiting daemon fail to take over, for a reason.
func (h *handout) refused(want string) {
	h.t.Helper()
	gave := make(chan error, 1)
	go func() { gave <- h.sup.send(h.sup.State) }()
	status, body := h.next.ask("PUT", "/api/v1/daemon/fuse/takeover", "")
	if status != 500 || !strings.Contains(body, want) {
		h.t.Errorf("%d %s, want %q", status, body, want)
	}
	if err := <-gave; err != nil {
		h.t.Error(err)
	}
	if got := h.next.state(); got != "INIT" {
		h.t.Error(got)
	}
}

// TestFailedSupervisedTakeoverChangesNothing: the former daemon serves on, and the next try may
// do better.
func TestFailedSupervisedTakeoverChangesNothing(t *testing.T) {
	im := smallImage(t)
	h := newHandout(t)
	h.old.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
	h.old.must(204, "POST", "/api/v1/mount?mountpoint=/shared", shareBody(t.TempDir()))
	g := boot(t, h.sock, vhostusertest.GuestConfig{Rings: 3})
	l := startLoad(t, g, g.tree(t, "/a", im.Tree))
	defer l.end()
	h.sup.keep(h.old)
	h.next = h.daemon("--upgrade")

	if err := os.Rename(im.Bootstrap, im.Bootstrap+".away"); err != nil {
		t.Fatal(err)
	}
	h.refused(im.Bootstrap)
	h.old.waitLog("takeover failed: this program goes on")
	l.advance(5)
	if err := os.Rename(im.Bootstrap+".away", im.Bootstrap); err != nil {
		t.Fatal(err)
	}

	state, fd := h.sup.State, h.sup.FD
	for _, bad := range [][]byte{{}, []byte("of another program"), state[:len(state)-1]} {
		h.sup.State = append([]byte(nil), bad...)
		h.refused("what the supervisor keeps")
		l.advance(5)
	}
	h.sup.State = state

	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	h.sup.FD = null
	h.refused("no socket of a vrafsd")
	_ = unix.Close(null)
	h.sup.FD = fd

	// One that has fewer queues, another socket.
	good := h.next
	more := h.more
	h.more = []string{"--request-queues", "2"}
	h.next = h.daemon("--upgrade")
	h.refused("queues")
	l.advance(5)
	sock := h.sock
	h.more, h.sock = more, filepath.Join(t.TempDir(), "other.sock")
	h.next = h.daemon("--upgrade")
	h.refused("other.sock")
	l.advance(5)
	h.sock, h.next = sock, good

	// Then it takes the guest, and nobody else does.
	h.sup.give(h.next)
	h.old.must(500, "POST", "/api/v1/mount?mountpoint=/b", im.mountBody(""))
	if status, body := h.old.ask("PUT", "/api/v1/daemon/fuse/sendfd", ""); status != 500 || !strings.Contains(body, "handed over") {
		t.Errorf("%d %s", status, body)
	}
	another := h.daemon("--upgrade")
	h.next = another
	h.refused("upgrade is under way")
	h.next = good
	h.next.must(204, "PUT", "/api/v1/daemon/start", "")
	l.advance(5)
	h.exitOld()
	l.advance(5)
	h.old, h.next = good, nil
	h.upgrade()
	l.advance(5)
}

// TestForeignersInAPassage: what comes to a daemon through the supervisor's descriptor, and isn't
// a successor's, does it no harm.
func TestForeignersInAPassage(t *testing.T) {
	h, _, l := busyHandout(t)
	defer l.end()
	h.sup.keep(h.old)
	conn := h.invitation()
	before := h.old.holds(t).fds
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, fds := range [][]int{nil, {int(null.Fd())}, {int(null.Fd()), int(null.Fd())}} {
		for _, text := range [][]byte{{0}, passageAsk[:len(passageAsk)-1], passageAsk, make([]byte, 8<<10)} {
			var oob []byte
			if fds != nil {
				oob = unix.UnixRights(fds...)
			}
			if _, _, err := conn.WriteMsgUnix(text, oob, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.advance(5)
	_ = unix.Close(askOver(t, conn)) // and goes away
	l.advance(5)
	l.advance(20)
	eventually(t, "its descriptors", func() bool { return h.old.holds(t).fds <= before+2 })
	h.sup.keep(h.old)
	h.upgrade()
	l.advance(5)
}

// TestSilentSuccessorIsNotWaitedFor longer than its time: then the guest goes on.
func TestSilentSuccessorIsNotWaitedFor(t *testing.T) {
	testenv.Long(t)
	h, _, l := busyHandout(t)
	defer l.end()
	h.sup.keep(h.old)
	begin := time.Now()
	fd := askOver(t, h.invitation())
	defer unix.Close(fd)
	h.old.waitLog("takeover failed: this program goes on")
	if d := time.Since(begin); d < 9*time.Second || d > 15*time.Second {
		t.Errorf("it was waited for for %v", d)
	}
	l.advance(5)
	h.upgrade()
	l.advance(5)
}

// busyHandout has a guest read an image at /a through the old daemon.
func busyHandout(t *testing.T) (*handout, *guest, *load) {
	t.Helper()
	im := smallImage(t)
	h := newHandout(t)
	h.old.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
	g := boot(t, h.sock, vhostusertest.GuestConfig{Rings: 3})
	return h, g, startLoad(t, g, g.tree(t, "/a", im.Tree))
}

// invitation takes the descriptor that the supervisor keeps.
func (h *handout) invitation() *net.UnixConn {
	h.t.Helper()
	f := os.NewFile(uintptr(h.sup.FD), "invitation")
	h.sup.FD = -1
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	return c.(*net.UnixConn)
}

// passageAsk is what a successor asks with.
var passageAsk = append([]byte("VRAFSWAY\x01\x00\x01\x00"), 1, 0x80, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0)

// askOver asks for the guest and returns the end over which it would come.
func askOver(t *testing.T, invitation *net.UnixConn) int {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = invitation.WriteMsgUnix(passageAsk, unix.UnixRights(pair[1]), nil)
	_ = unix.Close(pair[1])
	if err != nil {
		t.Fatal(err)
	}
	return pair[0]
}

// TestSupervisedUpgradeWithoutRaces, in either daemon, also when the guest is taken back.
func TestSupervisedUpgradeWithoutRaces(t *testing.T) {
	testenv.Long(t)
	im := smallImage(t)
	h := newHandoutOf(t, raceBinary(t))
	h.old.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
	h.old.must(204, "POST", "/api/v1/mount?mountpoint=/shared", shareBody(t.TempDir()))
	g := boot(t, h.sock, vhostusertest.GuestConfig{Rings: 3})
	l := startLoad(t, g, g.tree(t, "/a", im.Tree))
	defer l.end()
	for range 3 {
		h.sup.keep(h.old)
		next := h.daemon("--upgrade")
		h.sup.give(next)
		next.must(200, "GET", "/metrics", "")
		next.kill()
		l.advance(3)
		was := h.old
		h.upgrade()
		l.advance(3)
		for _, p := range []*process{next, was} {
			if <-p.eof; strings.Contains(p.log(), "DATA RACE") {
				t.Error(p.log())
			}
		}
	}
	l.end()
	if log := h.old.end(); strings.Contains(log, "DATA RACE") {
		t.Error(log)
	}
}
