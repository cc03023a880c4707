package blobcache

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// words64 views page-aligned memory as words that several goroutines change.
// Preconditions: b comes from mmap, and its length is a multiple of 8.
func words64(b []byte) []atomic.Uint64 {
	return unsafe.Slice((*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/8)
}

// word32 gives the aligned 32-bit word around byte i of a shared mapping.
// Preconditions: b comes from mmap; i is inside its last page at most, which a
// mapping always covers whole.
func word32(b []byte, i uint64) *uint32 {
	return (*uint32)(unsafe.Pointer(&b[i&^3]))
}

// cachedPages asks cachestat(2) how many pages of a range are in the page cache.
func cachedPages(fd int, off, size uint64) (uint64, unix.Errno) {
	in := struct{ off, len uint64 }{off, size}
	var out struct{ cached, dirty, writeback, evicted, recently uint64 }
	_, _, errno := unix.Syscall6(unix.SYS_CACHESTAT, uintptr(fd), uintptr(unsafe.Pointer(&in)),
		uintptr(unsafe.Pointer(&out)), 0, 0, 0)
	return out.cached, errno
}
