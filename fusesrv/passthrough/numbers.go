package passthrough

import (
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// Inode numbers that a guest sees, so that none is an image's, whose are below
	// 2^62:
	//
	//	62  61 60          48 47                     0
	//	|1 |0 | device (13)  | inode number (48)     |
	//	|1 |1 |0| number in the order of appearance  |   for what does not fit
	//	|1 |1 |1| hash                               |   for what is too many
	ours      = 1 << 62
	wide      = 1 << 61
	hashed    = 1 << 60
	inoBits   = 48
	maxDevice = 1<<13 - 1
	maxWide   = 1 << 20
)

// Numbers gives inode numbers to the files of a connection's shared directories: one
// for each pair of device and inode number. The zero value is ready.
type Numbers struct {
	devices atomic.Pointer[[]uint64] // index is one less than the number; grows only

	mu   sync.Mutex // guards what follows and changes of devices
	wide map[[2]uint64]uint64
}

// of returns the number of an inode.
func (n *Numbers) of(dev, ino uint64) uint64 {
	if ino>>inoBits == 0 {
		if d := n.device(dev); d != 0 {
			return ours | d<<inoBits | ino
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	key := [2]uint64{dev, ino}
	if v, ok := n.wide[key]; ok {
		return v
	}
	if len(n.wide) >= maxWide {
		return ours | wide | hashed | (ino*0x9e3779b97f4a7c15^dev*0xc2b2ae3d27d4eb4f)>>4
	}
	if n.wide == nil {
		n.wide = map[[2]uint64]uint64{}
	}
	v := uint64(ours | wide | len(n.wide))
	n.wide[key] = v
	return v
}

// device returns the number of a device, 0 if there are too many.
func (n *Numbers) device(dev uint64) uint64 {
	if d := indexOf(n.devices.Load(), dev); d != 0 {
		return d
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.devices.Load()
	if d := indexOf(list, dev); d != 0 {
		return d
	}
	var all []uint64
	if list != nil {
		all = slices.Clone(*list)
	}
	if len(all) == maxDevice {
		return 0
	}
	all = append(all, dev)
	n.devices.Store(&all)
	return uint64(len(all))
}

func indexOf(list *[]uint64, dev uint64) uint64 {
	if list == nil {
		return 0
	}
	return uint64(slices.Index(*list, dev) + 1)
}
