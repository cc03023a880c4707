package devfuse_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv/devfuse"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
	"vrafs/internal/testleak"
)

// TestMountpointBehindALink is known to the kernel by another path: /var/run is such
// a link on most machines.
func TestMountpointBehindALink(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE)
	target, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	dir := filepath.Join(target, "mnt")
	if err := errors.Join(os.Symlink(target, link), os.Mkdir(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // if the Conn could not
	through := filepath.Join(link, "mnt")
	c, err := devfuse.Mount(through, devfuse.MountOptions{Opener: opener.Local()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Dir() != dir || !devfuse.Mounted(opener.Local(), through) {
		t.Errorf("mounted on %s, want %s", c.Dir(), dir)
	}
	fd, err := unix.FcntlInt(uintptr(c.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	next, err := devfuse.Adopt(opener.Local(), fd, through)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if err := next.Unmount(); err != nil || next.ID() != c.ID() || devfuse.Mounted(opener.Local(), dir) {
		t.Errorf("connection %d, was %d; its mount was left: %v", next.ID(), c.ID(), err)
	}
}

// withoutTable opens everything but the list of mounts.
type withoutTable struct{ opener.Opener }

func (o withoutTable) Open(path string, flags int, perm uint32) (*os.File, error) {
	if path == "/proc/self/mountinfo" {
		return nil, os.ErrPermission
	}
	return o.Opener.Open(path, flags, perm)
}

func TestMountThatCannotBeNumberedIsTakenAway(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE)
	dir := t.TempDir()
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // if Mount did not
	before := testleak.Descriptors(t)
	_, err := devfuse.Mount(dir, devfuse.MountOptions{Opener: withoutTable{opener.Local()}})
	if !errors.Is(err, os.ErrPermission) || devfuse.Mounted(opener.Local(), dir) {
		t.Errorf("a mount was left behind: %v", err)
	}
	if after := testleak.Descriptors(t); after != before {
		t.Errorf("%d descriptors, were %d", after, before)
	}
}

func TestConnectionOfAPlaceThatIsGoneIsAdopted(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE)
	c, err := devfuse.Mount(t.TempDir(), devfuse.MountOptions{Opener: opener.Local()})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Unmount(); err != nil {
		t.Error(err)
	}
	next, err := devfuse.AdoptID(opener.Local(), c.FD(), filepath.Join(c.Dir(), "gone", "mnt"), c.ID())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(next.Unmount(), next.Close()); err != nil {
		t.Error(err)
	}
}
