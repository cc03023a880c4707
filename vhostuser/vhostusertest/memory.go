package vhostusertest

import (
	"fmt"

	"golang.org/x/sys/unix"

	"vrafs/virtqueue"
)

// A Region is guest memory of the front-end's own: a memfd and its mapping.
type Region struct {
	Spec virtqueue.RegionSpec
	Mem  []byte
	FD   int
}

// NewRegion makes size bytes of guest memory, all zero.
func NewRegion(gpa virtqueue.GPA, uva virtqueue.UVA, size int) (*Region, error) {
	fd, err := newMemfd(size)
	if err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		closeFD(fd)
		return nil, fmt.Errorf("mmap: %w", err)
	}
	return &Region{Spec: virtqueue.RegionSpec{GPA: gpa, UVA: uva, Size: uint64(size)}, Mem: mem, FD: fd}, nil
}

// Close frees the memory. Nothing may use Mem afterwards.
func (r *Region) Close() {
	if r.Mem != nil {
		_ = unix.Munmap(r.Mem) // cannot fail for a mapping of our own
		r.Mem = nil
	}
	closeFD(r.FD)
	r.FD = -1
}

// newMemfd returns an anonymous file of size bytes.
func newMemfd(size int) (int, error) {
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, fmt.Errorf("memfd: %w", err)
	}
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		closeFD(fd)
		return -1, fmt.Errorf("ftruncate: %w", err)
	}
	return fd, nil
}
