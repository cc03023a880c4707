package passthrough

import (
	"encoding/binary"
	"fmt"

	"vrafs/internal/tlv"
)

// The state of Numbers.
//
//	state   devices (8 each), in the order of their numbers | wide (device (8) | inode (8)), in theirs
const (
	numbersMagic   = "vrafsino"
	numbersVersion = 1
	numbersReader  = 1

	tagDevices = 1 | tlv.Required
	tagWide    = 2 | tlv.Required

	savedWideSize = 16
)

// State tells which numbers were given out.
func (n *Numbers) State() []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	le := binary.LittleEndian
	var devices []byte
	if list := n.devices.Load(); list != nil {
		for _, dev := range *list {
			devices = le.AppendUint64(devices, dev)
		}
	}
	table := make([]byte, len(n.wide)*savedWideSize)
	for key, v := range n.wide {
		b := table[v&^(ours|wide)*savedWideSize:]
		le.PutUint64(b, key[0])
		le.PutUint64(b[8:], key[1])
	}
	e := tlv.Start(numbersMagic, numbersVersion, numbersReader)
	e.Bytes(tagDevices, devices)
	e.Bytes(tagWide, table)
	return e.Finish()
}

// Load goes on as a state says. It must be called before the first number is given out;
// after an error nothing has changed.
func (n *Numbers) Load(state []byte) error {
	records, err := tlv.Read(state, numbersMagic, numbersVersion, tagDevices, tagWide)
	if err != nil {
		return err
	}
	var devices []uint64
	table := map[[2]uint64]uint64{}
	le := binary.LittleEndian
	for _, r := range records {
		if r.Tag == tagDevices {
			devices, err = entries(r, 8, maxDevice, func(b []byte) (uint64, error) { return le.Uint64(b), nil })
			if err != nil {
				return err
			}
			continue
		}
		keys, err := entries(r, savedWideSize, maxWide, func(b []byte) ([2]uint64, error) {
			return [2]uint64{le.Uint64(b), le.Uint64(b[8:])}, nil
		})
		if err != nil {
			return err
		}
		clear(table)
		for i, key := range keys {
			table[key] = uint64(ours | wide | i)
		}
		if len(table) != len(keys) {
			return fmt.Errorf("%w: an inode with two numbers", tlv.ErrFormat)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.devices.Store(&devices)
	n.wide = table
	return nil
}
