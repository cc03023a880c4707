package virtqueue

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// InflightSpec is the description in GET_INFLIGHT_FD and SET_INFLIGHT_FD.
type InflightSpec struct {
	MmapSize, MmapOffset uint64
	NumQueues, QueueSize uint16
	Packed               bool // as negotiated: the messages don't say
}

// An InflightRegion is the memory shared with the front-end that survives a
// crash of ours and says which requests were taken and not completed.
type InflightRegion struct {
	region *Region
	spec   InflightSpec
}

// An Inflight is one queue's part of an InflightRegion.
type Inflight struct {
	mem         []byte
	counter     uint64 // of the last chain taken
	packedState        // of a packed queue
}

// InflightSize returns the bytes one queue of size entries needs.
func InflightSize(size int, packed bool) uint64 {
	n := infEntries + infEntrySize*size
	if packed {
		n = infpEntries + infpEntrySize*size
	}
	return (uint64(n) + 63) &^ 63
}

// MapInflight maps the region behind fd, which stays the caller's.
func MapInflight(fd int, spec InflightSpec, anyFile bool) (*InflightRegion, error) {
	if spec.NumQueues == 0 || spec.QueueSize == 0 || spec.QueueSize > MaxSize || spec.MmapSize > math.MaxInt64 ||
		spec.MmapSize < uint64(spec.NumQueues)*InflightSize(int(spec.QueueSize), spec.Packed) {
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

// FD returns a descriptor of the region's file, which stays the region's.
func (r *InflightRegion) FD() int { return r.region.FD() }

// Spec returns what the region was mapped from.
func (r *InflightRegion) Spec() InflightSpec { return r.spec }

// Unmap gives the mapping back. All its queues must have been closed.
func (r *InflightRegion) Unmap() error { return r.region.Unmap() }

// Queue returns the part of queue i, which has size entries, or nil if the
// region has none that fits.
func (r *InflightRegion) Queue(i, size int, packed bool) *Inflight {
	if i < 0 || i >= int(r.spec.NumQueues) || size > int(r.spec.QueueSize) || packed != r.spec.Packed {
		return nil
	}
	n := InflightSize(int(r.spec.QueueSize), packed)
	return &Inflight{mem: r.region.mem[uint64(i)*n:][:n:n]}
}

// Reset makes the next start of the queue begin anew, for a ring that was
// stopped in order: the driver may reset it meanwhile.
func (f *Inflight) Reset() { storeRel(f.mem, infVersionNum, 0) }

// recover finds what a former life of this process left in flight and prepares
// to take it again, in its order, before anything new.
func (q *Queue) recover() error {
	switch f, want := q.cfg.Inflight, InflightSize(q.cfg.Size, q.cfg.Packed); {
	case f == nil:
		return nil
	case uint64(len(f.mem)) < want:
		return &RingError{"inflight region", uint64(len(f.mem)), want, "bytes, not"}
	case q.cfg.Packed:
		return q.recoverPacked()
	default:
		return q.recoverSplit()
	}
}

// aged is the first entry of a chain in flight and when it was taken.
type aged struct {
	entry   uint16
	counter uint64
}

// sorted returns the entries, oldest first, and counts on from the youngest.
func (f *Inflight) sorted(found []aged) []uint16 {
	slices.SortFunc(found, func(a, b aged) int { return cmp.Compare(a.counter, b.counter) })
	var entries []uint16
	for _, e := range found {
		entries = append(entries, e.entry)
		f.counter = max(f.counter, e.counter)
	}
	return entries
}
