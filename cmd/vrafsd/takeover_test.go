package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/internal/testenv"
)

// start starts a program with the arguments that nydus-snapshotter gives.
func (h *host) start(t *testing.T, program, api string, more ...string) *process {
	t.Helper()
	args := []string{"fuse", "--thread-num", "4", "--id", "shared", "--mountpoint", h.dir, "--apisock", api,
		"--log-level", "info", "--log-rotation-size", "100", "--supervisor", h.sup.Path, "--failover-policy", "resend"}
	return start(t, exec.Command(program, append(args, more...)...), "", api)
}

// An upgrade is nydus-snapshotter's: from one running daemon to the next. A daemon
// that is killed on the way is replaced as its failover does.
type upgrade struct {
	t        *testing.T // of the whole test: daemons outlive a case
	h        *host
	old, new *process
	n        int // control sockets that were used
}

// upgradeSteps are the steps of an upgrade, in order.
var upgradeSteps = []struct {
	name string
	do   func(u *upgrade)
}{
	{"start_the_new", func(u *upgrade) { u.new = u.waiting() }},
	{"takeover", func(u *upgrade) { u.h.sup.give(u.new) }},
	{"exit_the_old", func(u *upgrade) { u.old.must(204, "PUT", "/api/v1/daemon/exit", ""); <-u.old.done }},
	{"start", func(u *upgrade) { u.new.must(204, "PUT", "/api/v1/daemon/start", "") }},
	{"save", func(u *upgrade) { u.h.sup.keep(u.new) }},
}

// waiting starts a daemon that waits for a takeover.
func (u *upgrade) waiting() *process {
	u.n++
	return u.h.fuse(u.t, fmt.Sprint(u.h.api, u.n), "--upgrade").ready()
}

// replace has a new daemon go on for dead ones.
func (u *upgrade) replace() *process {
	p := u.waiting()
	u.h.sup.give(p)
	p.must(204, "PUT", "/api/v1/daemon/start", "")
	u.h.sup.keep(p)
	return p
}

// finish brings an upgrade, of which done steps were done and a daemon was killed,
// to a running daemon.
func (u *upgrade) finish(done int, killedOld bool) *process {
	exited := done >= 3
	switch {
	case killedOld: // the new one is all there is
		if done < 2 {
			u.h.sup.give(u.new)
		}
		if done < 4 {
			u.new.must(204, "PUT", "/api/v1/daemon/start", "")
		}
		u.h.sup.keep(u.new)
		return u.new
	case exited: // both are gone
		return u.replace()
	}
	return u.old // never stopped serving
}

// TestKillBetweenStepsOfAnUpgrade kills the old or the new daemon after each step, under
// readers that must see nothing of it.
func TestKillBetweenStepsOfAnUpgrade(t *testing.T) {
	h := newHost(t)
	text := strings.Repeat("goes on. ", 30_000)
	im := oneFile(t, text)
	running := h.fuse(t, h.api).ready()
	running.must(204, "POST", "/api/v1/mount?mountpoint=%2F1", im.mountBody(""))
	h.sup.keep(running)
	r := startReading(t, filepath.Join(h.dir, "1"), text)
	defer r.end()
	n := 0
	for done := 1; done <= len(upgradeSteps); done++ {
		for _, killOld := range []bool{true, false} {
			if killOld && done >= 3 {
				continue // it has ended
			}
			t.Run(fmt.Sprintf("%s/old=%v", upgradeSteps[done-1].name, killOld), func(sub *testing.T) {
				u := &upgrade{t: t, h: h, old: running, n: n}
				for _, s := range upgradeSteps[:done] {
					s.do(u)
				}
				if killOld {
					u.old.kill()
				} else {
					u.new.kill()
				}
				had := r.reads.Load()
				running, n = u.finish(done, killOld), u.n
				eventually(sub, "reads", func() bool { return r.reads.Load() > had+20 || t.Failed() })
				if got := running.state(); got != "RUNNING" {
					sub.Error(got)
				}
			})
		}
	}
}

// lastRelease builds the program of the commit before this one.
func lastRelease(t *testing.T) string {
	t.Helper()
	testenv.Need(t, testenv.History)
	dir := t.TempDir()
	unpack := exec.Command("sh", "-c", "git archive HEAD^ | tar -x -C "+dir)
	unpack.Dir = testenv.ModuleRoot()
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("git archive: %v\n%s", err, out)
	}
	program := filepath.Join(dir, "vrafsd.last")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, "./cmd/vrafsd")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

// TestTakeoverBetweenReleases upgrades from each of the last commit's program and this
// one to each of them, and takes over after a SIGKILL in the same way.
func TestTakeoverBetweenReleases(t *testing.T) {
	testenv.Long(t)
	last := lastRelease(t)
	for _, pair := range [][2]string{{last, binary}, {binary, last}, {binary, binary}, {last, last}} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s_to_%s/killed=%v", filepath.Base(pair[0]), filepath.Base(pair[1]), killed), func(t *testing.T) {
				h := newHost(t)
				text := strings.Repeat("across. ", 30_000)
				im := oneFile(t, text)
				old := h.start(t, pair[0], h.api).ready()
				old.must(204, "POST", "/api/v1/mount?mountpoint=%2F1", im.mountBody(""))
				old.must(204, "PUT", "/api/v1/config?id=/1", `{"registry_auth":"dTpw"}`)
				h.sup.keep(old)
				r := startReading(t, filepath.Join(h.dir, "1"), text)
				defer r.end()
				if killed {
					old.kill()
				}
				next := h.start(t, pair[1], h.api+"2", "--upgrade").ready()
				h.sup.give(next)
				if !killed {
					old.must(204, "PUT", "/api/v1/daemon/exit", "")
				}
				next.must(204, "PUT", "/api/v1/daemon/start", "")
				h.sup.keep(next)
				had := r.reads.Load()
				eventually(t, "reads", func() bool { return r.reads.Load() > had+20 || t.Failed() })
				r.end()
				next.must(204, "DELETE", "/api/v1/mount?mountpoint=%2F1", "")
			})
		}
	}
}
