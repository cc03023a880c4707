package virtqueuetest

import (
	"fmt"
	"sync"

	"vrafs/virtqueue"
)

// An Arena hands out guest memory of one region and never takes it back. It may
// be used from any goroutine.
type Arena struct {
	Mem []byte // the region's bytes, its start aligned to a page or to 8 bytes
	GPA virtqueue.GPA
	UVA virtqueue.UVA

	mu   sync.Mutex
	used uint64
}

// NewHeapArena returns an arena of Go memory and the space that a device sees it
// through. Guest and user addresses differ, so that mixing them up shows.
func NewHeapArena(size int) (*Arena, *virtqueue.Space, error) {
	const gpa, uva = 0x1_0000_0000, 0x7f00_0000_0000
	r, err := virtqueue.HeapRegion(gpa, uva, size)
	if err != nil {
		return nil, nil, err
	}
	m, err := virtqueue.NewMemory([]*virtqueue.Region{r})
	if err != nil {
		return nil, nil, err
	}
	s := virtqueue.NewSpace()
	s.Replace(m)
	return &Arena{Mem: r.Bytes(), GPA: gpa, UVA: uva}, s, nil
}

// Alloc returns the guest address of n fresh bytes, aligned to align (a power of
// two). A full arena is an error.
func (a *Arena) Alloc(n, align uint64) (virtqueue.GPA, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	off := (a.used + align - 1) &^ (align - 1)
	if off > uint64(len(a.Mem)) || n > uint64(len(a.Mem))-off {
		return 0, fmt.Errorf("arena full: %d of %d bytes used, %d wanted", a.used, len(a.Mem), n)
	}
	a.used = off + n
	return a.GPA + virtqueue.GPA(off), nil
}

// Bytes returns the n bytes at a guest address that Alloc returned.
func (a *Arena) Bytes(addr virtqueue.GPA, n uint64) []byte {
	off := uint64(addr - a.GPA)
	return a.Mem[off : off+n : off+n]
}

// User returns the user address of a guest address.
func (a *Arena) User(addr virtqueue.GPA) virtqueue.UVA {
	return a.UVA + virtqueue.UVA(addr-a.GPA)
}
