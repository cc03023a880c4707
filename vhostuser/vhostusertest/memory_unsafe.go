package vhostusertest

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// remap maps fd in place of what is mapped at mem, which must be a whole mapping.
// Slices of mem then show the new file.
func remap(mem []byte, fd int) error {
	p := unsafe.Pointer(unsafe.SliceData(mem))
	_, err := unix.MmapPtr(fd, 0, p, uintptr(len(mem)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	return nil
}

// takeBit clears a bit of a bitmap that the back-end sets bits in, and reports
// whether it was set. The map must start at a multiple of 4.
func takeBit(bits []byte, i int) bool {
	w := (*uint32)(unsafe.Pointer(&bits[i/32*4]))
	mask := uint32(1) << (i % 32)
	return atomic.LoadUint32(w)&mask != 0 && atomic.AndUint32(w, ^mask)&mask != 0
}
