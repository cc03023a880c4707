package build

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// parse decodes the header block in t.blk, which began at off:
//
//	0    100  108 116 124  136   148  156  157   257   265   297   329 337 345
//	name mode uid gid size mtime csum type link  magic uname gname maj min prefix
func (t *tarReader) parse(off uint64) (*tarEntry, error) {
	b := t.blk[:]
	sum, err := octal(b[148:156])
	if err != nil {
		return nil, t.errAt(off, "checksum field: %v", err)
	}
	var u, s int64
	for i, c := range b {
		if i >= 148 && i < 156 {
			c = ' '
		}
		u += int64(c)
		s += int64(int8(c))
	}
	if sum != u && sum != s {
		return nil, t.errAt(off, "not a tar header (checksum %d, want %d)", sum, u)
	}
	e := &tarEntry{off: off, typ: b[156], name: cstr(b[:100]), link: cstr(b[157:257])}
	num := func(field string, p []byte) int64 {
		n, e := number256(p)
		if e != nil && err == nil {
			err = t.errAt(off, "%s: %v", field, e)
		}
		return n
	}
	mode := num("mode", b[100:108])
	uid, gid := num("uid", b[108:116]), num("gid", b[116:124])
	size := num("size", b[124:136])
	e.mtime = num("mtime", b[136:148])
	magic := string(b[257:265])
	if strings.HasPrefix(magic, "ustar") {
		if e.typ == tarChar || e.typ == tarBlock {
			e.major, e.minor = uint32(num("major", b[329:337])), uint32(num("minor", b[337:345]))
		}
		if magic[:6] == "ustar\x00" {
			prefix := b[345:500]
			if string(b[508:512]) == "tar\x00" {
				prefix = b[345:476]
			}
			if p := cstr(prefix); p != "" {
				e.name = p + "/" + e.name
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if size < 0 || uid < 0 || uid > math.MaxUint32 || gid < 0 || gid > math.MaxUint32 {
		return nil, t.errAt(off, "size %d, uid %d, gid %d out of range", size, uid, gid)
	}
	e.mode, e.uid, e.gid, e.size = uint32(mode)&0o7777, uint32(uid), uint32(gid), uint64(size)
	return e, nil
}

func cstr(p []byte) string {
	if i := bytes.IndexByte(p, 0); i >= 0 {
		p = p[:i]
	}
	return string(p)
}

// octal parses an octal field padded with spaces and NULs; an empty one is 0.
func octal(p []byte) (int64, error) {
	p = bytes.Trim(p, " \x00")
	if len(p) == 0 {
		return 0, nil
	}
	n, err := strconv.ParseUint(cstr(p), 8, 63)
	if err != nil {
		return 0, fmt.Errorf("bad number %q", p)
	}
	return int64(n), nil
}

// number256 parses an octal or base-256 field.
func number256(p []byte) (int64, error) {
	if p[0]&0x80 == 0 {
		return octal(p)
	}
	neg := p[0]&0x40 != 0
	var n uint64
	for i, c := range p {
		if neg {
			c = ^c
		}
		if i == 0 {
			c &= 0x7f
		}
		if n>>55 != 0 {
			return 0, fmt.Errorf("number too large")
		}
		n = n<<8 | uint64(c)
	}
	if neg {
		return ^int64(n), nil
	}
	return int64(n), nil
}

// sparse reads the sparse map of e, in whichever of the four GNU encodings, and
// leaves t at the first byte of data.
func (t *tarReader) sparse(e *tarEntry, pax map[string]string, v00 []string) error {
	var (
		nums []string
		err  error
		real = e.size
	)
	for _, k := range []string{"GNU.sparse.realsize", "GNU.sparse.size"} {
		if s := pax[k]; s != "" {
			if real, err = strconv.ParseUint(s, 10, 63); err != nil {
				return err
			}
			break
		}
	}
	switch {
	case e.typ == tarGNUSparse:
		if real, err = t.oldSparse(e); err != nil {
			return err
		}
		e.typ = tarReg
		return t.checkSparse(e, real)
	case e.typ != tarReg:
		return nil
	case pax["GNU.sparse.major"] == "1" && pax["GNU.sparse.minor"] == "0":
		if nums, err = t.mapInData(); err != nil {
			return err
		}
		e.stored = t.left
	case pax["GNU.sparse.map"] != "":
		if strings.Count(pax["GNU.sparse.map"], ",") >= 2*maxTarSparse {
			return fmt.Errorf("too many ranges")
		}
		nums = strings.Split(pax["GNU.sparse.map"], ",")
	case len(v00) > 0:
		nums = v00
	default:
		return nil
	}
	if len(nums)%2 != 0 {
		return fmt.Errorf("odd number of fields")
	}
	for i := 0; i < len(nums); i += 2 {
		off, err := strconv.ParseUint(nums[i], 10, 63)
		if err != nil {
			return err
		}
		n, err := strconv.ParseUint(nums[i+1], 10, 63)
		if err != nil {
			return err
		}
		e.sparse = append(e.sparse, extent{off, n})
	}
	return t.checkSparse(e, real)
}

// checkSparse accepts a map whose ranges are in order, inside the file and as
// long in total as the stored data.
func (t *tarReader) checkSparse(e *tarEntry, size uint64) error {
	var end, sum uint64
	out := e.sparse[:0]
	for _, x := range e.sparse {
		if x.off < end || x.off > size || x.len > size-x.off {
			return fmt.Errorf("range %d+%d in a file of %d bytes", x.off, x.len, size)
		}
		end = x.off + x.len
		sum += x.len
		if x.len > 0 {
			out = append(out, x)
		}
	}
	if sum != e.stored {
		return fmt.Errorf("%d bytes in the map, %d stored", sum, e.stored)
	}
	e.sparse, e.size, e.isSparse = out, size, true
	return nil
}

// oldSparse reads the map of a type 'S' entry: four pairs at 386, then blocks of
// 21 pairs while the byte at 482 (504) is set. It returns the real size.
func (t *tarReader) oldSparse(e *tarEntry) (uint64, error) {
	size, err := number256(t.blk[483:495])
	if err != nil || size < 0 {
		return 0, fmt.Errorf("real size: %d", size)
	}
	pairs := func(p []byte) error {
		for ; len(p) >= 24; p = p[24:] {
			if p[0] == 0 {
				break
			}
			off, err := number256(p[:12])
			if err != nil {
				return err
			}
			n, err := number256(p[12:24])
			if err != nil || off < 0 || n < 0 {
				return fmt.Errorf("bad range")
			}
			if len(e.sparse) >= maxTarSparse {
				return fmt.Errorf("too many ranges")
			}
			e.sparse = append(e.sparse, extent{uint64(off), uint64(n)})
		}
		return nil
	}
	if err := pairs(t.blk[386:482]); err != nil {
		return 0, err
	}
	for more := t.blk[482] != 0; more; more = t.blk[504] != 0 {
		if err := t.full(t.blk[:]); err != nil {
			return 0, noEOF(err)
		}
		if err := pairs(t.blk[:504]); err != nil {
			return 0, err
		}
	}
	return uint64(size), nil
}

// mapInData reads the map of format 1.0: decimal lines at the start of the data,
// padded to a block.
func (t *tarReader) mapInData() ([]string, error) {
	var (
		nums []string
		line []byte
		want = -1
		blk  [tarBlockSize]byte
	)
	for want < 0 || len(nums) < want {
		if _, err := io.ReadFull(t, blk[:]); err != nil {
			return nil, noEOF(err)
		}
		for _, c := range blk {
			if c != '\n' {
				if line = append(line, c); len(line) > 20 {
					return nil, fmt.Errorf("number too long")
				}
				continue
			}
			if want < 0 {
				n, err := strconv.ParseUint(string(line), 10, 31)
				if err != nil || n > maxTarSparse {
					return nil, fmt.Errorf("bad number of ranges %q", line)
				}
				want = int(2 * n)
			} else if len(nums) < want {
				nums = append(nums, string(line))
			}
			line = line[:0]
			if len(nums) == want {
				break
			}
		}
	}
	return nums, nil
}
