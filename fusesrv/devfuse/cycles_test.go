package devfuse_test

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"vrafs/fusesrv/devfuse"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testleak"
	"vrafs/rafs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestMountCyclesLeakNothing mounts, serves and unmounts at one place again and
// again: no descriptor is left, nor, as for the whole package, a goroutine.
func TestMountCyclesLeakNothing(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE)
	testenv.Long(t)
	s := fusesrvtest.Serve(t, testimage.Make(t, testimage.Options{Version: rafs.V6}), fusesrvtest.StackOptions{})
	dir := t.TempDir()
	cycle := func() {
		c, err := devfuse.Mount(dir, devfuse.MountOptions{Opener: opener.Local()})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			ended <- c.Serve(t.Context(), s.Server, devfuse.ServeOptions{Threads: 2, Workers: 2})
		}()
		if _, err := os.Stat(filepath.Join(dir, "sizes")); err != nil {
			t.Error(err)
		}
		if err := c.Unmount(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	cycle()
	before := testleak.Descriptors(t)
	for range testenv.Rounds(10_000) {
		if cycle(); t.Failed() {
			return
		}
	}
	if after := testleak.Descriptors(t); after > before {
		t.Errorf("%d descriptors, were %d", after, before)
	}
}
