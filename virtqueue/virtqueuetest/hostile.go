package virtqueuetest

import "math/rand/v2"

// Scribble overwrites one random word of the ring, of an indirect table or of
// the event words with a value that a device may take for a good one: the
// driver's hostile mode. Run in a loop beside the device it changes descriptors
// between the device's reads. Completions mean nothing afterwards.
func (d *Driver) Scribble(r *rand.Rand) {
	switch r.IntN(8) {
	case 0:
		store32(d.avail, 0, r.Uint32())
	case 1:
		store32(d.avail, uint32(r.IntN(len(d.avail)/4))*4, r.Uint32()&0x001f_001f)
	case 2:
		store32(d.used, uint32(r.IntN(len(d.used)/4))*4, r.Uint32())
	case 3:
		if t := d.tables[r.IntN(len(d.tables))]; t != 0 {
			d.scribbleDesc(r, d.arena.Bytes(t, uint64(16*d.cfg.MaxIndirect)))
		}
	default:
		d.scribbleDesc(r, d.desc)
	}
}

// scribbleDesc overwrites half of a descriptor in table.
func (d *Driver) scribbleDesc(r *rand.Rand, table []byte) {
	i := uint32(r.IntN(len(table) / 16))
	if r.IntN(2) == 0 {
		addr := uint64(d.arena.GPA) + r.Uint64N(uint64(len(d.arena.Mem)))
		switch r.IntN(8) {
		case 0:
			addr = r.Uint64()
		case 1: // over the ring itself
			addr = uint64(d.descA) + r.Uint64N(16)
		}
		store64(table, i*16, addr)
		return
	}
	length := r.Uint64N(1 << r.IntN(33))
	flags := r.Uint64() & 7
	if d.cfg.Packed {
		store64(table, i*16+8, length&0xffff_ffff|r.Uint64N(uint64(d.size)+1)<<32|(flags|r.Uint64()&0x8080)<<48)
		return
	}
	store64(table, i*16+8, length&0xffff_ffff|flags<<32|r.Uint64N(uint64(d.size)+1)<<48)
}

// OfferAgain puts the chains of a split ring that the device has answered into the
// ring again, to be seen after Publish, without taking their completions.
func (d *Driver) OfferAgain(ids []uint16) {
	for _, id := range ids {
		d.offer(id)
	}
}

// Answered returns the split ring's used index, which counts completions whether
// they are taken or not.
func (d *Driver) Answered() uint16 { return load16(d.used, 2) }
