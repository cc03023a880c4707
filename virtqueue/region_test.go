package virtqueue_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/virtqueue"
)

func TestRegionInAFileOnADiskNeedsTheOption(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "memory"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(8192); err != nil {
		t.Fatal(err)
	}
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_TYPE, &st); err != nil {
		t.Fatal(err)
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	tmpfs, disk := err == nil, st.Dev_major != 0 // neither: the temporary directory is an overlay
	for _, anyFile := range []bool{false, true} {
		r, err := virtqueue.MapRegion(int(f.Fd()), virtqueue.RegionSpec{Size: 8192, AnyFile: anyFile})
		if want := tmpfs || disk && anyFile; (err == nil) != want || err != nil && !errors.Is(err, virtqueue.ErrRegion) {
			t.Errorf("option %v, tmpfs %v, disk %v: %v", anyFile, tmpfs, disk, err)
		}
		if err != nil {
			continue
		}
		if err := r.Unmap(); err != nil {
			t.Error(err)
		}
	}
}

func TestRegionInAPipeOrDirectoryIsRefused(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	dir, err := unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	shm, err := unix.Open("/dev/shm", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(shm)
	for _, fd := range []int{p[0], p[1], dir, shm} {
		for _, anyFile := range []bool{false, true} {
			if _, err := virtqueue.MapRegion(fd, virtqueue.RegionSpec{Size: 1, AnyFile: anyFile}); !errors.Is(err, virtqueue.ErrRegion) {
				t.Errorf("descriptor %d, option %v: %v", fd, anyFile, err)
			}
		}
	}
}
