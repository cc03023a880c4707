package virtqueue

import (
	"fmt"
	"math"
	"sync/atomic"
)

// InflightSpec is the description in GET_INFLIGHT_FD and SET_INFLIGHT_FD.
type InflightSpec struct {
	MmapSize, MmapOffset uint64
	NumQueues, QueueSize uint16
}

// An InflightRegion is the memory shared with the front-end that survives a
// crash of ours and says which requests were taken and not completed.
type InflightRegion struct {
	region *Region
	spec   InflightSpec
	packed bool
}

// An Inflight is one queue's part of an InflightRegion.
type Inflight struct {
	mem     []byte
	size    uint32
	packed  bool
	counter atomic.Uint64
}

// InflightSize returns the bytes one queue of size entries needs.
func InflightSize(size int, packed bool) uint64 {
	n := uint64(16 + 16*size)
	if packed {
		n = uint64(32 + 32*size)
	}
	return (n + 63) &^ 63
}

// MapInflight maps the region behind fd, which stays the caller's.
func MapInflight(fd int, spec InflightSpec, packed, anyFile bool) (*InflightRegion, error) {
	if spec.NumQueues == 0 || spec.QueueSize == 0 || spec.QueueSize > MaxSize || spec.MmapSize > math.MaxInt64 ||
		spec.MmapSize < uint64(spec.NumQueues)*InflightSize(int(spec.QueueSize), packed) {
		return nil, fmt.Errorf("%w: inflight: %d queues of %d in %#x bytes", ErrRegion,
			spec.NumQueues, spec.QueueSize, spec.MmapSize)
	}
	r, err := MapRegion(fd, RegionSpec{Size: spec.MmapSize, MmapOffset: spec.MmapOffset, AnyFile: anyFile})
	if err != nil {
		return nil, fmt.Errorf("inflight: %w", err)
	}
	if !aligned(r.mem, 8) {
		_ = r.Unmap()
		return nil, fmt.Errorf("%w: inflight: offset %#x", ErrRegion, spec.MmapOffset)
	}
	return &InflightRegion{r, spec, packed}, nil
}

// Unmap gives the mapping back. All its queues must have been closed.
func (r *InflightRegion) Unmap() error { return r.region.Unmap() }

// Queue returns the part of queue i, which has size entries, or nil if the
// region has none that fits.
func (r *InflightRegion) Queue(i, size int) *Inflight {
	if i < 0 || i >= int(r.spec.NumQueues) || size > int(r.spec.QueueSize) {
		return nil
	}
	n := InflightSize(int(r.spec.QueueSize), r.packed)
	return &Inflight{mem: r.region.mem[uint64(i)*n:][:n:n], size: uint32(size), packed: r.packed}
}
