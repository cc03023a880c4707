package virtqueue

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// A RegionSpec describes a region as SET_MEM_TABLE and ADD_MEM_REG do.
type RegionSpec struct {
	GPA        GPA
	UVA        UVA
	Size       uint64
	MmapOffset uint64 // of the region's first byte in the file
	// AnyFile accepts files on block devices too. Without it only tmpfs (memfd
	// included) and hugetlbfs will do. Others never do: a page of a FUSE or network
	// file depends on a peer, may never come, and then stops the whole Go process. A
	// fuseblk mount can't be told from a disk: with AnyFile its server is trusted.
	AnyFile bool
}

// MapRegion maps a region of the file fd, which stays the caller's. It refuses
// with ErrRegion a file that is too short or of the wrong file system.
func MapRegion(fd int, s RegionSpec) (*Region, error) {
	if err := checkRange(s.GPA, s.UVA, s.Size); err != nil {
		return nil, err
	}
	if err := checkFile(fd, s.AnyFile); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("%w: fstat: %w", ErrRegion, err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return nil, fmt.Errorf("%w: fstatfs: %w", ErrRegion, err)
	}
	page := uint64(unix.Getpagesize())
	if uint32(fs.Type) == unix.HUGETLBFS_MAGIC {
		page = uint64(fs.Bsize)
	}
	size := uint64(max(st.Size, 0))
	if s.MmapOffset > size || s.Size > size-s.MmapOffset {
		return nil, fmt.Errorf("%w: %#x bytes at %#x of a file of %#x", ErrRegion, s.Size, s.MmapOffset, size)
	}
	// size is below 2^63, so none of the sums below can wrap.
	start := s.MmapOffset &^ (page - 1)
	skip := s.MmapOffset - start
	length := (skip + s.Size + page - 1) &^ (page - 1)
	if length > math.MaxInt {
		return nil, fmt.Errorf("%w: size %#x", ErrRegion, s.Size)
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: dup: %w", ErrRegion, err)
	}
	full, err := unix.Mmap(fd, int64(start), int(length), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		_ = unix.Close(own)
		return nil, fmt.Errorf("%w: mmap %#x bytes: %w", ErrRegion, length, err)
	}
	// Guest memory belongs neither in core dumps nor in children. Both calls are
	// advice: an old kernel without them serves as well.
	_ = unix.Madvise(full, unix.MADV_DONTDUMP)
	_ = unix.Madvise(full, unix.MADV_DONTFORK)
	return &Region{gpa: s.GPA, uva: s.UVA, mem: full[skip : skip+s.Size : skip+s.Size], full: full, fd: own, spec: s}, nil
}

// checkFile refuses files that RegionSpec.AnyFile does. It waits for nobody, where
// fstat and fstatfs of a FUSE file wait for its server.
func checkFile(fd int, anyFile bool) error {
	// Only regular files of tmpfs and hugetlbfs have seals.
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	switch {
	case err == nil:
		return nil
	case !anyFile:
		return fmt.Errorf("%w: file is neither on tmpfs nor on hugetlbfs: %w", ErrRegion, err)
	}
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st); err != nil {
		return fmt.Errorf("%w: statx: %w", ErrRegion, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Dev_major == 0 {
		return fmt.Errorf("%w: file of mode %#o on device %d:%d is not on a block device", ErrRegion, st.Mode, st.Dev_major, st.Dev_minor)
	}
	return nil
}

// Unmap gives the mapping back. The caller must have replaced every Memory that
// holds the region (Space.Replace) before; views of it are dangling afterwards.
func (r *Region) Unmap() error {
	full := r.full
	if full == nil {
		return nil
	}
	r.full, r.mem = nil, nil
	_ = unix.Close(r.fd) // nothing can be done, and Linux frees it anyway
	return unix.Munmap(full)
}

// pageSlice is how much of guest memory DropPages lets go of at once: a table change
// waits no longer than for one slice.
const pageSlice = 16 << 20

// DropPages takes guest memory out of this process's page tables, slice by slice,
// while it is in use: its pages stay in their files and are mapped again when they
// are touched. A process with few pages mapped ends, or becomes another program,
// soon. It returns early when stop says so.
func (s *Space) DropPages(stop func() bool) {
	p := s.NewPin()
	defer p.Close()
	for next := GPA(0); !stop(); {
		r, off := s.sliceFrom(p.Enter(), next)
		if r != nil {
			n := min(pageSlice, uint64(len(r.full))-off)
			_ = unix.Madvise(r.full[off:off+n], unix.MADV_DONTNEED) // advice
			next = r.gpa + GPA(off+n)
		}
		p.Leave()
		if r == nil {
			return
		}
	}
}

// sliceFrom finds the first mapped region that ends above a guest address, and where
// in its mapping to go on.
func (s *Space) sliceFrom(m *Memory, next GPA) (r *Region, off uint64) {
	for _, r := range m.byGPA {
		switch {
		case r.full == nil:
		case next <= r.gpa:
			return r, 0
		case uint64(next-r.gpa) < uint64(len(r.full)):
			return r, uint64(next-r.gpa) &^ (pageSlice - 1) // a new region may lie otherwise
		}
	}
	return nil, 0
}
