package vhostuser

import (
	"fmt"

	"golang.org/x/sys/unix"

	"vrafs/internal/tlv"
	"vrafs/virtqueue"
)

// The state of a suspended session. Descriptors are numbers in the process that
// suspended it, which is also the one that goes on, unless it sends them to another.
const (
	stateMagic   = "vrafsvhu"
	stateVersion = 1
	stateReader  = 1

	maxRings = 1024

	tagConn     = 1 | tlv.Required // the connection
	tagFeatures = 2 | tlv.Required // acknowledged; none before SET_FEATURES
	tagProto    = 3 | tlv.Required // acknowledged protocol features
	tagStatus   = 4 | tlv.Required // device status
	tagRegion   = 5 | tlv.Required // one for each memory region
	tagInflight = 6 | tlv.Required // none without an in-flight region
	tagLogFD    = 7                // none without SET_LOG_FD
	tagRing     = 8 | tlv.Required // one for each ring

	// Of regions and of the in-flight region.
	tagFD     = 1 | tlv.Required
	tagGPA    = 2 | tlv.Required
	tagUVA    = 3 | tlv.Required
	tagSize   = 4 | tlv.Required
	tagOffset = 5 | tlv.Required
	tagQueues = 6 | tlv.Required
	tagLength = 7 | tlv.Required // of a queue, in entries
	tagPacked = 8 | tlv.Required

	// Of rings.
	tagNum     = 1 | tlv.Required // entries
	tagDesc    = 2 | tlv.Required
	tagAvail   = 3 | tlv.Required
	tagUsed    = 4 | tlv.Required
	tagUsedGPA = 5 | tlv.Required
	tagFlags   = 6 | tlv.Required // bits below
	tagBase    = 7 | tlv.Required
	tagKick    = 8 | tlv.Required // none: polled, or not set
	tagCall    = 9 | tlv.Required
	tagErr     = 10 | tlv.Required
	tagTaken   = 11 | tlv.Required // one for each chain taken and not completed

	ringHaveAddr = 1 << 0
	ringLogUsed  = 1 << 1
	ringKickSet  = 1 << 2
	ringEnabled  = 1 << 3
	ringStopped  = 1 << 4
	ringUncalled = 1 << 5
)

// save writes the session down.
func (s *session) save() *Suspended {
	out := &Suspended{}
	fd := func(e *tlv.Encoder, tag tlv.Tag, n int) {
		if n >= 0 {
			e.Uint(tag, uint64(n))
			out.FDs = append(out.FDs, n)
		}
	}
	e := tlv.Start(stateMagic, stateVersion, stateReader)
	fd(e, tagConn, s.conn.fd)
	if s.haveFeatures {
		e.Uint(tagFeatures, s.features)
	}
	e.Uint(tagProto, s.proto)
	e.Uint(tagStatus, uint64(s.status))
	for _, r := range s.regions {
		e.Nested(tagRegion, func(e *tlv.Encoder) {
			fd(e, tagFD, r.FD())
			e.Uint(tagGPA, uint64(r.GPA()))
			e.Uint(tagUVA, uint64(r.UVA()))
			e.Uint(tagSize, r.Size())
			e.Uint(tagOffset, r.Spec().MmapOffset)
		})
	}
	if s.inflight != nil {
		spec := s.inflight.Spec()
		e.Nested(tagInflight, func(e *tlv.Encoder) {
			fd(e, tagFD, s.inflight.FD())
			e.Uint(tagSize, spec.MmapSize)
			e.Uint(tagOffset, spec.MmapOffset)
			e.Uint(tagQueues, uint64(spec.NumQueues))
			e.Uint(tagLength, uint64(spec.QueueSize))
			e.Uint(tagPacked, bit(spec.Packed, 1))
		})
	}
	fd(e, tagLogFD, s.logFD)
	for _, r := range s.rings {
		e.Nested(tagRing, func(e *tlv.Encoder) { r.save(e, fd) })
	}
	out.State = e.Finish()
	return out
}

func bit(on bool, b uint64) uint64 {
	if on {
		return b
	}
	return 0
}

func (r *ring) save(e *tlv.Encoder, fd func(*tlv.Encoder, tlv.Tag, int)) {
	e.Uint(tagNum, uint64(r.num))
	e.Uint(tagDesc, uint64(r.desc))
	e.Uint(tagAvail, uint64(r.avail))
	e.Uint(tagUsed, uint64(r.used))
	e.Uint(tagUsedGPA, uint64(r.usedGPA))
	e.Uint(tagBase, uint64(r.base))
	fd(e, tagKick, r.kick)
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Uint(tagFlags, bit(r.haveAddr, ringHaveAddr)|bit(r.logUsed, ringLogUsed)|bit(r.kickSet, ringKickSet)|
		bit(r.enabled, ringEnabled)|bit(r.stopped, ringStopped)|bit(r.uncalled, ringUncalled))
	fd(e, tagCall, r.callFD)
	fd(e, tagErr, r.errFD)
	for _, h := range r.taken {
		e.Uint(tagTaken, uint64(h))
	}
}

// numbers are the values of a list of records that are all numbers.
type numbers map[tlv.Tag][]uint64

func numbersOf(p []byte, known ...tlv.Tag) (numbers, error) {
	records, err := tlv.Records(p, known...)
	if err != nil {
		return nil, err
	}
	n := numbers{}
	for _, r := range records {
		v, err := r.Uint()
		if err != nil {
			return nil, err
		}
		n[r.Tag] = append(n[r.Tag], v)
	}
	return n, nil
}

func (n numbers) one(tag tlv.Tag) uint64 {
	if len(n[tag]) == 0 {
		return 0
	}
	return n[tag][0]
}

// fd is the descriptor of a record, -1 for none.
func (o *Options) fd(n numbers, tag tlv.Tag) (int, error) {
	if len(n[tag]) == 0 {
		return -1, nil
	}
	fd := int(min(n[tag][0], 1<<30))
	if o.Descriptor != nil {
		return o.Descriptor(fd)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return -1, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	return fd, nil
}

// A savedSession is a decoded state. Its descriptors are numbers still.
type savedSession struct {
	top      numbers
	regions  []numbers
	inflight numbers // nil: none
	rings    []numbers
}

// decodeSession reads a state without looking at its descriptors.
func decodeSession(state []byte) (*savedSession, error) {
	records, err := tlv.Read(state, stateMagic, stateVersion, tagConn, tagFeatures, tagProto, tagStatus, tagRegion, tagInflight, tagLogFD, tagRing)
	if err != nil {
		return nil, err
	}
	s := &savedSession{top: numbers{}}
	for _, r := range records {
		var n numbers
		switch r.Tag {
		case tagRegion:
			n, err = numbersOf(r.Value, tagFD, tagGPA, tagUVA, tagSize, tagOffset)
			s.regions = append(s.regions, n)
		case tagInflight:
			s.inflight, err = numbersOf(r.Value, tagFD, tagSize, tagOffset, tagQueues, tagLength, tagPacked)
		case tagRing:
			n, err = numbersOf(r.Value, tagNum, tagDesc, tagAvail, tagUsed, tagUsedGPA, tagFlags, tagBase, tagKick, tagCall, tagErr, tagTaken)
			s.rings = append(s.rings, n)
		default:
			var v uint64
			v, err = r.Uint()
			s.top[r.Tag] = append(s.top[r.Tag], v)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(s.rings) > maxRings || len(s.regions) > MaxMemSlots || len(s.top[tagConn]) != 1 {
		return nil, fmt.Errorf("%w: %d rings, %d regions, %d connections", tlv.ErrFormat, len(s.rings), len(s.regions), len(s.top[tagConn]))
	}
	return s, nil
}

// EmptyState is the state of a session in which nothing was said, for CheckState.
func EmptyState(queues int) []byte {
	s := &session{conn: &conn{}, logFD: -1}
	for i := range queues {
		s.rings = append(s.rings, newRing(i))
	}
	return s.save().State
}

// CheckState reports whether Resume could read a state, as far as that can be told
// without its descriptors.
func CheckState(state []byte, queues int) error {
	s, err := decodeSession(state)
	if err == nil && len(s.rings) != queues {
		err = fmt.Errorf("%w: a session of %d queues, the device has %d", ErrHandover, len(s.rings), queues)
	}
	return err
}

// restore makes a session of a state.
func restore(state []byte, dev Device, o Options) (*session, error) {
	saved, err := decodeSession(state)
	if err != nil {
		return nil, err
	}
	fd, err := o.fd(saved.top, tagConn)
	if err != nil {
		return nil, err
	}
	c, err := newConn(fd)
	if err != nil {
		return nil, err
	}
	s := newSession(c, dev, o)
	s.restored = true
	if err := s.fill(saved); err != nil {
		s.end()
		c.close()
		return nil, fmt.Errorf("%w: %w", ErrHandover, err)
	}
	return s, nil
}

// fill takes over what a state says.
func (s *session) fill(saved *savedSession) (err error) {
	if len(saved.rings) != len(s.rings) {
		return fmt.Errorf("%d rings, the device has %d", len(saved.rings), len(s.rings))
	}
	s.haveFeatures = len(saved.top[tagFeatures]) != 0
	s.features, s.proto, s.status = saved.top.one(tagFeatures), saved.top.one(tagProto), uint8(saved.top.one(tagStatus))
	if bad := s.features &^ s.offered & featuresBinding; bad != 0 {
		return fmt.Errorf("features %#x are not offered any more", bad)
	}
	if s.logFD, err = s.o.fd(saved.top, tagLogFD); err != nil {
		return err
	}
	for i, n := range saved.rings {
		if err := s.rings[i].fill(n, &s.o); err != nil {
			return fmt.Errorf("ring %d: %w", i, err)
		}
	}
	for _, n := range saved.regions {
		fd, err := s.o.fd(n, tagFD)
		if err != nil {
			return err
		}
		r, err := virtqueue.MapRegion(fd, virtqueue.RegionSpec{GPA: virtqueue.GPA(n.one(tagGPA)), UVA: virtqueue.UVA(n.one(tagUVA)),
			Size: n.one(tagSize), MmapOffset: n.one(tagOffset), AnyFile: s.o.AnyMemory})
		closeFD(fd)
		if err != nil {
			return err
		}
		s.regions = append(s.regions, r)
	}
	mem, err := virtqueue.NewMemory(s.regions)
	if err != nil {
		return err
	}
	s.space.Replace(mem)
	return s.fillInflight(saved.inflight)
}

func (s *session) fillInflight(n numbers) error {
	if n == nil {
		return nil
	}
	fd, err := s.o.fd(n, tagFD)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	s.inflight, err = virtqueue.MapInflight(fd, virtqueue.InflightSpec{MmapSize: n.one(tagSize), MmapOffset: n.one(tagOffset),
		NumQueues: uint16(n.one(tagQueues)), QueueSize: uint16(n.one(tagLength)), Packed: n.one(tagPacked) != 0}, s.o.AnyMemory)
	return err
}

func (r *ring) fill(n numbers, o *Options) (err error) {
	flags := n.one(tagFlags)
	r.num, r.base = int(uint16(n.one(tagNum))), uint32(n.one(tagBase))
	r.desc, r.avail, r.used = virtqueue.UVA(n.one(tagDesc)), virtqueue.UVA(n.one(tagAvail)), virtqueue.UVA(n.one(tagUsed))
	r.usedGPA, r.logUsed, r.haveAddr = virtqueue.GPA(n.one(tagUsedGPA)), flags&ringLogUsed != 0, flags&ringHaveAddr != 0
	r.kickSet, r.enabled, r.stopped, r.uncalled = flags&ringKickSet != 0, flags&ringEnabled != 0, flags&ringStopped != 0, flags&ringUncalled != 0
	for _, h := range n[tagTaken] {
		r.taken = append(r.taken, uint16(h))
	}
	if r.kick, _, err = o.eventFD(n, tagKick); err != nil {
		return err
	}
	if r.callFD, r.callNonblock, err = o.eventFD(n, tagCall); err != nil {
		return err
	}
	r.errFD, r.errNonblock, err = o.eventFD(n, tagErr)
	return err
}

// eventFD is fd, with whether it is non-blocking.
func (o *Options) eventFD(n numbers, tag tlv.Tag) (fd int, nonblock bool, err error) {
	if fd, err = o.fd(n, tag); err == nil && fd >= 0 {
		if nonblock, err = checkEventFD(fd); err != nil {
			closeFD(fd)
			fd = -1
		}
	}
	return fd, nonblock, err
}
