package containerd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait for something that must happen.
const patience = 15 * time.Second

// must ends the test at an error.
func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// until asks again and again, and ends the test if the answer stays an error.
func until(t testing.TB, what string, ask func() error) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// output runs a program to its end and returns what it printed.
func output(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", cmd.Args, err, out, stderr.Bytes())
	}
	return string(out)
}

// A server is a program that runs until the test ends it, with its log in a file.
type server struct {
	t    testing.TB
	cmd  *exec.Cmd
	path string // of the log
}

// serve starts a program; its log is added to the one of a former run.
func serve(t testing.TB, log string, cmd *exec.Cmd) *server {
	t.Helper()
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	must(t, cmd.Start())
	return &server{t: t, cmd: cmd, path: log}
}

// kill ends the program at once.
func (s *server) kill() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// log is all that the program said.
func (s *server) log() string {
	text, err := os.ReadFile(s.path)
	must(s.t, err)
	return string(text)
}

// report shows the end of the log of a failed test.
func (s *server) report() {
	if s.t.Failed() {
		lines := strings.SplitAfter(s.log(), "\n")
		s.t.Logf("end of %s:\n%s", filepath.Base(s.path), strings.Join(lines[max(0, len(lines)-25):], ""))
	}
}

// running lists the processes of a program, of which all are the tests' own here.
func running(t testing.TB, program string) (pids []int) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	must(t, err)
	for _, l := range links {
		var pid int
		if to, err := os.Readlink(l); err == nil && to == program {
			_, err = fmt.Sscanf(l, "/proc/%d/exe", &pid)
			must(t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

// mountsBelow lists the places below dir where something is mounted, the last first.
func mountsBelow(t testing.TB, dir string) (places []string) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			places = append([]string{f[1]}, places...)
		}
	}
	return places
}

// unmountBelow takes away what a test left mounted.
func unmountBelow(t testing.TB, dir string) {
	t.Helper()
	for _, place := range mountsBelow(t, dir) {
		if err := unix.Unmount(place, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", place, err)
		}
	}
}
