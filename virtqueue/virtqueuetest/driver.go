package virtqueuetest

import (
	"errors"
	"fmt"
	"slices"

	"vrafs/virtqueue"
)

// Config is what a driver and a device agreed on for a ring.
type Config struct {
	Size     int
	Packed   bool
	EventIdx bool
	Indirect bool // put every chain of more than one descriptor into a table
	// MaxIndirect is the longest table; 0: 300.
	MaxIndirect int
	// Base is where split indices start, to reach their wrap-around soon.
	Base uint16
}

// ErrDevice is the class of device faults that a Driver notices.
var ErrDevice = errors.New("device broke the ring protocol")

// A Completion is what the device gave back.
type Completion struct {
	ID      uint16 // as Add returned it
	Written uint32 // bytes the device says it wrote
}

// A Driver is the driver's side of one ring.
type Driver struct {
	cfg   Config
	arena *Arena
	size  uint32

	desc, avail, used    []byte
	descA, availA, usedA virtqueue.GPA

	// split: free descriptors; packed: free buffer ids.
	free   []uint16
	next   []uint16        // split: link of each descriptor as the driver remembers it
	tables []virtqueue.GPA // indirect table per head or id, 0: none yet
	flight []bool          // by head or id
	slots  []uint16        // ring entries of each chain in flight
	numReq int             // chains in flight
	taken  uint32          // packed: ring entries in flight
	pend   []virtqueue.Seg // scratch
	ent    []entry         // scratch
	first  uint32          // packed: slot of the first unpublished chain
	fword  uint64          // packed: its second word
	fresh  uint32          // chains (split) or entries (packed) added since Publish
	idx    uint16          // split: next avail.idx; packed: next slot
	wrap   bool            // packed
	last   uint16          // split: used.idx seen; packed: slot
	uwrap  bool            // packed
	kicked uint16          // index at the last Publish
}

type entry struct {
	seg   virtqueue.Seg
	write bool
}

// New lays a ring out in the arena.
func New(a *Arena, cfg Config) (*Driver, error) {
	if cfg.MaxIndirect == 0 {
		cfg.MaxIndirect = 300
	}
	n := uint64(cfg.Size)
	d := &Driver{cfg: cfg, arena: a, size: uint32(cfg.Size), idx: cfg.Base, last: cfg.Base, kicked: cfg.Base,
		wrap: true, uwrap: true, next: make([]uint16, n), tables: make([]virtqueue.GPA, n),
		flight: make([]bool, n), slots: make([]uint16, n)}
	sizes := [3]uint64{16 * n, 8 + 2*n, 8 + 8*n}
	if cfg.Packed {
		sizes = [3]uint64{16 * n, 4, 4}
		d.idx, d.last, d.kicked = 0, 0, 0
	}
	var err error
	for i, p := range []*virtqueue.GPA{&d.descA, &d.availA, &d.usedA} {
		if *p, err = a.Alloc(sizes[i], 16); err != nil {
			return nil, err
		}
	}
	d.desc, d.avail, d.used = a.Bytes(d.descA, sizes[0]), a.Bytes(d.availA, sizes[1]), a.Bytes(d.usedA, sizes[2])
	for i := range cfg.Size {
		d.free = append(d.free, uint16(cfg.Size-1-i))
	}
	if !cfg.Packed {
		store32(d.avail, 0, uint32(cfg.Base)<<16)
		store32(d.used, 0, uint32(cfg.Base)<<16)
	}
	return d, nil
}

// Layout returns the user addresses of the three areas.
func (d *Driver) Layout() (desc, avail, used virtqueue.UVA) {
	return d.arena.User(d.descA), d.arena.User(d.availA), d.arena.User(d.usedA)
}

// UsedGPA returns the guest address of the used area, for the dirty log.
func (d *Driver) UsedGPA() virtqueue.GPA { return d.usedA }

// QueueConfig returns the device's configuration of this ring.
func (d *Driver) QueueConfig() virtqueue.Config {
	c := virtqueue.Config{Size: d.cfg.Size, Packed: d.cfg.Packed, EventIdx: d.cfg.EventIdx,
		Indirect: true, Base: d.Base(), UsedGPA: d.usedA}
	c.Desc, c.Avail, c.Used = d.Layout()
	return c
}

// Base returns the SET_VRING_BASE value of a ring with nothing in flight.
func (d *Driver) Base() uint32 {
	if !d.cfg.Packed {
		return uint32(d.last)
	}
	b := uint32(d.last) | uint32(d.last)<<16
	if d.uwrap {
		b |= 1<<15 | 1<<31
	}
	return b
}

// AvailIndex returns the split ring's available index as published: where a
// front-end says to go on when it does not know what the device had taken.
func (d *Driver) AvailIndex() uint16 { return d.kicked }

// InFlight returns the number of chains added and not polled.
func (d *Driver) InFlight() int { return d.numReq }

// Add puts a chain into the ring, to be seen by the device after Publish. It
// reports false when the ring is too full for it.
func (d *Driver) Add(readable, writable []virtqueue.Seg) (id uint16, ok bool, err error) {
	d.ent = d.ent[:0]
	for _, s := range readable {
		d.ent = append(d.ent, entry{s, false})
	}
	for _, s := range writable {
		d.ent = append(d.ent, entry{s, true})
	}
	indirect := d.cfg.Indirect && len(d.ent) > 1 && len(d.ent) <= d.cfg.MaxIndirect
	need := len(d.ent)
	if indirect {
		need = 1
	}
	if need == 0 || need > d.cfg.Size {
		return 0, false, fmt.Errorf("chain of %d descriptors in a ring of %d", len(d.ent), d.cfg.Size)
	}
	if d.cfg.Packed && (uint32(need) > d.size-d.taken || len(d.free) == 0) ||
		!d.cfg.Packed && need > len(d.free) {
		return 0, false, nil
	}
	id = d.free[len(d.free)-1]
	if indirect {
		if err := d.fillTable(id); err != nil {
			return 0, false, err
		}
	}
	d.flight[id], d.slots[id] = true, uint16(need)
	d.numReq++
	if d.cfg.Packed {
		d.free = d.free[:len(d.free)-1]
		d.addPacked(id)
	} else {
		d.addSplit(id, need)
	}
	return id, true, nil
}

// fillTable writes the scratch entries into id's indirect table and leaves one
// entry that points to it.
func (d *Driver) fillTable(id uint16) (err error) {
	if d.tables[id] == 0 {
		if d.tables[id], err = d.arena.Alloc(uint64(16*d.cfg.MaxIndirect), 16); err != nil {
			return err
		}
	}
	t := d.arena.Bytes(d.tables[id], uint64(16*len(d.ent)))
	for i, e := range d.ent {
		flags := uint64(0)
		if e.write {
			flags |= virtqueue.DescWrite
		}
		if !d.cfg.Packed && i+1 < len(d.ent) {
			flags |= virtqueue.DescNext
			flags |= uint64(i+1) << 16
		}
		if d.cfg.Packed {
			flags <<= 16 // {id, flags} instead of {flags, next}
		}
		plain64(t, uint32(16*i), uint64(e.seg.Addr))
		plain64(t, uint32(16*i+8), uint64(e.seg.Len)|flags<<32)
	}
	d.ent = append(d.ent[:0], entry{virtqueue.Seg{Addr: d.tables[id], Len: uint32(16 * len(d.ent))}, false})
	d.pend = append(d.pend[:0], d.ent[0].seg)
	return nil
}

// isTable reports whether the scratch entry i is the table just filled.
func (d *Driver) isTable(id uint16, e entry) bool {
	return d.tables[id] != 0 && e.seg.Addr == d.tables[id]
}

// addSplit writes the entries into free descriptors and the head into the
// available ring.
func (d *Driver) addSplit(id uint16, need int) {
	chain := d.free[len(d.free)-need:]
	slices.Reverse(chain) // chain[0] == id
	for i, e := range d.ent {
		flags := uint64(0)
		if e.write {
			flags |= virtqueue.DescWrite
		}
		if d.isTable(id, e) {
			flags |= virtqueue.DescIndirect
		}
		if i+1 < len(d.ent) {
			flags |= virtqueue.DescNext | uint64(chain[i+1])<<16
			d.next[chain[i]] = chain[i+1]
		}
		plain64(d.desc, 16*uint32(chain[i]), uint64(e.seg.Addr))
		plain64(d.desc, 16*uint32(chain[i])+8, uint64(e.seg.Len)|flags<<32)
	}
	d.free = d.free[:len(d.free)-need]
	d.offer(id)
}

// offer puts a chain into the available ring.
func (d *Driver) offer(id uint16) {
	store16(d.avail, 4+2*(uint32(d.idx)&(d.size-1)), id)
	d.idx++
	d.fresh++
}

// Publish makes what was added visible and reports whether the device wants a
// kick.
func (d *Driver) Publish() (kick bool) {
	if d.fresh == 0 {
		return false
	}
	if d.cfg.Packed {
		return d.publishPacked()
	}
	d.fresh = 0
	store16(d.avail, 2, d.idx) // XCHG or STLR: ordered before the loads below
	old := d.kicked
	d.kicked = d.idx
	if d.cfg.EventIdx {
		event := load16(d.used, 4+8*d.size)
		return d.idx-event-1 < d.idx-old
	}
	return load16(d.used, 0)&1 == 0
}

// Poll returns the next completion, if there is one.
func (d *Driver) Poll() (c Completion, ok bool, err error) {
	if d.cfg.Packed {
		return d.pollPacked()
	}
	if load16(d.used, 2) == d.last {
		return c, false, nil
	}
	slot := uint32(d.last) & (d.size - 1)
	id := plain32(d.used, 4+8*slot)
	c = Completion{uint16(id), plain32(d.used, 8+8*slot)}
	if id >= d.size || !d.flight[id] {
		return c, false, fmt.Errorf("%w: used id %d is not in flight", ErrDevice, id)
	}
	d.last++
	n := int(d.slots[id])
	for i, k := 0, c.ID; i < n; i++ {
		d.free = append(d.free, k)
		k = d.next[k]
	}
	slices.Reverse(d.free[len(d.free)-n:])
	d.flight[id] = false
	d.numReq--
	return c, true, nil
}

// WantCall asks the device for a call at the next completion, and reports
// whether one has come in already.
func (d *Driver) WantCall() (more bool) {
	switch {
	case d.cfg.Packed:
		return d.wantCallPacked()
	case d.cfg.EventIdx:
		store16(d.avail, 4+2*d.size, d.last)
	default:
		store16(d.avail, 0, 0)
	}
	return load16(d.used, 2) != d.last
}

// NoCall tells the device that calls are not wanted. With the split ring's event
// index there is nothing to do.
func (d *Driver) NoCall() {
	switch {
	case d.cfg.Packed:
		store32(d.avail, 0, 1<<16)
	case !d.cfg.EventIdx:
		store16(d.avail, 0, 1)
	}
}
