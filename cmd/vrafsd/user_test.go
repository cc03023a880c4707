package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
)

// nobody is a user without any privilege.
const nobody = 65534

// asNobody makes arguments of setpriv run a command as that user.
var asNobody = []string{"setpriv", fmt.Sprint("--reuid=", nobody), fmt.Sprint("--regid=", nobody), "--clear-groups"}

// forNobody gives files and directories of the test to that user.
func forNobody(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.Chown(path, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		// The directory of all directories of a test is for its own user only.
		if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// A space is a mount namespace in which everybody may open /dev/fuse, as Debian's
// systems have it.
type space struct{ fd *os.File }

// userFuse starts a daemon as nobody in a space of its own.
func (h *host) userFuse(t *testing.T, more ...string) (*process, space) {
	t.Helper()
	dir := t.TempDir()
	device, program := filepath.Join(dir, "fuse"), filepath.Join(dir, "vrafsd")
	if err := unix.Mknod(device, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(device, 0o666); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(binary)
	if err == nil {
		err = os.WriteFile(program, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--mount", "sh", "-c", `mount --bind "$0" /dev/fuse && exec "$@"`, device}
	args = append(append(args, asNobody...), program, "fuse", "--mountpoint", h.dir, "--apisock", h.api)
	p := start(t, exec.Command("unshare", append(args, more...)...), "", h.api).ready()
	fd, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fd.Close() })
	return p, space{fd}
}

// run runs a command in the namespace.
func (s space) run(args ...string) (string, error) {
	cmd := exec.Command("nsenter", append([]string{"--mount=/proc/self/fd/3"}, args...)...)
	cmd.ExtraFiles = []*os.File{s.fd}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestUserMountsWithoutPrivileges: fusermount3 mounts, only that user sees the
// files, and the mount goes with the daemon.
func TestUserMountsWithoutPrivileges(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE, testenv.Fusermount)
	h := newHost(t)
	im := treeOf(t, map[string]string{"f": "for a user, ", "d/g": "deeper"})
	args := im.withConfig(t)
	forNobody(t, h.dir, filepath.Dir(h.api), im.cache, args[3])
	p, s := h.userFuse(t, args...)
	show := []string{"cat", filepath.Join(h.dir, "f"), filepath.Join(h.dir, "d/g")}
	if got, err := s.run(append(asNobody, show...)...); err != nil || got != "for a user, deeper" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := s.run(show...); err == nil || !strings.Contains(got, "Permission denied") {
		t.Errorf("another user sees %q, %v", got, err)
	}
	const flags = " fuse ro,nosuid,nodev,noatime,user_id=65534,group_id=65534,default_permissions"
	if mounts, err := s.run("cat", "/proc/mounts"); err != nil || !strings.Contains(mounts, h.dir+flags) {
		t.Errorf("%v: %s", err, mounts)
	}
	p.signal(syscall.SIGTERM)
	if err := p.wait(); err != nil {
		t.Error("after SIGTERM:", err)
	}
	if mounts, err := s.run("cat", "/proc/mounts"); err != nil || strings.Contains(mounts, h.dir) {
		t.Errorf("still mounted: %v, %s", err, mounts)
	}
}
