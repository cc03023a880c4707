package inflate

import (
	"encoding/binary"
	"io"
)

// A bitReader gives the bits of a stream, low bits of a byte first.
type bitReader struct {
	r        io.Reader
	buf      [inBuffer]byte
	pos, end int
	base     uint64 // offset of buf[0] in the stream
	hold     uint64 // bits not used yet, the next one lowest
	n        uint   // how many
	err      error  // why no more bytes come
}

// offset is the number of bytes of which at least one bit was used.
func (b *bitReader) offset() uint64 { return b.base + uint64(b.pos) - uint64(b.n/8) }

// partial gives the unused bits of a byte that was used in part.
func (b *bitReader) partial() (value, bits uint8) {
	bits = uint8(b.n % 8)
	return uint8(b.hold) & (1<<bits - 1), bits
}

// fill makes more bits available if there are any.
func (b *bitReader) fill() {
	if b.end-b.pos >= 8 {
		b.hold |= binary.LittleEndian.Uint64(b.buf[b.pos:]) << b.n
		took := (63 - b.n) / 8
		b.pos += int(took)
		b.n += took * 8
		b.hold &= 1<<b.n - 1
		return
	}
	for b.n < 56 {
		if b.pos == b.end && !b.load() {
			return
		}
		b.hold |= uint64(b.buf[b.pos]) << b.n
		b.pos++
		b.n += 8
	}
}

// load refills the buffer.
func (b *bitReader) load() bool {
	b.base += uint64(b.end)
	b.pos, b.end = 0, 0
	for b.end == 0 && b.err == nil {
		b.end, b.err = b.r.Read(b.buf[:])
	}
	return b.end > 0
}

// need makes sure of n bits, at most 48.
func (b *bitReader) need(n uint) error {
	if b.n >= n {
		return nil
	}
	if b.fill(); b.n >= n {
		return nil
	}
	return b.ended()
}

// ended says why there are no more bits.
func (b *bitReader) ended() error {
	if b.err != nil && b.err != io.EOF {
		return b.err
	}
	return io.ErrUnexpectedEOF
}

// take gives n bits that need has made sure of.
func (b *bitReader) take(n uint) uint {
	v := uint(b.hold & (1<<n - 1))
	b.hold >>= n
	b.n -= n
	return v
}

// align drops the rest of a byte that was used in part.
func (b *bitReader) align() { b.take(b.n % 8) }

// bytes fills p; the position must be at the start of a byte.
func (b *bitReader) bytes(p []byte) error {
	for len(p) > 0 && b.n > 0 {
		p[0] = byte(b.take(8))
		p = p[1:]
	}
	for len(p) > 0 {
		if b.pos == b.end && !b.load() {
			return b.ended()
		}
		n := copy(p, b.buf[b.pos:b.end])
		b.pos += n
		p = p[n:]
	}
	return nil
}
