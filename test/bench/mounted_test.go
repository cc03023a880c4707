package bench

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv/devfuse"
	"vrafs/internal/opener"
)

// A mounted is a tree on this host, and the process that serves it; file systems of
// the kernel have none.
type mounted struct {
	*peer
	name, dir string
}

// mountedBy runs a program that mounts a FUSE file system at dir.
func mountedBy(b *testing.B, name, dir, program string, args ...string) *mounted {
	b.Helper()
	b.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // if the process could not
	m := &mounted{peer: launch(b, name, program, args...), name: name, dir: dir}
	err := m.until(func() error {
		if !devfuse.Mounted(opener.Local(), dir) {
			return fmt.Errorf("%s has mounted nothing", name)
		}
		return nil
	})
	if err != nil {
		b.Fatalf("%v\n%s", err, m.log)
	}
	if _, err := os.ReadDir(dir); err != nil && !errors.Is(err, unix.ENOSYS) {
		b.Fatal(err)
	}
	return m
}

// startFuse has our daemon mount an image.
func startFuse(b *testing.B, im *image) *mounted {
	b.Helper()
	dir := b.TempDir()
	return mountedBy(b, "vrafs", dir, daemonBinary(b), "fuse", "--thread-num", "4", "--mountpoint", dir,
		"--bootstrap", im.bootstrap, "--config", im.config, "--log-level", "error")
}

// drop makes the kernel forget pages, names and inodes.
func drop(b *testing.B) {
	b.Helper()
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0); err != nil {
		b.Fatal(err)
	}
}
