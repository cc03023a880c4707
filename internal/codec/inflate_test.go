package codec

import (
	"errors"
	"slices"
)

// A zranPoint is the start of a deflate block: a place where the stream can be
// entered.
type zranPoint struct {
	in  int   // byte of the file where the input starts
	ctx uint8 // the byte before, and how many of its high bits belong to the block
	n   uint8
	out int // bytes of output before the block
	own int // of these, bytes of the same member
}

var errDeflate = errors.New("bad deflate stream")

// A blockFinder is a slow inflater that keeps no output, only its length. It is
// an independent source of entry points.
type blockFinder struct {
	b      []byte
	pos    int // in bits
	out    int
	start  int // out where the member began
	points []zranPoint
}

func (f *blockFinder) bits(n int) int {
	v := 0
	for i := range n {
		if f.pos/8 >= len(f.b) {
			panic(errDeflate)
		}
		v |= int(f.b[f.pos/8]>>(f.pos%8)&1) << i
		f.pos++
	}
	return v
}

// A prefixCode is a canonical Huffman code: count per length, symbols in order.
type prefixCode struct {
	count   [16]int
	symbols []int
}

func newPrefixCode(lengths []int) (c prefixCode) {
	for s, l := range lengths {
		c.count[l]++
		if l > 0 {
			c.symbols = append(c.symbols, s)
		}
	}
	slices.SortStableFunc(c.symbols, func(a, b int) int { return lengths[a] - lengths[b] })
	c.count[0] = 0
	return c
}

func (f *blockFinder) symbol(c *prefixCode) int {
	code, first, index := 0, 0, 0
	for l := 1; l < 16; l++ {
		code |= f.bits(1)
		if k := code - first; k < c.count[l] {
			return c.symbols[index+k]
		}
		index += c.count[l]
		first = (first + c.count[l]) << 1
		code <<= 1
	}
	panic(errDeflate)
}

// findPoints gives the entry points of a file of gzip members without optional
// header fields.
func findPoints(file []byte) []zranPoint {
	f := &blockFinder{b: file}
	for f.pos/8+18 <= len(file) {
		f.pos += 80
		f.start = f.out
		for final := 0; final == 0; {
			f.point()
			final = f.bits(1)
			f.block(f.bits(2))
		}
		f.pos = (f.pos+7)/8*8 + 64
	}
	return f.points
}

func (f *blockFinder) point() {
	p := zranPoint{in: (f.pos + 7) / 8, out: f.out, own: f.out - f.start}
	if f.pos%8 != 0 {
		p.ctx, p.n = f.b[f.pos/8], uint8(8-f.pos%8)
	}
	f.points = append(f.points, p)
}

func (f *blockFinder) block(kind int) {
	switch kind {
	case 0:
		f.pos = (f.pos + 7) / 8 * 8
		n := f.bits(16)
		f.pos += 16 + 8*n
		f.out += n
	case 1:
		lengths := make([]int, 288)
		for i := range lengths {
			lengths[i] = 8
		}
		for i := 144; i < 280; i++ {
			lengths[i] = 7
			if i < 256 {
				lengths[i] = 9
			}
		}
		f.codes(newPrefixCode(lengths), newPrefixCode(slices.Repeat([]int{5}, 30)))
	case 2:
		f.codes(f.dynamic())
	default:
		panic(errDeflate)
	}
}

func (f *blockFinder) dynamic() (lit, dist prefixCode) {
	nlit, ndist, ncode := f.bits(5)+257, f.bits(5)+1, f.bits(4)+4
	lengths := make([]int, 19)
	for i, s := range [...]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15} {
		if i < ncode {
			lengths[s] = f.bits(3)
		}
	}
	code := newPrefixCode(lengths)
	var all []int
	for len(all) < nlit+ndist {
		switch s := f.symbol(&code); s {
		case 16:
			all = append(all, slices.Repeat([]int{all[len(all)-1]}, 3+f.bits(2))...)
		case 17:
			all = append(all, make([]int, 3+f.bits(3))...)
		case 18:
			all = append(all, make([]int, 11+f.bits(7))...)
		default:
			all = append(all, s)
		}
	}
	return newPrefixCode(all[:nlit]), newPrefixCode(all[nlit:])
}

// codes reads literals and matches up to the end of the block. Lengths 3 to 258
// come in groups of 4 codes per number of extra bits, distances in groups of 2.
func (f *blockFinder) codes(lit, dist prefixCode) {
	for {
		s := f.symbol(&lit)
		switch {
		case s < 256:
			f.out++
			continue
		case s == 256:
			return
		case s == 285:
			f.out += 258
		case s < 265:
			f.out += s - 254
		default:
			extra := (s - 261) / 4
			f.out += 3 + (4+(s-261)%4)<<extra + f.bits(extra)
		}
		if d := f.symbol(&dist); d >= 4 {
			f.bits(d/2 - 1)
		}
	}
}
