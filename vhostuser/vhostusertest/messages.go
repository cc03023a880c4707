package vhostusertest

import (
	"encoding/binary"
	"fmt"

	"vrafs/vhostuser"
	"vrafs/virtqueue"
)

// U64 is the payload of messages with one number.
func U64(v uint64) []byte { return binary.NativeEndian.AppendUint64(nil, v) }

// State is the payload {index, num} of the SET_VRING messages.
func State(index int, num uint32) []byte {
	return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, uint32(index)), num)
}

// Addr is the payload of SET_VRING_ADDR.
func Addr(index int, flags uint32, desc, used, avail virtqueue.UVA, log virtqueue.GPA) []byte {
	b := State(index, flags)
	for _, v := range []uint64{uint64(desc), uint64(used), uint64(avail), uint64(log)} {
		b = binary.NativeEndian.AppendUint64(b, v)
	}
	return b
}

// RegionBytes is a memory region description (32 bytes).
func RegionBytes(s virtqueue.RegionSpec) []byte {
	b := U64(uint64(s.GPA))
	for _, v := range []uint64{s.Size, uint64(s.UVA), s.MmapOffset} {
		b = binary.NativeEndian.AppendUint64(b, v)
	}
	return b
}

// MemTable is the payload of SET_MEM_TABLE.
func MemTable(regions ...virtqueue.RegionSpec) []byte {
	b := State(len(regions), 0)
	for _, r := range regions {
		b = append(b, RegionBytes(r)...)
	}
	return b
}

// MemReg is the payload of ADD_MEM_REG and REM_MEM_REG.
func MemReg(r virtqueue.RegionSpec) []byte { return append(U64(0), RegionBytes(r)...) }

// InflightBytes is the payload of the INFLIGHT messages, in the 24 bytes of the
// padded C structure.
func InflightBytes(s virtqueue.InflightSpec) []byte {
	b := binary.NativeEndian.AppendUint64(U64(s.MmapSize), s.MmapOffset)
	b = binary.NativeEndian.AppendUint16(b, s.NumQueues)
	b = binary.NativeEndian.AppendUint16(b, s.QueueSize)
	return append(b, 0, 0, 0, 0)
}

// setVringFD sends SET_VRING_KICK, CALL or ERR; a negative descriptor is "none".
func (c *Conn) setVringFD(req vhostuser.Request, index, fd int) error {
	if fd < 0 {
		return c.Call(req, U64(uint64(index)|1<<8))
	}
	return c.Call(req, U64(uint64(index)), fd)
}

// negotiateProtocol agrees on the protocol features in want that are offered.
func (c *Conn) negotiateProtocol(want uint64) error {
	offer, err := c.AskU64(vhostuser.GetProtocolFeatures, nil)
	if err != nil {
		return err
	}
	c.Proto = offer
	return c.setProtocol(offer & want)
}

func (c *Conn) setProtocol(bits uint64) error {
	if err := c.Send(vhostuser.SetProtocolFeatures, U64(bits), false); err != nil {
		return err
	}
	c.AckedProto = bits
	return nil
}

func (c *Conn) getFeatures() (err error) {
	c.Features, err = c.AskU64(vhostuser.GetFeatures, nil)
	return err
}

// checkQueues asks for the number of rings, if that was agreed on.
func (c *Conn) checkQueues(want int) error {
	if c.AckedProto&vhostuser.ProtocolMQ == 0 {
		return nil
	}
	n, err := c.AskU64(vhostuser.GetQueueNum, nil)
	if err == nil && n < uint64(want) {
		err = fmt.Errorf("back-end has %d queues, %d wanted", n, want)
	}
	return err
}

// GetVringBase stops a ring and returns where to go on.
func (c *Conn) GetVringBase(index int) (uint32, error) {
	p, fd, err := c.Ask(vhostuser.GetVringBase, State(index, 0))
	if err != nil {
		return 0, err
	}
	if fd >= 0 || len(p) != 8 || binary.NativeEndian.Uint32(p) != uint32(index) {
		closeFD(fd)
		return 0, fmt.Errorf("%w: vring base % x", ErrBackEnd, p)
	}
	return binary.NativeEndian.Uint32(p[4:]), nil
}

// GetInflight asks for a region for in-flight requests. The descriptor is the
// caller's.
func (c *Conn) GetInflight(queues, size int) (virtqueue.InflightSpec, int, error) {
	spec := virtqueue.InflightSpec{NumQueues: uint16(queues), QueueSize: uint16(size)}
	p, fd, err := c.Ask(vhostuser.GetInflightFD, InflightBytes(spec))
	if err != nil {
		return spec, -1, err
	}
	if len(p) != 24 || fd < 0 {
		closeFD(fd)
		return spec, -1, fmt.Errorf("%w: in-flight answer of %d bytes, descriptor %d", ErrRefused, len(p), fd)
	}
	spec.MmapSize, spec.MmapOffset = binary.NativeEndian.Uint64(p), binary.NativeEndian.Uint64(p[8:])
	return spec, fd, nil
}

// checkSlots asks for the number of memory slots, if that was agreed on.
func (c *Conn) checkSlots() error {
	if c.AckedProto&vhostuser.ProtocolConfigureSlots == 0 {
		return nil
	}
	n, err := c.AskU64(vhostuser.GetMaxMemSlots, nil)
	if err == nil && n < 32 {
		err = fmt.Errorf("%w: %d memory slots", ErrBackEnd, n)
	}
	return err
}

// Config reads n bytes of the configuration space at off.
func (c *Conn) Config(off, n int) ([]byte, error) {
	p, fd, err := c.Ask(vhostuser.GetConfig, append(append(State(off, uint32(n)), 0, 0, 0, 0), make([]byte, n)...))
	if err != nil {
		return nil, err
	}
	closeFD(fd)
	if len(p) == 0 {
		return nil, fmt.Errorf("configuration: %w", ErrRefused)
	}
	if len(p) != 12+n {
		return nil, fmt.Errorf("%w: configuration of %d bytes", ErrBackEnd, len(p))
	}
	return p[12:], nil
}
