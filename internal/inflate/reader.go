package inflate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ErrData is the class of malformed streams.
var ErrData = errors.New("bad gzip data")

const (
	window    = 32 << 10
	maxMatch  = 258
	outBuffer = window + 96<<10
	inBuffer  = 64 << 10
)

// Slack is how many bytes of input beyond the used ones a decoder may ask for
// that enters the stream at a Point and wants the bytes read so far: it looks
// ahead. The trailer of a member is as long, so they are always there.
const Slack = 8

// A Point is the state at the start of a deflate block.
type Point struct {
	InOff  uint64 // first whole byte of the block in the file
	OutOff uint64 // in the decompressed stream
	Byte   uint8  // the byte before InOff; only its high Bits bits are set
	Bits   uint8  // how many bits of Byte belong to the block
	Dict   []byte // the window before the block, valid until the next Read
}

// A Reader decompresses the members of a gzip file as one stream.
type Reader struct {
	bits bitReader
	out  [outBuffer]byte
	w, r int // written and read so far in out

	state   state
	last    bool // the current block is the member's last
	left    int  // bytes of a stored block still to come
	lit     huffman
	dist    huffman
	member  uint64 // output of the current member, decoded
	members int
	read    uint64 // output handed out
	crc     uint32

	point   Point
	dict    [window]byte
	lengths [maxLitCodes + maxDistCodes]uint8
}

type state uint8

const (
	atMember state = iota // before a gzip header
	atBlock               // before a block
	inStored
	inCodes
	atTrailer
	atEnd
)

// NewReader reads from r, which is consumed to its end.
func NewReader(r io.Reader) *Reader {
	z := &Reader{}
	z.bits.r = r
	return z
}

// Block is the start of the block that the last byte handed out belongs to, or of
// the first one. It is valid until the next Read.
func (z *Reader) Block() *Point { return &z.point }

// InOffset is the number of input bytes that the decoding so far took, the last
// one perhaps in part.
func (z *Reader) InOffset() uint64 { return z.bits.offset() }

// OutOffset is the number of bytes handed out.
func (z *Reader) OutOffset() uint64 { return z.read }

// Members counts the gzip members entered so far.
func (z *Reader) Members() int { return z.members }

// Read decompresses at most len(p) bytes. io.EOF comes after the last member and
// what zeros follow it.
func (z *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	want := min(len(p), outBuffer-window-maxMatch)
	for z.w-z.r < want {
		if err := z.step(want); err != nil {
			if err == io.EOF && z.w > z.r {
				break
			}
			return 0, err
		}
	}
	n := copy(p, z.out[z.r:z.w])
	z.r += n
	z.read += uint64(n)
	return n, nil
}

// step does one unit of work, at most until want bytes are ready.
func (z *Reader) step(want int) (err error) {
	switch z.state {
	case atMember:
		err = z.header()
	case atBlock:
		err = z.block()
	case inStored:
		err = z.stored(want)
	case inCodes:
		err = z.codes(want)
	case atTrailer:
		err = z.trailer()
	case atEnd:
		return io.EOF
	}
	if err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("%w: ends early, at byte %d: %w", ErrData, z.InOffset(), io.ErrUnexpectedEOF)
	}
	return err
}

func (z *Reader) corrupt(what string) error {
	return fmt.Errorf("%w: %s at byte %d", ErrData, what, z.InOffset())
}

// makeRoom moves the window down if a symbol might not fit.
func (z *Reader) makeRoom() {
	if outBuffer-z.w >= maxMatch {
		return
	}
	keep := max(window, z.w-z.r)
	from := z.w - keep
	copy(z.out[:], z.out[from:z.w])
	z.w, z.r = keep, z.r-from
}

// add accounts for bytes written to out since from.
func (z *Reader) add(from int) {
	p := z.out[from:z.w]
	z.crc = crc32.Update(z.crc, crc32.IEEETable, p)
	z.member += uint64(len(p))
}

// mark makes the current position the Point.
func (z *Reader) mark() {
	n := int(min(z.member, window))
	copy(z.dict[:n], z.out[z.w-n:z.w])
	value, bits := z.bits.partial()
	z.point = Point{
		InOff: z.bits.offset(), OutOff: z.read + uint64(z.w-z.r), Bits: bits, Dict: z.dict[:n],
	}
	if bits > 0 {
		z.point.Byte = value << (8 - bits)
	}
}

// stored copies bytes of a stored block.
func (z *Reader) stored(want int) error {
	z.makeRoom()
	n := min(z.left, want-(z.w-z.r), outBuffer-z.w)
	from := z.w
	if err := z.bits.bytes(z.out[from : from+n]); err != nil {
		return err
	}
	z.w += n
	z.left -= n
	z.add(from)
	if z.left == 0 {
		z.endBlock()
	}
	return nil
}

func (z *Reader) endBlock() {
	z.state = atBlock
	if z.last {
		z.state = atTrailer
	}
}

// trailer checks what the member says of itself.
func (z *Reader) trailer() error {
	z.bits.align()
	var t [8]byte
	if err := z.bits.bytes(t[:]); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(t[:]) != z.crc {
		return z.corrupt("checksum mismatch")
	}
	if binary.LittleEndian.Uint32(t[4:]) != uint32(z.member) {
		return z.corrupt("length mismatch")
	}
	z.state = atMember
	return nil
}

// header reads a member's header (RFC 1952, 2.3), or the end of the file.
func (z *Reader) header() error {
	var h [10]byte
	if err := z.bits.bytes(h[:1]); err == io.ErrUnexpectedEOF && z.members > 0 {
		z.state = atEnd
		return nil
	} else if err != nil {
		return err
	}
	if h[0] == 0 && z.members > 0 {
		return z.padding()
	}
	if err := z.bits.bytes(h[1:]); err != nil {
		return err
	}
	if h[0] != 0x1f || h[1] != 0x8b || h[2] != 8 {
		return z.corrupt("no gzip header")
	}
	if err := z.skipFields(h[3]); err != nil {
		return err
	}
	z.members++
	z.member, z.crc = 0, 0
	z.state = atBlock
	return nil
}

// padding accepts zeros to the end of the file.
func (z *Reader) padding() error {
	var b [1]byte
	for {
		if err := z.bits.bytes(b[:]); err == io.ErrUnexpectedEOF {
			z.state = atEnd
			return nil
		} else if err != nil {
			return err
		}
		if b[0] != 0 {
			return z.corrupt("data after the last member")
		}
	}
}

// skipFields passes over the optional parts of a header.
func (z *Reader) skipFields(flags byte) error {
	const (
		crc16, extra, name, comment = 2, 4, 8, 16
	)
	var b [2]byte
	if flags&extra != 0 {
		if err := z.bits.bytes(b[:]); err != nil {
			return err
		}
		for n := binary.LittleEndian.Uint16(b[:]); n > 0; n-- {
			if err := z.bits.bytes(b[:1]); err != nil {
				return err
			}
		}
	}
	for _, f := range []byte{name, comment} {
		if flags&f == 0 {
			continue
		}
		for b[0] = 1; b[0] != 0; {
			if err := z.bits.bytes(b[:1]); err != nil {
				return err
			}
		}
	}
	if flags&crc16 != 0 {
		return z.bits.bytes(b[:])
	}
	return nil
}
