package vhostusertest

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"vrafs/vhostuser"
)

// A migration is the dirty log of a guest that is being moved.
type migration struct {
	log *Region
}

func (m *migration) close() {
	if m != nil {
		m.log.Close()
	}
}

// StartLog switches dirty logging on, in QEMU's order: log base, features, then
// the log flag of every ring.
func (g *Guest) StartLog(c *Conn) error {
	// One bit per page of everything up to the end of the highest region.
	end := uint64(0)
	for _, r := range g.regions {
		end = max(end, uint64(r.Spec.GPA)+r.Spec.Size)
	}
	log, err := NewRegion(0, 0, int(end/pageSize/8+pageSize)&^(pageSize-1))
	if err != nil {
		return err
	}
	g.log = &migration{log: log}
	v, err := c.AskU64(vhostuser.SetLogBase, append(U64(uint64(len(log.Mem))), U64(0)...), log.FD)
	if err == nil && v != 0 {
		err = fmt.Errorf("log base: %w: %d", ErrRefused, v)
	}
	if err != nil {
		return err
	}
	return g.sendLogging(c)
}

// StopLog switches dirty logging off. The log can still be read.
func (g *Guest) StopLog(c *Conn) error {
	l := g.log
	g.log = nil
	err := g.sendLogging(c)
	l.close()
	return err
}

// EndMigration forgets the log of a back-end that the guest has left.
func (g *Guest) EndMigration() {
	g.log.close()
	g.log = nil
}

// sendLogging tells the back-end whether to log. The answer to GET_FEATURES says
// that it does what it was told.
func (g *Guest) sendLogging(c *Conn) error {
	return steps(
		func() error { return c.Call(vhostuser.SetFeatures, U64(g.featureBits())) },
		func() error { return g.eachRing(func(r *Ring) error { return r.sendAddr(c) }) },
		c.getFeatures,
	)
}

// Dirty takes the dirty pages of the guest's first region out of the log: page
// numbers from the region's start.
func (g *Guest) Dirty() []int {
	var pages []int
	first := int(g.regions[0].Spec.GPA / pageSize)
	for p := range len(g.regions[0].Mem) / pageSize {
		if takeBit(g.log.log.Mem, first+p) {
			pages = append(pages, p)
		}
	}
	return pages
}

// SaveState takes the device's state out of a stopped back-end.
func (c *Conn) SaveState() ([]byte, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	err = c.SetDeviceState(0, int(w.Fd()))
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return b, c.CheckDeviceState()
}

// LoadState gives a device's state to a back-end whose rings were not started.
func (c *Conn) LoadState(b []byte) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	err = c.SetDeviceState(1, int(r.Fd()))
	_ = r.Close() // the back-end has its own
	if err != nil {
		return err
	}
	// A back-end that refuses the state early may close its end.
	if _, err := w.Write(b); err != nil && !errors.Is(err, unix.EPIPE) {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.CheckDeviceState()
}

// SetDeviceState starts a transfer over fd, which stays the caller's: direction 0
// saves, 1 loads.
func (c *Conn) SetDeviceState(direction, fd int) error {
	const noFD = 0x100
	v, err := c.AskU64(vhostuser.SetDeviceStateFD, State(direction, 0), fd)
	if err == nil && v != noFD {
		err = fmt.Errorf("device state: %w: %#x", ErrRefused, v)
	}
	return err
}

// CheckDeviceState waits for the end of the transfer.
func (c *Conn) CheckDeviceState() error {
	v, err := c.AskU64(vhostuser.CheckDeviceState, nil)
	if err == nil && v != 0 {
		err = fmt.Errorf("device state: %w: %d", ErrRefused, v)
	}
	return err
}

// MoveMemory gives the guest's first region a new file, as a migration to
// another host does: copy is called with the old and the new bytes. Nothing may
// use the memory meanwhile.
func (g *Guest) MoveMemory(copy func(dst, src []byte)) error {
	r := g.regions[0]
	fd, err := newMemfd(len(r.Mem))
	if err != nil {
		return err
	}
	dst, err := unix.Mmap(fd, 0, len(r.Mem), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		closeFD(fd)
		return fmt.Errorf("mmap: %w", err)
	}
	copy(dst, r.Mem)
	if err := unix.Munmap(dst); err != nil {
		return err
	}
	if err := remap(r.Mem, fd); err != nil {
		closeFD(fd)
		return err
	}
	closeFD(r.FD)
	r.FD = fd
	return nil
}
