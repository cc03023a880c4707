package keeper

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair returns both ends of a link.
func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		if ends[i], err = connOf(os.NewFile(uintptr(fd), "end")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ends[i].Close() })
	}
	return ends[0], ends[1]
}

// memfd is a descriptor that can be told from others.
func memfd(t *testing.T, name string) (fd int, ino uint64) {
	t.Helper()
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd, inode(t, fd)
}

func inode(t *testing.T, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestHeldDescriptorsAreTheLatest(t *testing.T) {
	server, end := pair(t)
	l := &Link{conn: server}
	first, _ := memfd(t, "first")
	second, want := memfd(t, "second")
	third, want3 := memfd(t, "third")
	if err := errors.Join(l.Hold(first, third), l.Hold(second, third)); err != nil {
		t.Fatal(err)
	}
	l.Done()
	l.Done()
	k := &keeper{conn: end}
	if !k.watch() {
		t.Error("the server did not end in order")
	}
	if len(k.fds) != 2 || inode(t, k.fds[0]) != want || inode(t, k.fds[1]) != want3 {
		t.Errorf("holds %v", k.fds)
	}
	for _, fd := range k.fds {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("flags %#x, %v", flags, err)
		}
	}
	closeAll(k.fds)
}

func TestDeathIsNotTheOrderlyEnd(t *testing.T) {
	server, end := pair(t)
	server.Close()
	if k := (&keeper{conn: end}); k.watch() {
		t.Error("taken for an orderly end")
	}
}

func TestLostKeeperIsNoticed(t *testing.T) {
	server, end := pair(t)
	l := &Link{conn: server}
	end.Close()
	if err := l.Wait(t.Context()); !errors.Is(err, ErrLost) {
		t.Error(err)
	}
	fd, _ := memfd(t, "state")
	if err := l.Hold(fd); !errors.Is(err, ErrLost) {
		t.Error(err)
	}
	l.Done()
	if err := l.Wait(t.Context()); err != nil {
		t.Error("after Done:", err)
	}
}

func TestHoldBoundsDescriptors(t *testing.T) {
	server, _ := pair(t)
	if err := (&Link{conn: server}).Hold(make([]int, maxHeld+1)...); err == nil || errors.Is(err, ErrLost) {
		t.Error(err)
	}
}

func TestInheritanceArrivesWhole(t *testing.T) {
	a, b := pair(t)
	fd, ino := memfd(t, "state")
	if err := goOn(a, &Inheritance{FDs: []int{fd}, Restarts: 7, Cause: strings.Repeat("long ", 1000)}); err != nil {
		t.Fatal(err)
	}
	m, err := receive(b)
	if err != nil || m.kind != kindGoOn || len(m.rest) != maxMessage-1 || m.rest[0] != 7 || len(m.fds) != 1 || inode(t, m.fds[0]) != ino {
		t.Fatalf("%+v, %v", m, err)
	}
	closeAll(m.fds)
}

// TestSuccessorThatDiesAtOnceIsTheNextDeath, and not the end of the keeper.
func TestSuccessorThatDiesAtOnceIsTheNextDeath(t *testing.T) {
	ours, theirs := pair(t)
	fd, _ := memfd(t, "held")
	k := &keeper{conn: ours, fds: []int{fd}}
	_ = theirs.Close()
	if err := k.give("killed"); err != nil {
		t.Error(err)
	}
	if k.watch() {
		t.Error("taken for an orderly end")
	}
}

func TestUselessDescriptorEndsTheKeeping(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	state, _ := memfd(t, "state")
	k := &keeper{fds: []int{state, int(r.Fd())}}
	if k.gone(0) {
		t.Error("gone while it works")
	}
	w.Close()
	if !k.gone(time.Hour) {
		t.Error("kept without use")
	}
}

func TestBackoff(t *testing.T) {
	const ms = time.Millisecond
	type end struct {
		ran    time.Duration
		killed bool
	}
	crash, kill := end{0, false}, end{0, true}
	for _, tt := range []struct {
		name   string
		ends   []end
		pauses []time.Duration // -1: not again
	}{
		{"late_end_restarts_at_once", []end{{calm, false}, {calm, true}}, []time.Duration{0, 0}},
		{"kills_are_not_counted", slices.Repeat([]end{kill}, 100), slices.Repeat([]time.Duration{killPause}, 100)},
		{"crashes_slow_down_and_end", slices.Repeat([]end{crash}, maxCrashes+1),
			[]time.Duration{20 * ms, 40 * ms, 80 * ms, 160 * ms, 320 * ms, 640 * ms, 1280 * ms, -1}},
		{"calm_forgives", []end{crash, crash, {calm, false}, crash}, []time.Duration{20 * ms, 40 * ms, 0, 20 * ms}},
		{"kill_does_not_forgive", []end{crash, kill, crash}, []time.Duration{20 * ms, killPause, 40 * ms}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b backoff
			for i, e := range tt.ends {
				pause, again := b.after(e.ran, e.killed)
				if !again {
					pause = -1
				}
				if pause != tt.pauses[i] {
					t.Errorf("end %d: %v, want %v", i, pause, tt.pauses[i])
				}
			}
		})
	}
}

func TestRoleIsNotRepeated(t *testing.T) {
	got := plain([]string{"vrafsd", "fuse", "--keeper-link=hold", "--mountpoint", "/m", "--keeper-link=resume"})
	if !slices.Equal(got, []string{"vrafsd", "fuse", "--mountpoint", "/m"}) {
		t.Error(got)
	}
}
