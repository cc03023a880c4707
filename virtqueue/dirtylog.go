package virtqueue

import (
	"fmt"
	"math"
	"sync/atomic"
)

// logPage is the guest page size of the dirty log, whatever the host's.
const logPage = 4096

// A DirtyLog is the bitmap shared with the front-end during migration: one bit
// per 4096-byte page of guest physical memory (vhost-user, "Migration").
//
//	page = gpa/4096: bit page%8 of byte page/8
//
// The front-end clears bits while we set them.
type DirtyLog struct {
	bits   []byte  // length a multiple of 4
	region *Region // the mapping, nil for heap memory
	beyond atomic.Uint64
}

// NewDirtyLog returns a log over Go memory, for tests.
func NewDirtyLog(size int) *DirtyLog { return &DirtyLog{bits: alignedBytes(size &^ 3)} }

// MapDirtyLog maps size bytes at off of fd, which stays the caller's. The same
// kinds of files are accepted as for MapRegion.
func MapDirtyLog(fd int, size, off uint64, anyFile bool) (*DirtyLog, error) {
	if size == 0 || off%4 != 0 || size > math.MaxInt64 {
		return nil, fmt.Errorf("%w: dirty log of %#x bytes at %#x", ErrRegion, size, off)
	}
	r, err := MapRegion(fd, RegionSpec{Size: size, MmapOffset: off, AnyFile: anyFile})
	if err != nil {
		return nil, fmt.Errorf("dirty log: %w", err)
	}
	return &DirtyLog{bits: r.mem[:size&^3], region: r}, nil
}

// Unmap gives the mapping back. The log must have been taken out of its Space.
func (l *DirtyLog) Unmap() error {
	r := l.region
	if r == nil {
		return nil
	}
	l.region, l.bits = nil, nil
	return r.Unmap()
}

// Mark sets the bits of the pages that hold [addr, addr+n). Pages beyond the
// log are counted, see Beyond.
func (l *DirtyLog) Mark(addr GPA, n uint64) {
	if n == 0 {
		return
	}
	first, last := uint64(addr)/logPage, (uint64(addr)+n-1)/logPage
	for p := first; p <= last; p++ {
		word := p / 32 * 4
		if word >= uint64(len(l.bits)) {
			l.beyond.Add(last - p + 1)
			return
		}
		or32(l.bits, word, 1<<(p%32))
	}
}

// Beyond returns how many pages lay past the end of the log: a front-end bug.
func (l *DirtyLog) Beyond() uint64 { return l.beyond.Load() }

// Bytes returns the bitmap, for tests.
func (l *DirtyLog) Bytes() []byte { return l.bits }

// markSegs marks the first n bytes of segs.
func (l *DirtyLog) markSegs(segs []Seg, n uint64) {
	for i := range segs {
		if n == 0 {
			return
		}
		k := min(uint64(segs[i].Len), n)
		l.Mark(segs[i].Addr, k)
		n -= k
	}
}
