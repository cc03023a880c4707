package virtqueue

import "math"

// Descriptor flags (virtio 1.2, 2.7.5 and 2.8.1).
const (
	DescNext     = 1 << 0
	DescWrite    = 1 << 1
	DescIndirect = 1 << 2
	DescAvail    = 1 << 7  // packed rings only
	DescUsed     = 1 << 15 // packed rings only
)

// A Chain is one request as the driver laid it out. A Chain is reused from Pop
// to Pop; whoever keeps a request longer copies Head, Readable and Writable.
type Chain struct {
	// Head names the chain to Push. It is below the queue size and is not given
	// out again before it was pushed.
	Head uint16
	// Readable and Writable are the buffers in guest addresses, neighbours
	// merged, empty ones left out. Their lengths add up to ReadableBytes and
	// WritableBytes.
	Readable, Writable           []Seg
	ReadableBytes, WritableBytes uint64
	// In and Out are host views of Readable and Writable, valid until the next
	// Pop or Leave of the queue.
	In, Out [][]byte
}

// reset empties c and keeps its memory.
func (c *Chain) reset(head uint16) {
	c.Head = head
	c.Readable, c.Writable = c.Readable[:0], c.Writable[:0]
	c.In, c.Out = c.In[:0], c.Out[:0]
	c.ReadableBytes, c.WritableBytes = 0, 0
}

// A desc is a private copy of one descriptor.
type desc struct {
	addr  uint64
	len   uint32
	flags uint16
	next  uint16 // split: next; packed: buffer id
}

// loadDesc copies descriptor i out of table with two loads.
func loadDesc(table []byte, i uint32) desc {
	// The second word first: in a packed ring its flags say whether the first
	// word is ours to read.
	w := load64(table, i*16+8)
	return desc{addr: load64(table, i*16), len: uint32(w), flags: uint16(w >> 32), next: uint16(w >> 48)}
}

// loadDescPacked is loadDesc for packed rings, where the last two fields are
// the buffer id and the flags, in this order.
func loadDescPacked(table []byte, i uint32) desc {
	d := loadDesc(table, i)
	d.flags, d.next = d.next, d.flags
	return d
}

// add appends the buffer of d. The limit keeps the sum of all lengths far below
// any overflow.
func (c *Chain) add(d *desc, maxBytes uint64) error {
	if d.len == 0 {
		return nil
	}
	if d.addr > math.MaxUint64-uint64(d.len) {
		return &RingError{"desc.addr", d.addr, uint64(d.len), "wraps around with length"}
	}
	segs := &c.Readable
	if d.flags&DescWrite != 0 {
		segs = &c.Writable
		c.WritableBytes += uint64(d.len)
	} else {
		if len(c.Writable) != 0 {
			return &RingError{"desc.flags", uint64(d.flags), DescWrite, "readable after writable buffer, wanted flag"}
		}
		c.ReadableBytes += uint64(d.len)
	}
	if sum := c.ReadableBytes + c.WritableBytes; sum > maxBytes {
		return &RingError{"desc.len", sum, maxBytes, "chain longer than"}
	}
	if n := len(*segs); n > 0 {
		// A merged length stays below 2^32: MaxBytes is at most that.
		if p := &(*segs)[n-1]; uint64(p.Addr)+uint64(p.Len) == d.addr {
			p.Len += d.len
			return nil
		}
	}
	*segs = append(*segs, Seg{GPA(d.addr), d.len})
	return nil
}
