package virtqueue

import "math"

// MaxSize is the largest ring of either kind.
const MaxSize = 32768

// Defaults of Config.
const (
	defaultMaxDescs = 1024 + 128
	defaultMaxBytes = 64 << 20
)

// Config describes a ring as the front-end set it up.
type Config struct {
	Size              int // entries; a power of two for split rings
	Packed            bool
	EventIdx          bool
	Indirect          bool
	Desc, Avail, Used UVA    // packed: descriptor ring, driver event, device event
	Base              uint32 // as SET_VRING_BASE: next available index (and more when packed)

	LogUsed bool // mark the used ring in the dirty log
	UsedGPA GPA  // log address of the used ring

	MaxDescs int    // longest indirect table; 0: 1152 or Size, whichever is more
	MaxBytes uint64 // longest chain in bytes, both directions; 0: 64 MiB

	Inflight *Inflight // nil: not tracked
	// Taken are chains that a predecessor had taken from a split ring without
	// tracking, see Queue.Freeze: they are popped again first, in this order.
	Taken []uint16
}

// check validates what does not need memory, and sets the defaults.
func (c *Config) check() error {
	if c.Size < 1 || c.Size > MaxSize || !c.Packed && c.Size&(c.Size-1) != 0 {
		return &RingError{"size", uint64(c.Size), MaxSize, "not a ring size up to"}
	}
	for _, a := range []struct {
		name  string
		addr  UVA
		align UVA
	}{
		{"descriptor table", c.Desc, 16},
		// Two would do for a split ring; we load 32-bit words around its fields,
		// and every driver aligns it to four.
		{"available ring", c.Avail, 4},
		{"used ring", c.Used, 4},
	} {
		if a.addr&(a.align-1) != 0 {
			return &RingError{a.name, uint64(a.addr), uint64(a.align), "not aligned to"}
		}
	}
	desc, avail, used := c.areas()
	for _, p := range [3][4]uint64{
		{uint64(c.Desc), desc, uint64(c.Avail), avail},
		{uint64(c.Avail), avail, uint64(c.Used), used},
		{uint64(c.Used), used, uint64(c.Desc), desc},
	} {
		if p[2]-p[0] < p[1] || p[0]-p[2] < p[3] {
			return &RingError{"ring area", p[0], p[2], "overlaps"}
		}
	}
	if c.MaxDescs == 0 {
		c.MaxDescs = max(defaultMaxDescs, c.Size)
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = defaultMaxBytes
	}
	c.MaxBytes = min(c.MaxBytes, math.MaxUint32)
	return nil
}

// areas returns the sizes of the three areas.
func (c *Config) areas() (desc, avail, used uint64) {
	n := uint64(c.Size)
	if c.Packed {
		return 16 * n, 4, 4
	}
	return 16 * n, 6 + 2*n, 6 + 8*n
}

// resolve returns the ring's areas in m.
func (c *Config) resolve(m *Memory) (v view, err error) {
	desc, avail, used := c.areas()
	v.mem = m
	if v.desc, err = m.user(c.Desc, desc, "descriptor table"); err != nil {
		return view{}, err
	}
	// Whole 32-bit words: the tail is loaded (not stored) as such.
	if v.avail, err = m.user(c.Avail, (avail+3)&^3, "available ring"); err != nil {
		return view{}, err
	}
	if v.used, err = m.user(c.Used, (used+3)&^3, "used ring"); err != nil {
		return view{}, err
	}
	// A region may start anywhere in its page, so the host address is checked too.
	if !aligned(v.desc, 8) || !aligned(v.avail, 4) || !aligned(v.used, 4) {
		return view{}, &RingError{"descriptor table", uint64(c.Desc), 8, "host address not aligned to"}
	}
	return v, nil
}

// A view is the ring's areas in one Memory.
type view struct {
	mem               *Memory
	desc, avail, used []byte
}
