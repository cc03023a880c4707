package testns

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
)

// insideVar is set in the process that has the namespaces, to a name that nothing
// else on the machine has.
const insideVar = "VRAFS_TESTS_INSIDE"

// Name is a name that no other run of tests has; "" outside of the namespaces.
func Name() string { return os.Getenv(insideVar) }

// Options of Main.
type Options struct {
	// Needed are features without which there are no namespaces: then every test
	// says itself what is missing.
	Needed []testenv.Feature
	// After cleans up what namespaces don't hold; it gets the Name of the run. May
	// be nil.
	After func(name string) error
}

// Main runs the tests of a package, in namespaces of their own if that can be, and
// returns the exit status. It is for TestMain.
func Main(m *testing.M, o Options) int {
	flag.Parse()
	var err error
	status := 1
	switch {
	case Name() != "":
		if err = settle(); err == nil {
			return m.Run()
		}
	case slices.ContainsFunc(o.Needed, func(f testenv.Feature) bool { return testenv.Missing(f) != "" }):
		return m.Run()
	default:
		status, err = inside(o.After)
	}
	if err != nil {
		_, _ = os.Stderr.WriteString("namespaces for the tests: " + err.Error() + "\n")
	}
	return status
}

// inside runs this program again as process 1, with a directory for temporary files.
func inside(after func(string) error) (status int, err error) {
	dir, err := os.MkdirTemp("", "ns") // short: sockets have their names below
	if err != nil {
		return 1, err
	}
	name := fmt.Sprint("vrafs-", os.Getpid())
	defer func() {
		err = errors.Join(err, os.RemoveAll(dir))
		if after != nil {
			err = errors.Join(err, after(name))
		}
	}()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVar+"="+name, "TMPDIR="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	runtime.LockOSThread() // the death signal is about the thread
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Pdeathsig:  unix.SIGKILL,
	}
	err = runUntilSignal(cmd)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(1, exit.ExitCode()), nil
	}
	return cmd.ProcessState.ExitCode(), err
}

// runUntilSignal runs cmd to its end, and kills it when this process shall end: then
// there still is time to clean up.
func runUntilSignal(cmd *exec.Cmd) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := cmd.Start(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })()
	return cmd.Wait()
}

// settle makes the namespaces usable.
func settle() error {
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
	}{
		{"none", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", "/proc", "proc", 0},
		{"tmpfs", "/run", "tmpfs", 0}, // programs have their sockets there
	} {
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return loopbackUp()
}

// loopbackUp brings up the loopback of this thread's network namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("loopback up: %w", err)
	}
	return nil
}
