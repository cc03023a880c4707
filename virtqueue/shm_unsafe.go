package virtqueue

import (
	"sync/atomic"
	"unsafe"
)

// This file is the only place that touches a ring word. Every function takes
// the area as a slice whose bounds were checked when it was resolved, and is
// bounds-checked again here by slicing. Preconditions: base address aligned as
// resolve demands (checked there, with aligned), off a multiple of the width
// unless said otherwise.
//
// Ordering. Go's atomics are sequentially consistent among themselves: a store
// is XCHG on amd64 and STLR on arm64, a load after it is not moved before it.
// So "publish used.idx, then load used_event" needs no more than storeRel and
// load32. The avail_event word is different: its other half belongs to the
// driver, so it is stored with 16 bits and a full fence (store16Fence, in
// assembly) before the available index is read again. The litmus test is
// TestNotificationFence.

// load64 loads a 64-bit word once.
func load64(b []byte, off uint32) uint64 {
	return atomic.LoadUint64((*uint64)(unsafe.Pointer(&b[off : off+8 : off+8][0])))
}

// load32 loads a 32-bit word once.
func load32(b []byte, off uint32) uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&b[off : off+4 : off+4][0])))
}

// load16 loads the 16-bit half at off (a multiple of 2) of the aligned 32-bit
// word around it. The area must reach to the end of that word.
func load16(b []byte, off uint32) uint16 {
	return uint16(load32(b, off&^3) >> (off & 2 * 8))
}

// store32 stores a 32-bit word that the driver reads only after a later storeRel.
func store32(b []byte, off, v uint32) {
	*(*uint32)(unsafe.Pointer(&b[off : off+4 : off+4][0])) = v
}

// storeRel stores a 32-bit word after everything stored before it, and before
// everything loaded after it.
func storeRel(b []byte, off, v uint32) {
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&b[off : off+4 : off+4][0])), v)
}

// store64Rel is storeRel for a 64-bit word.
func store64Rel(b []byte, off uint32, v uint64) {
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&b[off : off+8 : off+8][0])), v)
}

// or32 sets bits of a 32-bit word that the peer clears concurrently.
func or32(b []byte, off uint64, v uint32) {
	atomic.OrUint32((*uint32)(unsafe.Pointer(&b[off : off+4 : off+4][0])), v)
}

// store16 stores 16 bits, leaving the rest of the word alone, and orders the
// store before every later load.
func store16(b []byte, off uint32, v uint16) {
	store16Fence((*uint16)(unsafe.Pointer(&b[off : off+2 : off+2][0])), v)
}

// store16Fence is a 16-bit store followed by a full fence.
//
//go:noescape
func store16Fence(p *uint16, v uint16)

// aligned reports whether b starts at a multiple of n, a power of two.
func aligned(b []byte, n uintptr) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))&(n-1) == 0
}

// alignedBytes returns zeroed Go memory that starts at a multiple of 8.
func alignedBytes(n int) []byte {
	w := make([]uint64, (n+7)/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(w))), n)
}
