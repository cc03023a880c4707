package testimage

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
)

// MountErofs mounts a v6 bootstrap with the kernel's own driver until the test
// ends, and returns the mount point. devices are the files with the uncompressed
// data of the blobs, in the order of the blob table. Without root or the driver
// the test is skipped.
func MountErofs(t testing.TB, boot string, devices []string) string {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.Erofs)
	var opts []string
	for _, d := range devices {
		opts = append(opts, "device="+d)
	}
	dir := t.TempDir()
	if err := unix.Mount(boot, dir, "erofs", unix.MS_RDONLY, strings.Join(opts, ",")); err != nil {
		t.Fatalf("mount erofs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}
