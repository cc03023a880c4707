package passthrough

import (
	"sync/atomic"
	"unsafe"
)

// A record is what a node is, in memory that the program which takes this one's place
// goes on with: no pointers, no descriptors, a fixed layout, which has a number in the
// state (see state.go).
//
//	0  8   16  24   32      40   44   48    52  56   58    59     60          64     128
//	|id|ino|dev|born|lookups|hash|next|mount|gen|kind|flags|size |handle kind|handle|
type record struct {
	id      atomic.Uint64 // 0: free
	ino     uint64
	dev     uint64
	born    int64         // ns since 1970, 0: the file system does not tell
	lookups atomic.Uint64 // what the guest has to forget
	hash    atomic.Uint32
	next    uint32 // slot: of the same hash, or free
	mount   uint32 // its number in the kernel
	gen     uint32 // of id
	kind    uint16 // S_IFMT of its mode
	flags   uint8
	size    uint8 // of handle, 0: none
	hkind   int32
	handle  [maxHandle]byte
}

const recordSize = 128

// Flags of a record.
const (
	// isSure says that kind is that of what the handle opens: it was asked for through
	// a descriptor, not by a name.
	isSure = 1 << iota
	// isGone says that the handle opens nothing any more.
	isGone
)

// records views memory of len/recordSize records. Preconditions: b is aligned to 8
// bytes and outlives the table.
func records(b []byte) []record {
	return unsafe.Slice((*record)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/recordSize)
}

// The layout is the one above.
var _ [recordSize]byte = [unsafe.Sizeof(record{})]byte{}
