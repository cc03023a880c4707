package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// A ZranContext is the inflater's state at the start of a slice of a gzip file.
type ZranContext struct {
	Byte uint8  // the byte before the slice's first, if Bits is not 0
	Bits uint8  // how many high bits of Byte belong to the slice: 0 to 7
	Dict []byte // the window before the slice, at most 32 KiB
}

// A slice that starts in the middle of a byte cannot be given to an inflater
// that only takes whole bytes. Shifting the stream would lose the byte
// boundaries that gzip trailers stand on. Instead blocks without content are put
// in front, of just so many bits that the last of their bytes is shared with the
// slice: the low bits end the artificial block, the high bits are Byte's.
//
//	 artificial blocks                         slice
//	[........][........] ... [pending|.......][byte at in_offset][...
//	                          ^ Bits  ^ 8 - Bits
//
// There are two such blocks: one with fixed codes is 10 bits long (2 modulo 8)
// and one with dynamic codes is 93 (5 modulo 8), so every residue can be had.

const emptyFixedBits = 10

// emptyDynamic is the content of an empty block with dynamic codes: BFINAL 0,
// BTYPE 2, HLIT 257, HDIST 1, HCLEN 19; code lengths 1 for the symbols 18 and 1;
// 138 + 118 zeros, length 1 for the end-of-block symbol and for distance 0; end
// of block. Each pair is a value and its number of bits, low bit first.
var emptyDynamic = func() (fields [][2]uint) {
	fields = append(fields, [2]uint{0, 1}, [2]uint{2, 2}, [2]uint{0, 5}, [2]uint{0, 5}, [2]uint{15, 4})
	for _, symbol := range [...]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15} {
		length := uint(0)
		if symbol == 18 || symbol == 1 {
			length = 1
		}
		fields = append(fields, [2]uint{length, 3})
	}
	// Canonical codes: symbol 1 is 0, symbol 18 is 1.
	return append(fields,
		[2]uint{1, 1}, [2]uint{138 - 11, 7}, [2]uint{1, 1}, [2]uint{118 - 11, 7},
		[2]uint{0, 1}, [2]uint{0, 1}, // length 1 twice
		[2]uint{0, 1}) // end of block
}()

// zranPrefix[bits] is what is put before a slice with so many pending bits. The
// high bits of its last byte are free.
var zranPrefix = func() (p [8][]byte) {
	for bits := uint(1); bits < 8; bits++ {
		var w bitWriter
		if (8-bits)%2 != 0 {
			for _, f := range emptyDynamic {
				w.write(f[0], f[1])
			}
		}
		for w.n%8 != 8-bits {
			w.write(0b010, 3) // BFINAL 0, BTYPE 1
			w.write(0, emptyFixedBits-3)
		}
		p[bits] = w.b
	}
	return p
}()

// A bitWriter packs bits as deflate does: low bits first.
type bitWriter struct {
	b []byte
	n uint
}

func (w *bitWriter) write(value, bits uint) {
	for i := range bits {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.n/8] |= byte(value>>i&1) << (w.n % 8)
		w.n++
	}
}

// Zran fills dst with the first len(dst) bytes of the slice that starts at
// src[0] with the state z. Members that end inside the slice are followed by the
// next one. src must hold all the input that takes.
func (d *Decoder) Zran(dst, src []byte, z ZranContext) error {
	if z.Bits > 7 || len(z.Dict) > 32<<10 {
		return fmt.Errorf("%w: zran: %d pending bits, %d bytes of window", ErrData, z.Bits, len(z.Dict))
	}
	in := src
	if z.Bits != 0 {
		prefix := zranPrefix[z.Bits]
		d.joined = append(append(d.joined[:0], prefix...), src...)
		d.joined[len(prefix)-1] |= z.Byte &^ (0xff >> z.Bits)
		in = d.joined
	}
	d.in.Reset(in)
	defer d.in.Reset(nil)
	if err := d.startInflate(z.Dict); err != nil {
		return err
	}
	for done := 0; ; {
		n, err := io.ReadFull(d.inflate, dst[done:])
		if done += n; done == len(dst) {
			return nil
		}
		if err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: zran: %v", ErrData, err)
		}
		if err := d.nextMember(&d.in); err != nil {
			return err
		}
	}
}

// nextMember moves from the end of a deflate stream to the start of the next.
// The inflater has read no byte beyond the stream's last.
func (d *Decoder) nextMember(r *bytes.Reader) error {
	var t [gzipTrailer]byte
	if _, err := io.ReadFull(r, t[:]); err != nil {
		return fmt.Errorf("%w: zran: trailer cut off", ErrData)
	}
	if err := skipGzipHeader(r); err != nil {
		return err
	}
	return d.startInflate(nil)
}
