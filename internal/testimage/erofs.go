package testimage

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/build"
	"vrafs/internal/testenv"
)

// FilledCache builds tree uncompressed, with its data as a filled cache file, and
// returns the bootstrap and the data files in blob-table order, as MountErofs wants
// them.
func FilledCache(t testing.TB, tree string, o build.Options) (boot string, devices []string) {
	t.Helper()
	dir := t.TempDir()
	boot = filepath.Join(dir, "image.boot")
	res, err := build.Build(t.Context(), build.Dir(tree), build.Sink{Bootstrap: boot, CacheDir: dir}, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range res.Blobs {
		devices = append(devices, filepath.Join(dir, id+".blob.data"))
	}
	return boot, devices
}

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
