package devfuse_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv/devfuse"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
)

// TestUnmountLeavesTheNextMount: the kernel gives the number of a connection that has
// ended to the next one, which may be mounted at the same place. nydus-snapshotter
// unmounts and mounts anew when a daemon has died.
func TestUnmountLeavesTheNextMount(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE)
	dir := t.TempDir()
	o := devfuse.MountOptions{Opener: opener.Local()}
	reused := false
	for range 20 {
		first, err := devfuse.Mount(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		next, err := devfuse.Mount(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		reused = reused || next.ID() == first.ID()
		if err := first.Unmount(); err != nil {
			t.Error(err)
		}
		if !devfuse.Mounted(opener.Local(), dir) {
			t.Error("the next mount was taken away")
		}
		if err := next.Unmount(); err != nil || devfuse.Mounted(opener.Local(), dir) {
			t.Error("its own mount was left", err)
		}
		_, _ = first.Close(), next.Close()
		if reused {
			return
		}
	}
	t.Error("the kernel never gave a number twice, so nothing was shown")
}
