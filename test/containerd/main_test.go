package containerd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
)

// insideVar is set in the process that has the namespaces, to a name that nothing
// else on the machine has.
const insideVar = "VRAFS_CONTAINERD_INSIDE"

// needed is what every test here needs.
var needed = []testenv.Feature{testenv.Root, testenv.FUSE, testenv.Overlay, testenv.Containerd, testenv.Snapshotter}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

// run runs the tests, in namespaces of their own if that can be.
func run(m *testing.M) int {
	var err error
	status := 1
	switch {
	case os.Getenv(insideVar) != "":
		if err = settle(); err == nil {
			return m.Run()
		}
	case slices.ContainsFunc(needed, func(f testenv.Feature) bool { return testenv.Missing(f) != "" }):
		return m.Run() // each test says what is missing
	default:
		status, err = runInside()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "namespaces for the tests:", err)
	}
	return status
}

// runInside runs this program again as process 1, and cleans up what namespaces
// don't hold: a directory and control groups.
func runInside() (status int, err error) {
	dir, err := os.MkdirTemp("", "ctrd")
	if err != nil {
		return 1, err
	}
	name := fmt.Sprint("vrafs-", os.Getpid())
	defer func() { err = errors.Join(err, os.RemoveAll(dir), removeCgroups(name)) }()
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
		{"tmpfs", "/run", "tmpfs", 0}, // shims have their sockets there
	} {
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return loopbackUp()
}

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

// removeCgroups removes the groups of all containers: a hierarchy each, or one.
func removeCgroups(name string) error {
	var errs []error
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		groups, err := filepath.Glob(filepath.Join(pattern, name))
		errs = append(errs, err)
		for _, g := range groups {
			inner, err := filepath.Glob(filepath.Join(g, "*/"))
			errs = append(errs, err)
			for _, c := range append(inner, g) {
				if st, err := os.Lstat(c); err == nil && st.IsDir() {
					errs = append(errs, unix.Rmdir(c))
				}
			}
		}
	}
	return errors.Join(errs...)
}
