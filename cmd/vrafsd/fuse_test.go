package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/internal/testsupervisor"
)

// A host is a directory where daemons mount, and their sockets.
type host struct {
	dir, api string
	sup      *supervisor
}

func newHost(t *testing.T) *host {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.FUSE)
	sock, api := sockets(t)
	h := &host{dir: t.TempDir(), api: api, sup: newSupervisor(t, sock+".sup")}
	t.Cleanup(func() {
		for unix.Unmount(h.dir, unix.MNT_DETACH) == nil {
		}
	})
	return h
}

// fuse starts a daemon with the arguments that nydus-snapshotter gives.
func (h *host) fuse(t *testing.T, api string, more ...string) *process {
	t.Helper()
	return h.start(t, binary, api, more...)
}

func (h *host) mounted(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(text, []byte(" "+h.dir+" "))
}

// withConfig is the arguments for an image of the command line.
func (im *imageFixture) withConfig(t *testing.T) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(im.v1(nil)), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--bootstrap", im.Bootstrap, "--config", path}
}

// A supervisor is a test's.
type supervisor struct {
	*testsupervisor.Supervisor
	t *testing.T
}

func newSupervisor(t *testing.T, path string) *supervisor {
	t.Helper()
	s, err := testsupervisor.New(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &supervisor{s, t}
}

// keep has p hand its state over.
func (s *supervisor) keep(p *process) {
	s.t.Helper()
	err := s.Keep(func() error { p.must(204, "PUT", "/api/v1/daemon/fuse/sendfd", ""); return nil })
	if err != nil {
		s.t.Fatal(err)
	}
}

// give has p take the state over.
func (s *supervisor) give(p *process) {
	s.t.Helper()
	err := s.Give(func() error { p.must(204, "PUT", "/api/v1/daemon/fuse/takeover", ""); return nil })
	if err != nil {
		s.t.Fatal(err)
	}
}

// send gives another state with the descriptor that is kept.
func (s *supervisor) send(state []byte) error { return s.Send(state, s.FD) }

// sendForeign gives what no daemon has kept here.
func (s *supervisor) sendForeign() error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	return s.Send([]byte("of another program"), int(null.Fd()))
}

func (p *process) state() string {
	p.t.Helper()
	info := p.must(200, "GET", "/api/v1/daemon", "")
	_, rest, _ := strings.Cut(info, `"state":"`)
	name, _, _ := strings.Cut(rest, `"`)
	return name
}

func TestFuseMountsAndUnmounts(t *testing.T) {
	im := smallImage(t)
	for _, tt := range []struct {
		name string
		args func(h *host) []string
	}{
		{"subcommand", func(h *host) []string { return []string{"fuse", "--mountpoint", h.dir, "--apisock", h.api} }},
		{"no_subcommand", func(h *host) []string { return []string{"--mountpoint", h.dir, "--apisock", h.api} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			p := start(t, exec.Command(binary, append(tt.args(h), im.withConfig(t)...)...), "", h.api).ready()
			im.CompareMount(t, h.dir)
			if got := p.state(); got != "RUNNING" {
				t.Error(got)
			}
			line, err := exec.Command("grep", h.dir, "/proc/mounts").Output()
			if err != nil || !strings.HasPrefix(string(line), "rafs "+h.dir+" fuse ro,nosuid,nodev,noatime,") {
				t.Errorf("%q, %v", line, err)
			}
			p.signal(syscall.SIGTERM)
			if err := p.wait(); err != nil || h.mounted(t) {
				t.Error("after SIGTERM:", err, "mounted:", h.mounted(t))
			}
			if _, err := os.Stat(h.api); err == nil {
				t.Error("the control socket is still there")
			}
		})
	}
}

func TestOutsideUnmountEndsTheDaemon(t *testing.T) {
	im := smallImage(t)
	for name, flags := range map[string]int{"umount": 0, "lazily": unix.MNT_DETACH} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			p := h.fuse(t, h.api, im.withConfig(t)...).ready()
			if err := unix.Unmount(h.dir, flags); err != nil {
				t.Fatal(err)
			}
			if err := p.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFailedStartLeavesNoMount(t *testing.T) {
	h := newHost(t)
	im := smallImage(t)
	damaged := filepath.Join(t.TempDir(), "damaged.boot")
	if err := os.WriteFile(damaged, bytes.Repeat([]byte{7}, 9000), 0o600); err != nil {
		t.Fatal(err)
	}
	args := im.withConfig(t)
	args[1] = damaged
	p := h.fuse(t, h.api, args...)
	if err := p.wait(); exitStatus(err) != 1 || h.mounted(t) {
		t.Error(err, "mounted:", h.mounted(t))
	}
	<-p.eof // the log may be read later than the end is seen
	if log := p.log(); !strings.Contains(log, damaged) {
		t.Error("the error does not name the file:", log)
	}
}

func exitStatus(err error) int {
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	return 0
}

// TestImagesComeAndGo mounts other images at one place again and again, with a file
// of each former one held open. The files have one name, number and size, and times that
// are the same: nothing but the mount tells them apart.
func TestImagesComeAndGo(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE)
	h := newHost(t)
	p := h.fuse(t, h.api).ready()
	texts := []string{"the first", "a second.", "and third"}
	var images []*imageFixture
	for _, text := range texts {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{path, dir} {
			if err := os.Chtimes(name, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
		}
		images = append(images, imageOf(t, dir))
	}
	var held []*os.File
	var want []string
	for i := range 300 {
		k := i % len(images)
		p.must(204, "POST", "/api/v1/mount?mountpoint=%2Fapp", images[k].mountBody(""))
		path := filepath.Join(h.dir, "app", "f")
		got, err := os.ReadFile(path)
		if err != nil || string(got) != texts[k] {
			t.Fatalf("round %d: %q, %v", i, got, err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		held, want = append(held, f), append(want, texts[k])
		p.must(204, "DELETE", "/api/v1/mount?mountpoint=%2Fapp", "")
		if _, err := os.Stat(path); err == nil {
			t.Fatalf("round %d: still there", i)
		}
	}
	for i, f := range held {
		b := make([]byte, 64)
		if n, err := f.ReadAt(b, 0); err != nil && err != io.EOF || string(b[:n]) != want[i] {
			t.Errorf("held file %d: %q, %v", i, b[:n], err)
		}
		_ = f.Close()
	}
}

// A reading is processes' work on the mount that must see nothing of what happens
// to the daemon.
type reading struct {
	stop  atomic.Bool
	reads atomic.Uint64
	wg    sync.WaitGroup
}

func startReading(t *testing.T, dir, text string) *reading {
	r := &reading{}
	for i := range 3 {
		r.wg.Go(func() {
			for !r.stop.Load() {
				// Direct reads and a name that is not known: both reach the daemon.
				f, err := os.OpenFile(filepath.Join(dir, "f"), os.O_RDONLY, 0)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(f)
				_ = f.Close()
				if err != nil || string(got) != text {
					t.Errorf("%d bytes, %v", len(got), err)
					return
				}
				if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf("missing-%d-%d", i, r.reads.Add(1)))); !os.IsNotExist(err) {
					t.Error(err)
					return
				}
			}
		})
	}
	return r
}

func (r *reading) end() {
	r.stop.Store(true)
	r.wg.Wait()
}

// seenWithoutDaemon asks for the attributes of a mountpoint as nydus-snapshotter does
// before it starts a successor: the kernel must know them.
func seenWithoutDaemon(t *testing.T, dir string) {
	t.Helper()
	seen := make(chan error, 1)
	go func() {
		_, err := os.Stat(dir)
		seen <- err
	}()
	select {
	case err := <-seen:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the attributes of the mountpoint hang without a daemon")
	}
}

// TestKilledDaemonIsTakenOver is nydus-snapshotter's failover: the same command
// again waits in INIT, takes over what the supervisor has, and starts.
func TestKilledDaemonIsTakenOver(t *testing.T) {
	h := newHost(t)
	text := strings.Repeat("survives. ", 30_000)
	im := oneFile(t, text)
	p := h.fuse(t, h.api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=%2F1", im.mountBody(""))
	h.sup.keep(p)
	r := startReading(t, filepath.Join(h.dir, "1"), text)
	for range testenv.Rounds(100) {
		had := r.reads.Load()
		p.kill()
		seenWithoutDaemon(t, h.dir)
		p = h.fuse(t, h.api).ready()
		if got := p.state(); got != "INIT" {
			t.Fatalf("%s after a crash, want INIT", got)
		}
		h.sup.give(p)
		if got := p.state(); got != "READY" {
			t.Fatalf("%s after the takeover, want READY", got)
		}
		p.must(204, "PUT", "/api/v1/daemon/start", "")
		h.sup.keep(p)
		if got := p.state(); got != "RUNNING" {
			t.Fatalf("%s after the start, want RUNNING", got)
		}
		for r.reads.Load() < had+20 && !t.Failed() {
			if _, err := os.Stat(filepath.Join(h.dir, "1", "f")); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.end()
	if _, err := os.ReadDir(h.dir); err != nil {
		t.Error(err)
	}
	p.must(204, "DELETE", "/api/v1/mount?mountpoint=%2F1", "")
	p.signal(syscall.SIGTERM)
	if err := p.wait(); err != nil || h.mounted(t) {
		t.Error(err, "mounted:", h.mounted(t))
	}
}

// TestUpgradeUnderLoad is nydus-snapshotter's hot upgrade.
func TestUpgradeUnderLoad(t *testing.T) {
	h := newHost(t)
	text := strings.Repeat("goes on. ", 30_000)
	im := oneFile(t, text)
	p := h.fuse(t, h.api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=%2F1", im.mountBody(""))
	h.sup.keep(p)
	r := startReading(t, filepath.Join(h.dir, "1"), text)
	for i := range testenv.Rounds(50) {
		next := h.fuse(t, fmt.Sprint(h.api, i), "--upgrade").ready()
		if got := next.state(); got != "INIT" {
			t.Fatal(got)
		}
		h.sup.give(next)
		p.must(204, "PUT", "/api/v1/daemon/exit", "")
		if err := p.wait(); err != nil {
			t.Fatal(err)
		}
		next.must(204, "PUT", "/api/v1/daemon/start", "")
		h.sup.keep(next)
		p = next
	}
	r.end()
	if r.reads.Load() == 0 {
		t.Error("nothing was read")
	}
	p.signal(syscall.SIGTERM)
	if err := p.wait(); err != nil || h.mounted(t) {
		t.Error(err, "mounted:", h.mounted(t))
	}
}

func TestFailedTakeoverChangesNothing(t *testing.T) {
	h := newHost(t)
	im := oneFile(t, "stays")
	p := h.fuse(t, h.api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=%2F1", im.mountBody(""))
	h.sup.keep(p)
	next := h.fuse(t, h.api+"2", "--upgrade").ready()
	for _, state := range [][]byte{{}, []byte("of another program"), h.sup.State[:len(h.sup.State)/2]} {
		gave := make(chan error, 1)
		go func() { gave <- h.sup.send(append([]byte{}, state...)) }()
		next.must(500, "PUT", "/api/v1/daemon/fuse/takeover", "")
		<-gave // an empty state may fail to be sent
		if got := next.state(); got != "INIT" {
			t.Errorf("%s after a failed takeover", got)
		}
		if got, err := os.ReadFile(filepath.Join(h.dir, "1", "f")); err != nil || string(got) != "stays" {
			t.Errorf("%q, %v", got, err)
		}
	}
	next.must(400, "PUT", "/api/v1/daemon/start", "")
	h.sup.give(next)
	p.signal(syscall.SIGKILL)
	next.must(204, "PUT", "/api/v1/daemon/start", "")
	if got, err := os.ReadFile(filepath.Join(h.dir, "1", "f")); err != nil || string(got) != "stays" {
		t.Errorf("%q, %v", got, err)
	}
}
