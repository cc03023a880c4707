package inflate

// Sizes of the alphabets (RFC 1951, 3.2).
const (
	maxLitCodes  = 288
	maxDistCodes = 32
	lenCodes     = 19
	maxCodeLen   = 15
	endOfBlock   = 256
)

// A huffman decodes one alphabet. Entry i of table belongs to the next bits i:
// symbol << 4 | length, 0 if no code begins so.
type huffman struct {
	table [1 << maxCodeLen]uint16
	bits  uint // index width
}

// build makes the decoder for the given code lengths (RFC 1951, 3.2.2). Codes
// that leave room are allowed only if there is at most one, as zlib has it.
func (h *huffman) build(lengths []uint8) bool {
	var count [maxCodeLen + 1]int
	used := 0
	for _, n := range lengths {
		count[n]++
		if n > 0 {
			used++
		}
	}
	h.bits = maxCodeLen
	for h.bits > 1 && count[h.bits] == 0 {
		h.bits--
	}
	var next [maxCodeLen + 1]uint
	code, room := uint(0), 1
	for n := 1; n <= maxCodeLen; n++ {
		code <<= 1
		next[n] = code
		code += uint(count[n])
		if room = room<<1 - count[n]; room < 0 {
			return false
		}
	}
	if room > 0 && (used > 1 || used == 1 && count[1] != 1) {
		return false
	}
	size := uint(1) << h.bits
	if room > 0 {
		clear(h.table[:size])
	}
	for symbol, n := range lengths {
		if n == 0 {
			continue
		}
		entry := uint16(symbol<<4) | uint16(n)
		for i := reverse(next[n], uint(n)); i < size; i += 1 << n {
			h.table[i] = entry
		}
		next[n]++
	}
	return true
}

// reverse turns the low n bits of code around.
func reverse(code, n uint) (r uint) {
	for range n {
		r = r<<1 | code&1
		code >>= 1
	}
	return r
}

// symbol reads one code, or gives ok false if there is none or the input ends.
func (h *huffman) symbol(b *bitReader) (symbol uint, ok bool) {
	e := h.table[b.hold&(1<<h.bits-1)]
	n := uint(e & 15)
	if n == 0 || n > b.n {
		return 0, false
	}
	b.hold >>= n
	b.n -= n
	return uint(e >> 4), true
}

// block reads the head of a block and notes where it begins.
func (z *Reader) block() error {
	z.mark()
	if err := z.bits.need(3); err != nil {
		return err
	}
	z.last = z.bits.take(1) == 1
	switch z.bits.take(2) {
	case 0:
		return z.storedHead()
	case 1:
		z.fixed()
	case 2:
		return z.dynamic()
	default:
		return z.corrupt("block of unknown type")
	}
	return nil
}

func (z *Reader) storedHead() error {
	z.bits.align()
	var b [4]byte
	if err := z.bits.bytes(b[:]); err != nil {
		return err
	}
	if b[0] != ^b[2] || b[1] != ^b[3] {
		return z.corrupt("bad length of a stored block")
	}
	z.left = int(b[0]) | int(b[1])<<8
	if z.state = inStored; z.left == 0 {
		z.endBlock()
	}
	return nil
}

// fixed sets the fixed codes (RFC 1951, 3.2.6).
func (z *Reader) fixed() {
	l := z.lengths[:maxLitCodes]
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 8
		}
	}
	z.lit.build(l)
	l = z.lengths[:maxDistCodes]
	for i := range l {
		l[i] = 5
	}
	z.dist.build(l)
	z.state = inCodes
}

// lenOrder is the order in which lengths of length codes come.
var lenOrder = [lenCodes]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamic reads the codes of a block (RFC 1951, 3.2.7).
func (z *Reader) dynamic() error {
	if err := z.bits.need(14); err != nil {
		return err
	}
	lit, dist, n := int(z.bits.take(5))+257, int(z.bits.take(5))+1, int(z.bits.take(4))+4
	if lit > 286 || dist > 30 {
		return z.corrupt("too many codes")
	}
	var l [lenCodes]uint8
	for _, i := range lenOrder[:n] {
		if err := z.bits.need(3); err != nil {
			return err
		}
		l[i] = uint8(z.bits.take(3))
	}
	if !z.lit.build(l[:]) { // for a moment the code of the lengths
		return z.corrupt("bad code of code lengths")
	}
	if err := z.codeLengths(z.lengths[:lit+dist]); err != nil {
		return err
	}
	if z.lengths[endOfBlock] == 0 || !z.dist.build(z.lengths[lit:lit+dist]) || !z.lit.build(z.lengths[:lit]) {
		return z.corrupt("bad codes")
	}
	z.state = inCodes
	return nil
}

// codeLengths reads run-length coded code lengths.
func (z *Reader) codeLengths(l []uint8) error {
	for i := 0; i < len(l); {
		z.bits.fill()
		symbol, ok := z.lit.symbol(&z.bits)
		if !ok {
			return z.noSymbol()
		}
		if symbol < 16 {
			l[i] = uint8(symbol)
			i++
			continue
		}
		value, extra, base := uint8(0), uint(7), 11
		switch {
		case symbol == 16 && i == 0:
			return z.corrupt("repeat of nothing")
		case symbol == 16:
			value, extra, base = l[i-1], 2, 3
		case symbol == 17:
			extra, base = 3, 3
		}
		if err := z.bits.need(extra); err != nil {
			return err
		}
		run := base + int(z.bits.take(extra))
		if run > len(l)-i {
			return z.corrupt("too many code lengths")
		}
		for ; run > 0; run-- {
			l[i] = value
			i++
		}
	}
	return nil
}

// noSymbol says why no code could be read.
func (z *Reader) noSymbol() error {
	if z.bits.n < maxCodeLen {
		return z.bits.ended()
	}
	return z.corrupt("unknown code")
}

// Lengths and distances of matches (RFC 1951, 3.2.5).
var (
	lengthBase  = [...]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [...]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [...]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra   = [...]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// codes decodes symbols until want bytes are ready, out is full or the block ends.
func (z *Reader) codes(want int) error {
	z.makeRoom()
	from := z.w
	defer func() { z.add(from) }()
	for end := min(z.r+want, outBuffer-maxMatch+1); z.w < end; {
		z.bits.fill()
		symbol, ok := z.lit.symbol(&z.bits)
		switch {
		case !ok:
			return z.noSymbol()
		case symbol < endOfBlock:
			z.out[z.w] = byte(symbol)
			z.w++
		case symbol == endOfBlock:
			z.endBlock()
			return nil
		default:
			if err := z.match(symbol-endOfBlock-1, z.member+uint64(z.w-from)); err != nil {
				return err
			}
		}
	}
	return nil
}

// match copies a match; have is the output of the member so far. The bits of
// lengths, distance code and distance, 48 at most, are there unless the input ends.
func (z *Reader) match(code uint, have uint64) error {
	if code >= uint(len(lengthBase)) {
		return z.corrupt("unknown length")
	}
	extra := uint(lengthExtra[code])
	if err := z.bits.need(extra); err != nil {
		return err
	}
	length := int(lengthBase[code]) + int(z.bits.take(extra))
	d, ok := z.dist.symbol(&z.bits)
	if !ok {
		return z.noSymbol()
	}
	if d >= uint(len(distBase)) {
		return z.corrupt("unknown distance")
	}
	extra = uint(distExtra[d])
	if err := z.bits.need(extra); err != nil {
		return err
	}
	dist := int(distBase[d]) + int(z.bits.take(extra))
	if uint64(dist) > min(have, window) {
		return z.corrupt("distance beyond the start")
	}
	if dist >= length {
		copy(z.out[z.w:z.w+length], z.out[z.w-dist:])
		z.w += length
		return nil
	}
	for range length {
		z.out[z.w] = z.out[z.w-dist]
		z.w++
	}
	return nil
}
