package testregistry

import (
	"bufio"
	"context"
	"io"
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// Run runs a program until the test ends.
func Run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// Await returns once somebody listens at host, for programs that do not say when they do.
func Await(t testing.TB, host string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("nobody listens at %s: %v", host, err)
		}
	}
}

// spawn is Run that returns once the program has printed, on its standard error, a line
// that is ready.
func spawn(t testing.TB, cmd *exec.Cmd, ready func(line string) bool) {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	Run(t, cmd)
	said := ""
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if ready(lines.Text()) {
			go func() { _, _ = io.Copy(io.Discard, stderr) }() // ends with the program
			return
		}
		said += lines.Text() + "\n"
	}
	t.Fatalf("%s does not start:\n%s", cmd.Path, said)
}
