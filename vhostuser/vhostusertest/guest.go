package vhostusertest

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"vrafs/vhostuser"
	"vrafs/virtqueue"
	"vrafs/virtqueue/virtqueuetest"
)

// Where a Guest's memory lies. Guest and user addresses differ, so that mixing
// them up shows.
const (
	guestGPA = 0x1_0000_0000
	guestUVA = 0x7f00_0000_0000
	pageSize = 4096
)

// GuestConfig describes a guest. The zero value of a field takes the default.
type GuestConfig struct {
	Order     Order  // whose message order to follow
	Rings     int    // default 2: hiprio and one request queue
	QueueSize int    // default 128
	MemSize   int    // bytes, default 64 MiB
	Base      uint16 // where split indices start, to reach their wrap-around soon

	Packed, EventIdx, Indirect bool
	// Inflight keeps a region for in-flight requests, if the back-end offers it.
	Inflight bool
	// Slots uses ADD_MEM_REG instead of SET_MEM_TABLE, if the back-end offers it.
	Slots bool
	// NoReplyAck leaves REPLY_ACK out.
	NoReplyAck bool
	// BlockingFDs makes the event descriptors blocking. QEMU's are not.
	BlockingFDs bool
}

// A Guest is a virtual machine's memory and the driver's side of its rings. It
// outlives connections.
type Guest struct {
	cfg     GuestConfig
	arena   *virtqueuetest.Arena
	regions []*Region
	rings   []*Ring
	base    []uint32 // per ring: SET_VRING_BASE for the next start
	log     *migration

	acked    uint64 // virtio features
	proto    uint64 // protocol features of the first connection, for reconnects
	inflight virtqueue.InflightSpec
	infFD    int
}

// NewGuest makes a guest with its memory and rings.
func NewGuest(cfg GuestConfig) (*Guest, error) {
	if cfg.Rings == 0 {
		cfg.Rings = 2
	}
	if cfg.QueueSize == 0 {
		cfg.QueueSize = 128
	}
	if cfg.MemSize == 0 {
		cfg.MemSize = 64 << 20
	}
	r, err := NewRegion(guestGPA, guestUVA, cfg.MemSize)
	if err != nil {
		return nil, err
	}
	g := &Guest{cfg: cfg, regions: []*Region{r}, infFD: -1,
		arena: &virtqueuetest.Arena{Mem: r.Mem, GPA: guestGPA, UVA: guestUVA}}
	for i := range cfg.Rings {
		ring, err := newRing(g, i)
		if err != nil {
			g.Close()
			return nil, err
		}
		g.rings = append(g.rings, ring)
		g.base = append(g.base, ring.Driver.Base())
	}
	return g, nil
}

// Close frees the guest. No Ring may be in use.
func (g *Guest) Close() {
	for _, r := range g.rings {
		closeFD(r.kick)
		closeFD(r.call)
		closeFD(r.err)
	}
	for _, r := range g.regions {
		r.Close()
	}
	g.log.close()
	closeFD(g.infFD)
}

// Ring returns ring i; for virtio-fs 0 is the hiprio queue.
func (g *Guest) Ring(i int) *Ring { return g.rings[i] }

// Memory returns the guest's first region.
func (g *Guest) Memory() *Region { return g.regions[0] }

// Alloc returns the guest address and the bytes of n bytes of the guest's first
// region, page aligned. It may be called from any goroutine.
func (g *Guest) Alloc(n int) (virtqueue.GPA, []byte, error) {
	a, err := g.arena.Alloc(uint64(n), pageSize)
	if err != nil {
		return 0, nil, err
	}
	return a, g.arena.Bytes(a, uint64(n)), nil
}

// features is what the guest acknowledges of an offer.
func (g *Guest) features(offer uint64) uint64 {
	want := uint64(vhostuser.FeatureVersion1 | vhostuser.FeatureProtocolFeatures)
	if g.cfg.Packed {
		want |= vhostuser.FeatureRingPacked
	}
	if g.cfg.EventIdx {
		want |= vhostuser.FeatureEventIdx
	}
	if g.cfg.Indirect {
		want |= vhostuser.FeatureIndirectDesc
	}
	return offer & want
}

// protocol is which protocol features the guest's front-end wants.
func (g *Guest) protocol() uint64 {
	want := uint64(vhostuser.ProtocolMQ | vhostuser.ProtocolLogShmFD | vhostuser.ProtocolResetDevice |
		vhostuser.ProtocolConfig | vhostuser.ProtocolStatus | vhostuser.ProtocolDeviceState)
	if !g.cfg.NoReplyAck {
		want |= vhostuser.ProtocolReplyAck
	}
	if g.cfg.Inflight {
		want |= vhostuser.ProtocolInflightShmFD
	}
	if g.cfg.Slots {
		want |= vhostuser.ProtocolConfigureSlots
	}
	return want
}

// Plug adds a region of fresh memory. It uses ADD_MEM_REG or the whole table, as
// the guest was started.
func (g *Guest) Plug(c *Conn, r *Region) error {
	if c.AckedProto&vhostuser.ProtocolConfigureSlots != 0 {
		if err := c.changeMemory(vhostuser.AddMemReg, MemReg(r.Spec), r.FD); err != nil {
			return err
		}
		g.regions = append(g.regions, r)
		return nil
	}
	g.regions = append(g.regions, r)
	return g.sendTable(c)
}

// Unplug takes a plugged region away again. The region stays the caller's.
func (g *Guest) Unplug(c *Conn, r *Region) error {
	for i, have := range g.regions {
		if have != r || i == 0 {
			continue
		}
		g.regions = append(g.regions[:i:i], g.regions[i+1:]...)
		if c.AckedProto&vhostuser.ProtocolConfigureSlots != 0 {
			return c.changeMemory(vhostuser.RemMemReg, MemReg(r.Spec))
		}
		return g.sendTable(c)
	}
	return errors.New("no such region")
}

// sendTable sends the whole memory table, with an acknowledgement if possible as
// QEMU does.
func (g *Guest) sendTable(c *Conn) error {
	var specs []virtqueue.RegionSpec
	var fds []int
	for _, r := range g.regions {
		specs, fds = append(specs, r.Spec), append(fds, r.FD)
	}
	return c.changeMemory(vhostuser.SetMemTable, MemTable(specs...), fds...)
}

// changeMemory sends a change of guest memory and, where acknowledgements were
// agreed on, waits for it whatever the front-end's habit: the guest may put the new
// memory into a ring as soon as it is told of it.
func (c *Conn) changeMemory(req vhostuser.Request, payload []byte, fds ...int) error {
	if c.AckedProto&vhostuser.ProtocolReplyAck == 0 {
		return c.Call(req, payload, fds...)
	}
	return c.CallAck(req, payload, fds...)
}

// sendMemory tells the back-end all regions.
func (g *Guest) sendMemory(c *Conn) error {
	if c.AckedProto&vhostuser.ProtocolConfigureSlots == 0 {
		return g.sendTable(c)
	}
	for _, r := range g.regions {
		if err := c.CallAck(vhostuser.AddMemReg, MemReg(r.Spec), r.FD); err != nil {
			return err
		}
	}
	return nil
}

// newEventFD returns an eventfd as VMMs make them.
func newEventFD(blocking bool) (int, error) {
	flags := unix.EFD_CLOEXEC | unix.EFD_NONBLOCK
	if blocking {
		flags = unix.EFD_CLOEXEC
	}
	fd, err := unix.Eventfd(0, flags)
	if err != nil {
		return -1, fmt.Errorf("eventfd: %w", err)
	}
	return fd, nil
}
