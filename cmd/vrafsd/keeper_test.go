package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/keeper"
	"vrafs/internal/testenv"
)

// kept starts a daemon without supervisor, which has a keeper.
func (h *host) kept(t *testing.T, more ...string) *process {
	t.Helper()
	return start(t, exec.Command(binary, append([]string{"fuse", "--mountpoint", h.dir, "--apisock", h.api}, more...)...), "", h.api).ready()
}

// pids are the processes with h's mountpoint on their command line: the keepers, and
// the servers.
func (h *host) pids(t *testing.T) (keepers, servers []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		argv := strings.Split(string(text), "\x00")
		switch {
		case err != nil || !slices.Contains(argv, h.dir):
		case slices.Contains(argv, "--"+keeper.Option+"="+keeper.Hold):
			keepers = append(keepers, pid)
		default:
			servers = append(servers, pid)
		}
	}
	return keepers, servers
}

// one waits until there is one keeper, which holds the connection, and one server,
// neither of them among old. A server that is killed between the start of a new keeper
// and its first word to it leaves nothing to go on with.
func (h *host) one(t *testing.T, old ...int) (keeper, server int) {
	t.Helper()
	eventually(t, "one keeper and one server", func() bool {
		k, s := h.pids(t)
		if len(k) != 1 || len(s) != 1 || slices.Contains(old, k[0]) || slices.Contains(old, s[0]) || !holdsConnection(k[0]) {
			return false
		}
		keeper, server = k[0], s[0]
		return true
	})
	return keeper, server
}

// holdsConnection reports whether a process has a FUSE connection open.
func holdsConnection(pid int) bool {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	return slices.ContainsFunc(links, func(link string) bool {
		to, err := os.Readlink(link)
		return err == nil && to == "/dev/fuse"
	})
}

// none waits until keeper and server have ended, and says how long that took.
func (h *host) none(t *testing.T) time.Duration {
	t.Helper()
	begin := time.Now()
	eventually(t, "the end of keeper and server", func() bool {
		k, s := h.pids(t)
		return len(k)+len(s) == 0
	})
	return time.Since(begin)
}

// eventually waits for what must happen.
func eventually(t testing.TB, what string, happened func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: never", what)
		}
	}
}

func kill(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
}

// TestKilledServerGoesOn is what users have without any configuration.
func TestKilledServerGoesOn(t *testing.T) {
	h := newHost(t)
	text := strings.Repeat("survives. ", 30_000)
	im := oneFile(t, text)
	p := h.kept(t)
	p.must(204, "POST", "/api/v1/mount?mountpoint=%2F1", im.mountBody(""))
	p.must(204, "PUT", "/api/v1/config?id=/1", `{"registry_auth":"dTpw"}`)
	r := startReading(t, filepath.Join(h.dir, "1"), text)
	k, s := h.one(t)
	for range testenv.Rounds(100) {
		had := r.reads.Load()
		kill(t, s, syscall.SIGKILL)
		if _, err := os.Stat(filepath.Join(h.dir, "1", "f")); err != nil {
			t.Fatal(err)
		}
		// A request that the dying server has read is lost; afterwards none is refused.
		eventually(t, "the end of the server", func() bool { return syscall.Kill(s, 0) == syscall.ESRCH })
		if got := p.state(); got != "RUNNING" {
			t.Fatal(got)
		}
		var next int
		if next, s = h.one(t, s); next != k {
			t.Fatalf("keeper %d after %d", next, k)
		}
		eventually(t, "reads", func() bool { return r.reads.Load() > had+20 || t.Failed() })
	}
	r.end()
	if got := p.must(200, "GET", "/api/v1/config?id=/1", ""); got != `{"registry_auth":"dTpw"}` {
		t.Error("what was set over the API is lost:", got)
	}
	p.must(204, "DELETE", "/api/v1/mount?mountpoint=%2F1", "")
	p.must(204, "POST", "/api/v1/mount?mountpoint=%2F1", im.mountBody(""))
	kill(t, s, syscall.SIGTERM)
	h.none(t)
	if h.mounted(t) {
		t.Error("still mounted after SIGTERM")
	}
	if _, err := os.Stat(h.api); err == nil {
		t.Error("the control socket is left")
	}
}

func TestKeptImageOfTheCommandLine(t *testing.T) {
	h := newHost(t)
	im := smallImage(t)
	h.kept(t, im.withConfig(t)...)
	_, s := h.one(t)
	kill(t, s, syscall.SIGKILL)
	im.CompareMount(t, h.dir)
	h.one(t, s)
}

func TestSignalEndsServerAndKeeper(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			h := newHost(t)
			p := h.kept(t)
			k, _ := h.one(t)
			kill(t, k, sig) // as who stops a whole group does: it is the server that counts
			p.signal(sig)
			if err := p.wait(); err != nil {
				t.Error(err)
			}
			h.none(t)
			if h.mounted(t) {
				t.Error("still mounted")
			}
		})
	}
}

func TestExitEndsServerAndKeeper(t *testing.T) {
	h := newHost(t)
	p := h.kept(t)
	h.one(t)
	p.end()
	h.none(t)
}

// TestUnmountEndsServerAndKeeper allows for a machine that is too busy to end anything
// within a second, but not each time.
func TestUnmountEndsServerAndKeeper(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprint("killed_before=", killed), func(t *testing.T) {
			var took []time.Duration
			for len(took) < 5 {
				h := newHost(t)
				p := h.kept(t)
				if _, s := h.one(t); killed {
					kill(t, s, syscall.SIGKILL)
					h.one(t, s)
					p.ready()
				}
				if err := unix.Unmount(h.dir, unix.MNT_DETACH); err != nil {
					t.Fatal(err)
				}
				took = append(took, h.none(t))
				if took[len(took)-1] <= time.Second {
					return
				}
			}
			t.Errorf("the end took %v", took)
		})
	}
}

func TestKilledKeeperIsReplaced(t *testing.T) {
	h := newHost(t)
	im := oneFile(t, "text")
	p := h.kept(t)
	p.must(204, "POST", "/api/v1/mount?mountpoint=%2F1", im.mountBody(""))
	k, s := h.one(t)
	for range 2 {
		kill(t, k, syscall.SIGKILL)
		if got, err := os.ReadFile(filepath.Join(h.dir, "1", "f")); err != nil || string(got) != "text" {
			t.Fatalf("%q, %v", got, err)
		}
		k, _ = h.one(t, k)
		kill(t, s, syscall.SIGKILL)
		_, s = h.one(t, s)
		if _, err := os.Stat(filepath.Join(h.dir, "1", "missing")); !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}

// TestDetachedMountSurvives: nydus-snapshotter unmounts after a death, with its policy
// "restart", and mounts anew at the same place; containers still use the old mount.
func TestDetachedMountSurvives(t *testing.T) {
	h := newHost(t)
	text := strings.Repeat("held. ", 50_000)
	im := oneFile(t, text)
	p := h.kept(t)
	p.must(204, "POST", "/api/v1/mount?mountpoint=%2F1", im.mountBody(""))
	dir, err := os.Open(filepath.Join(h.dir, "1"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	_, s := h.one(t)
	kill(t, s, syscall.SIGKILL)
	if err := unix.Unmount(h.dir, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	_, s = h.one(t, s)
	kill(t, s, syscall.SIGKILL)
	h.one(t, s)
	fd, err := unix.Openat(int(dir.Fd()), "f", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "f")
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != text {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	f.Close()
	dir.Close() // the last user
	h.none(t)
}

func TestCrashLoopEnds(t *testing.T) {
	h := newHost(t)
	p := h.kept(t)
	k, s := h.one(t)
	kill(t, s, syscall.SIGKILL)
	for {
		eventually(t, "a successor or the end", func() bool {
			keepers, servers := h.pids(t)
			return len(keepers) == 0 || len(servers) == 1 && servers[0] != s
		})
		keepers, servers := h.pids(t)
		if len(keepers) == 0 {
			break
		}
		if keepers[0] != k || len(servers) != 1 {
			continue
		}
		s = servers[0]
		_ = syscall.Kill(s, syscall.SIGABRT)
		eventually(t, "the end of a server", func() bool { _, servers := h.pids(t); return !slices.Contains(servers, s) })
	}
	if log := p.waitLog("is not started again"); !strings.Contains(log, "reads of its mounts fail from now on") {
		t.Error(log)
	}
	if _, err := os.ReadDir(h.dir); err == nil {
		t.Error("somebody answers")
	}
}

func TestNoKeeper(t *testing.T) {
	h := newHost(t)
	h.kept(t, "--keeper", "off")
	if k, _ := h.pids(t); len(k) != 0 {
		t.Error(k)
	}
	if err := exec.Command(binary, "fuse", "--mountpoint", h.dir, "--"+keeper.Option+"="+keeper.Hold).Run(); exitStatus(err) != 1 {
		t.Error("a keeper that nobody started:", err)
	}
}

// TestKeeperKeepsQuiet: it is asleep, and small.
func TestKeeperKeepsQuiet(t *testing.T) {
	h := newHost(t)
	p := h.kept(t)
	im := oneFile(t, "text")
	k, _ := h.one(t)
	// Held are one state, one connection, one socket; another socket is the link.
	holds := func() bool {
		links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", k))
		if err != nil {
			t.Fatal(err)
		}
		held := map[string]int{}
		for _, l := range links {
			to, _ := os.Readlink(l) // of one that is being closed: none
			kind, _, _ := strings.Cut(to, ":")
			held[kind]++
		}
		return held["/memfd"] == 1 && held["/dev/fuse"] == 1 && held["socket"] == 2
	}
	for range 100 {
		p.must(204, "POST", "/api/v1/mount?mountpoint=%2F1", im.mountBody(""))
		p.must(204, "DELETE", "/api/v1/mount?mountpoint=%2F1", "")
	}
	eventually(t, "what is held, and no more", holds)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", k))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range bytes.Split(status, []byte("\n")) {
		if bytes.HasPrefix(l, []byte("RssAnon")) || bytes.HasPrefix(l, []byte("VmRSS")) {
			t.Logf("keeper: %s", l)
		}
	}
}
