package vhostuser

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"vrafs/virtqueue"
)

// inflightAt decodes {u64 mmap size, u64 mmap offset, u16 queues, u16 queue
// size}: 20 bytes, or 24 where the front-end sends its padded C structure.
func (s *session) inflightAt(p []byte) virtqueue.InflightSpec {
	return virtqueue.InflightSpec{
		Packed:   s.features&FeatureRingPacked != 0,
		MmapSize: u64(p, 0), MmapOffset: u64(p, 8),
		NumQueues: binary.NativeEndian.Uint16(p[16:]), QueueSize: binary.NativeEndian.Uint16(p[18:]),
	}
}

// getInflightFD makes the region. It is mapped when SET_INFLIGHT_FD brings it
// back; a reply without size and descriptor is an error.
func (s *session) getInflightFD(m *message) error {
	spec := s.inflightAt(m.payload)
	m.reply = append([]byte{}, m.payload...)
	clear(m.reply[:16])
	if spec.NumQueues == 0 || int(spec.NumQueues) > len(s.rings) || spec.QueueSize == 0 || int(spec.QueueSize) > s.o.MaxQueueSize {
		return fmt.Errorf("%w: in-flight region of %d queues of %d", errRefused, spec.NumQueues, spec.QueueSize)
	}
	fd, err := unix.MemfdCreate("vhost-user-inflight", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	size := uint64(spec.NumQueues) * virtqueue.InflightSize(int(spec.QueueSize), spec.Packed)
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		closeFD(fd)
		return fmt.Errorf("ftruncate: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW); err != nil {
		closeFD(fd)
		return fmt.Errorf("seal: %w", err)
	}
	binary.NativeEndian.PutUint64(m.reply, size)
	m.replyFD = fd
	m.fds = append(m.fds, fd) // closed after the reply
	return nil
}

// setInflightFD maps the region, which may come from a former life of ours.
func (s *session) setInflightFD(m *message) error {
	for _, r := range s.rings {
		if r.run != nil {
			return fmt.Errorf("%w: in-flight region: %w", errRefused, errNotStopped)
		}
	}
	region, err := virtqueue.MapInflight(m.fds[0], s.inflightAt(m.payload), s.o.AnyMemory)
	if err != nil {
		return err
	}
	if s.inflight != nil {
		_ = s.inflight.Unmap() // cannot fail for a mapping of our own
	}
	s.inflight = region
	for _, r := range s.rings {
		r.stopped = false
	}
	return nil
}
