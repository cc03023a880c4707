package vhostuser

import (
	"errors"
	"fmt"
	"slices"

	"vrafs/virtqueue"
)

// regionAt decodes the memory region at off (vhost-user, "Memory region
// description"): {u64 guest address, u64 size, u64 user address, u64 mmap offset}.
func (s *session) regionAt(p []byte, off int) virtqueue.RegionSpec {
	return virtqueue.RegionSpec{
		GPA:        virtqueue.GPA(u64(p, off)),
		Size:       u64(p, off+8),
		UVA:        virtqueue.UVA(u64(p, off+16)),
		MmapOffset: u64(p, off+24),
		AnyFile:    s.o.AnyMemory,
	}
}

// setMemTable replaces the whole table.
func (s *session) setMemTable(m *message) error {
	n := u32(m.payload, 0)
	if n > maxTable || len(m.payload) != 8+int(n)*regionSize || len(m.fds) != int(n) {
		return fmt.Errorf("%w: %d regions in %d bytes with %d descriptors", errRefused, n, len(m.payload), len(m.fds))
	}
	var fresh []*virtqueue.Region
	for i := range int(n) {
		r, err := virtqueue.MapRegion(m.fds[i], s.regionAt(m.payload, 8+i*regionSize))
		if err != nil {
			unmap(fresh)
			return fmt.Errorf("region %d: %w", i, err)
		}
		fresh = append(fresh, r)
	}
	old := s.regions
	if err := s.publish(fresh); err != nil {
		unmap(fresh)
		return err
	}
	unmap(old)
	return s.startAll()
}

func (s *session) getMaxMemSlots(m *message) error {
	m.replyU64(MaxMemSlots)
	return nil
}

// addMemReg adds one region. The table checks for overlaps.
func (s *session) addMemReg(m *message) error {
	if len(s.regions) >= MaxMemSlots {
		return fmt.Errorf("%w: all %d slots in use", errRefused, MaxMemSlots)
	}
	r, err := virtqueue.MapRegion(m.fds[0], s.regionAt(m.payload, 8))
	if err != nil {
		return err
	}
	if err := s.publish(append(slices.Clone(s.regions), r)); err != nil {
		unmap([]*virtqueue.Region{r})
		return err
	}
	return s.startAll()
}

// remMemReg removes the region with the given addresses and size. Some
// front-ends send the descriptor again; it is of no use.
func (s *session) remMemReg(m *message) error {
	spec := s.regionAt(m.payload, 8)
	i := slices.IndexFunc(s.regions, func(r *virtqueue.Region) bool {
		return r.GPA() == spec.GPA && r.UVA() == spec.UVA && r.Size() == spec.Size
	})
	if i < 0 {
		return fmt.Errorf("%w: no region %#x+%#x at %#x", errRefused, spec.GPA, spec.Size, spec.UVA)
	}
	gone := s.regions[i]
	if err := s.publish(slices.Delete(slices.Clone(s.regions), i, i+1)); err != nil {
		return err
	}
	unmap([]*virtqueue.Region{gone})
	return nil
}

// publish makes regions the table. When it returns nil nobody looks at the old
// one any more.
func (s *session) publish(regions []*virtqueue.Region) error {
	mem, err := virtqueue.NewMemory(regions)
	if err != nil {
		return err
	}
	s.space.Replace(mem)
	s.regions = regions
	for _, r := range s.rings {
		r.memoryChanged()
	}
	return nil
}

func unmap(regions []*virtqueue.Region) {
	for _, r := range regions {
		_ = r.Unmap() // cannot fail for a mapping of our own
	}
}

// setLogBase maps the dirty bitmap. The reply tells the front-end that logging
// may be switched on.
func (s *session) setLogBase(m *message) error {
	l, err := virtqueue.MapDirtyLog(m.fds[0], u64(m.payload, 0), u64(m.payload, 8), s.o.AnyMemory)
	if err != nil {
		m.replyU64(1)
		return err
	}
	old := s.dirty
	s.dirty = l
	s.updateLog()
	if old != nil {
		_ = old.Unmap() // cannot fail for a mapping of our own
	}
	m.replyU64(0)
	return nil
}

// setLogFD keeps the eventfd that wakes the front-end's log reader. Waking is
// optional; nobody waits for it.
func (s *session) setLogFD(m *message) error {
	fd := -1
	if len(m.fds) == 1 {
		if _, err := checkEventFD(m.fds[0]); err != nil {
			return fmt.Errorf("%w: %w", errRefused, err)
		}
		fd = m.take(0)
	}
	closeFD(s.logFD)
	s.logFD = fd
	return nil
}

// updateLog makes the log active or not.
func (s *session) updateLog() {
	if s.features&FeatureLogAll != 0 {
		s.space.SetLog(s.dirty)
	} else {
		s.space.SetLog(nil)
	}
	for _, r := range s.rings {
		r.memoryChanged()
	}
}

var errNotStopped = errors.New("rings are running")
