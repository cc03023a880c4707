package virtqueuetest

import (
	"sync/atomic"
	"unsafe"
)

// Accessors of ring words, as in virtqueue/shm_unsafe.go. Preconditions: the
// area is aligned to the width used, and off is a multiple of it.

func load32(b []byte, off uint32) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&b[off : off+4 : off+4][0])))
}

func load16(b []byte, off uint32) uint16 { return uint16(load32(b, off&^3) >> (off & 2 * 8)) }

// plain32 loads a word that an earlier atomic load has ordered.
func plain32(b []byte, off uint32) uint32 {
	return *(*uint32)(unsafe.Pointer(&b[off : off+4 : off+4][0]))
}

func store32(b []byte, off, v uint32) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&b[off : off+4 : off+4][0])), v)
}

// store16 replaces half of a word whose other half is the driver's too.
func store16(b []byte, off uint32, v uint16) {
	shift := off & 2 * 8
	w := load32(b, off&^3)
	store32(b, off&^3, w&^(0xffff<<shift)|uint32(v)<<shift)
}

// plain64 stores a word that a later atomic store makes visible.
func plain64(b []byte, off uint32, v uint64) {
	*(*uint64)(unsafe.Pointer(&b[off : off+8 : off+8][0])) = v
}

func store64(b []byte, off uint32, v uint64) {
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&b[off : off+8 : off+8][0])), v)
}
