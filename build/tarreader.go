package build

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Tar record types (POSIX.1-2024 pax, GNU tar "Basic Tar Format").
const (
	tarReg       = '0'
	tarRegOld    = 0
	tarLink      = '1'
	tarSymlink   = '2'
	tarChar      = '3'
	tarBlock     = '4'
	tarDir       = '5'
	tarFifo      = '6'
	tarCont      = '7'
	tarGNUSparse = 'S'
	tarGNUName   = 'L'
	tarGNULink   = 'K'
	tarPAX       = 'x'
	tarPAXSun    = 'X'
	tarPAXGlobal = 'g'
)

const (
	tarBlockSize  = 512
	maxTarPath    = 16 << 10 // bytes of one path or link target
	maxTarPAX     = 8 << 20  // bytes of one extended header
	maxTarSparse  = 1 << 20  // ranges of one sparse file
	xattrPAX      = "SCHILY.xattr."
	paxSparsePref = "GNU.sparse."
)

// A tarEntry is one member of an archive with every extension applied.
type tarEntry struct {
	off      uint64 // of its first header block, extensions included
	dataOff  uint64 // of its stored data
	typ      byte
	name     string
	link     string
	mode     uint32
	uid, gid uint32
	size     uint64 // logical size
	stored   uint64 // bytes of data in the archive
	mtime    int64
	nsec     uint32
	major    uint32
	minor    uint32
	xattrs   []xattr
	sparse   []extent // where the stored bytes go, if isSparse
	isSparse bool
}

// An extent is a range of data in a sparse file.
type extent struct{ off, len uint64 }

// A tarReader reads a tar strictly forward. Unlike archive/tar it keeps binary
// and empty PAX values, gives the offset of everything and hands out the sparse map.
type tarReader struct {
	r      io.Reader
	pos    uint64 // bytes consumed
	left   uint64 // stored bytes of the current entry not read yet
	pad    uint64 // bytes after them
	global map[string]string
	limits tarLimits
	blk    [tarBlockSize]byte
}

func newTarReader(r io.Reader) *tarReader {
	return &tarReader{r: cutReader{r}, limits: defaultTarLimits}
}

// A cutReader tells a stream that was cut, which decoders and connections report, from
// one that has an end: io.ReadFull says the same of a stream that ends in a block.
type cutReader struct{ io.Reader }

// errCut is of class io.ErrUnexpectedEOF, but is not that very error.
var errCut = fmt.Errorf("the stream was cut: %w", io.ErrUnexpectedEOF)

// Read reads on.
func (c cutReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err == io.ErrUnexpectedEOF {
		err = errCut
	}
	return n, err
}

// errAt is an error of class ErrSource that names the place.
func (t *tarReader) errAt(off uint64, format string, a ...any) error {
	return fmt.Errorf("%w: tar entry at %d: %s", ErrSource, off, fmt.Sprintf(format, a...))
}

func (t *tarReader) full(p []byte) error {
	n, err := io.ReadFull(t.r, p)
	t.pos += uint64(n)
	return err
}

// Read reads stored bytes of the current entry and returns io.EOF after them.
func (t *tarReader) Read(p []byte) (int, error) {
	if t.left == 0 {
		return 0, io.EOF
	}
	if uint64(len(p)) > t.left {
		p = p[:t.left]
	}
	n, err := t.r.Read(p)
	t.pos += uint64(n)
	t.left -= uint64(n)
	if err == io.EOF {
		err = nil
		if t.left > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

// skip consumes the rest of the current entry and its padding.
func (t *tarReader) skip() error {
	n := t.left + t.pad
	t.left, t.pad = 0, 0
	for n > 0 {
		k := min(n, math.MaxInt64)
		c, err := io.CopyN(io.Discard, t.r, int64(k))
		t.pos += uint64(c)
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// block reads the next header block. It passes over a single block of zeros. Two of
// them end the archive (io.EOF): what follows is read, since it belongs to the source,
// and ignored, as all that unpack layers do.
func (t *tarReader) block() error {
	for zeros := 0; ; zeros++ {
		if zeros == 2 {
			return t.drain()
		}
		err := t.full(t.blk[:])
		if err == io.ErrUnexpectedEOF && isZero(t.blk[:]) {
			return io.EOF // a short final block of zeros
		}
		if err != nil {
			return err
		}
		if !isZero(t.blk[:]) {
			return nil
		}
		clear(t.blk[:])
	}
}

// drain reads what is after the end mark and returns io.EOF.
func (t *tarReader) drain() error {
	n, err := io.CopyN(io.Discard, t.r, int64(t.limits.tail)+1)
	at := t.pos
	t.pos += uint64(n)
	if err == nil {
		return t.errAt(at, "more than %d bytes after the end of the archive", t.limits.tail)
	}
	return err
}

func isZero(p []byte) bool {
	for len(p) >= 64 {
		if *(*[64]byte)(p) != ([64]byte{}) {
			return false
		}
		p = p[64:]
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// next gives the next entry. io.EOF ends the archive.
func (t *tarReader) next() (*tarEntry, error) {
	at := t.pos
	if err := t.skip(); err != nil {
		return nil, fmt.Errorf("%w: tar: data ends early, at %d: %w", ErrSource, at, err)
	}
	x := tarExtensions{start: math.MaxUint64}
	for {
		if t.pos > t.limits.size {
			return nil, t.errAt(at, "more than %d bytes of tar", t.limits.size)
		}
		clear(t.blk[:])
		if err := t.block(); err != nil {
			if err == io.EOF && x.start == math.MaxUint64 {
				return nil, io.EOF
			}
			return nil, fmt.Errorf("%w: tar header at %d: %w", ErrSource, t.pos, noEOF(err))
		}
		hdr := t.pos - tarBlockSize
		x.start = min(x.start, hdr)
		e, err := t.parse(hdr)
		if err != nil {
			return nil, err
		}
		if extends, err := t.extension(e, &x); err != nil {
			return nil, err
		} else if extends {
			continue
		}
		e.off = x.start
		if x.name != "" {
			e.name = x.name
		}
		if x.link != "" {
			e.link = x.link
		}
		return e, t.finish(e, x.pax, x.sparse00)
	}
}

// tarExtensions are what the headers before an entry say of it.
type tarExtensions struct {
	start      uint64 // offset of the first of them
	pax        map[string]string
	sparse00   []string
	name, link string // of GNU tar
}

// extension takes e into x if it is no entry of its own.
func (t *tarReader) extension(e *tarEntry, x *tarExtensions) (bool, error) {
	switch e.typ {
	case tarPAX, tarPAXSun, tarPAXGlobal:
		p, err := t.special(e, maxTarPAX)
		if err != nil {
			return false, err
		}
		m, sparse, err := parsePAX(p)
		if err != nil {
			return false, t.errAt(e.off, "pax header: %v", err)
		}
		if e.typ == tarPAXGlobal {
			t.setGlobal(m)
			x.start = math.MaxUint64
			return true, nil
		}
		x.pax, x.sparse00 = m, sparse
	case tarGNUName, tarGNULink:
		p, err := t.special(e, maxTarPath)
		if err != nil {
			return false, err
		}
		if e.typ == tarGNUName {
			x.name = cstr(p)
		} else {
			x.link = cstr(p)
		}
	default:
		return false, nil
	}
	return true, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// setGlobal keeps the records of a global header as defaults.
func (t *tarReader) setGlobal(m map[string]string) {
	if t.global == nil {
		t.global = map[string]string{}
	}
	for k, v := range m {
		if len(t.global) >= 1024 {
			return
		}
		if strings.HasPrefix(k, paxSparsePref) || k == "path" || k == "linkpath" || k == "size" || k == "comment" {
			continue
		}
		t.global[k] = v
	}
}

// special reads the data of an extension header.
func (t *tarReader) special(e *tarEntry, limit uint64) ([]byte, error) {
	if e.size > limit {
		return nil, t.errAt(e.off, "extension header of %d bytes, limit %d", e.size, limit)
	}
	t.left, t.pad = e.size, padding(e.size)
	var b bytes.Buffer
	if _, err := io.CopyN(&b, t, int64(e.size)); err != nil {
		return nil, t.errAt(e.off, "extension header: %v", noEOF(err))
	}
	if err := t.skip(); err != nil {
		return nil, t.errAt(e.off, "extension header: %v", err)
	}
	return b.Bytes(), nil
}

func padding(n uint64) uint64 { return -n & (tarBlockSize - 1) }

// finish applies PAX records, sets up the data and reads the sparse map.
func (t *tarReader) finish(e *tarEntry, pax map[string]string, sparse00 []string) error {
	for k, v := range t.global {
		if _, ok := pax[k]; ok {
			continue
		}
		if err := e.apply(k, v); err != nil {
			return t.errAt(e.off, "%v", err)
		}
	}
	for k, v := range pax {
		if err := e.apply(k, v); err != nil {
			return t.errAt(e.off, "%v", err)
		}
	}
	if s := pax["GNU.sparse.name"]; s != "" {
		e.name = s
	}
	if len(e.name) > maxTarPath || len(e.link) > maxTarPath {
		return t.errAt(e.off, "path of more than %d bytes", maxTarPath)
	}
	if e.typ == tarRegOld {
		e.typ = tarReg
		if strings.HasSuffix(e.name, "/") {
			e.typ = tarDir
		}
	}
	if e.typ == tarCont {
		e.typ = tarReg
	}
	switch e.typ {
	case tarLink, tarSymlink, tarChar, tarBlock, tarDir, tarFifo:
		e.size = 0
	}
	if e.size > math.MaxInt64 {
		return t.errAt(e.off, "size %d", e.size)
	}
	if e.size > t.limits.size {
		return t.errAt(e.off, "%d bytes of data: more than %d bytes of tar", e.size, t.limits.size)
	}
	e.stored = e.size
	t.left, t.pad = e.stored, padding(e.stored)
	if err := t.sparse(e, pax, sparse00); err != nil {
		return t.errAt(e.off, "sparse map: %v", err)
	}
	e.dataOff = t.pos
	return nil
}

// apply sets what the PAX record k=v says.
func (e *tarEntry) apply(k, v string) error {
	if n, ok := strings.CutPrefix(k, xattrPAX); ok {
		e.xattrs = append(e.xattrs, xattr{n, []byte(v)})
		return nil
	}
	if v == "" {
		return nil // the header's own value stays
	}
	var err error
	switch k {
	case "path":
		e.name = v
	case "linkpath":
		e.link = v
	case "size":
		e.size, err = strconv.ParseUint(v, 10, 63)
	case "uid":
		e.uid, err = parseID(v)
	case "gid":
		e.gid, err = parseID(v)
	case "mtime":
		e.mtime, e.nsec, err = parseTime(v)
	}
	if err != nil {
		return fmt.Errorf("pax record %s=%.40q", k, v)
	}
	return nil
}

func parseID(v string) (uint32, error) {
	n, err := strconv.ParseUint(v, 10, 32)
	return uint32(n), err
}

// parseTime reads a decimal number of seconds with an optional fraction.
func parseTime(v string) (int64, uint32, error) {
	s, frac, _ := strings.Cut(v, ".")
	sec, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, 0, err
	}
	if frac == "" {
		return sec, 0, nil
	}
	frac = (frac + "000000000")[:9]
	ns, err := strconv.ParseUint(frac, 10, 32)
	if err != nil {
		return 0, 0, err
	}
	if strings.HasPrefix(s, "-") && ns > 0 {
		return sec - 1, uint32(1e9 - ns), nil
	}
	return sec, uint32(ns), nil
}

// parsePAX splits the records of an extended header. The repeated offsets and
// lengths of GNU sparse format 0.0 are returned in order.
func parsePAX(p []byte) (map[string]string, []string, error) {
	m := map[string]string{}
	var sparse []string
	for len(p) > 0 {
		sp := bytes.IndexByte(p[:min(len(p), 12)], ' ')
		if sp <= 0 {
			if isZero(p) {
				break
			}
			return nil, nil, fmt.Errorf("record without length")
		}
		n, err := strconv.ParseUint(string(p[:sp]), 10, 31)
		if err != nil || int(n) > len(p) || int(n) < sp+3 || p[n-1] != '\n' {
			return nil, nil, fmt.Errorf("bad record length %.12q", p[:sp])
		}
		k, v, ok := strings.Cut(string(p[sp+1:n-1]), "=")
		p = p[n:]
		if !ok || k == "" || strings.IndexByte(k, 0) >= 0 {
			return nil, nil, fmt.Errorf("bad record %.40q", k)
		}
		switch k {
		case "GNU.sparse.offset", "GNU.sparse.numbytes":
			if len(sparse) >= 2*maxTarSparse {
				return nil, nil, fmt.Errorf("sparse map too long")
			}
			sparse = append(sparse, v)
		case "path", "linkpath":
			if strings.IndexByte(v, 0) >= 0 {
				return nil, nil, fmt.Errorf("NUL in %s", k)
			}
			m[k] = v
		default:
			m[k] = v
		}
	}
	return m, sparse, nil
}
