package virtqueue

import (
	"fmt"
	"math"
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
}

// An Inflight is one queue's part of an InflightRegion. Only split rings are
// tracked: no front-end was seen that wants both this and packed rings.
type Inflight struct {
	mem     []byte
	counter uint64 // of the last chain taken
}

// InflightSize returns the bytes one split queue of size entries needs.
func InflightSize(size int) uint64 { return (uint64(infEntries+infEntrySize*size) + 63) &^ 63 }

// MapInflight maps the region behind fd, which stays the caller's.
func MapInflight(fd int, spec InflightSpec, anyFile bool) (*InflightRegion, error) {
	if spec.NumQueues == 0 || spec.QueueSize == 0 || spec.QueueSize > MaxSize || spec.MmapSize > math.MaxInt64 ||
		spec.MmapSize < uint64(spec.NumQueues)*InflightSize(int(spec.QueueSize)) {
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
	return &InflightRegion{r, spec}, nil
}

// Unmap gives the mapping back. All its queues must have been closed.
func (r *InflightRegion) Unmap() error { return r.region.Unmap() }

// Queue returns the part of queue i, which has size entries, or nil if the
// region has none that fits.
func (r *InflightRegion) Queue(i, size int) *Inflight {
	if i < 0 || i >= int(r.spec.NumQueues) || size > int(r.spec.QueueSize) {
		return nil
	}
	n := InflightSize(int(r.spec.QueueSize))
	return &Inflight{mem: r.region.mem[uint64(i)*n:][:n:n]}
}
