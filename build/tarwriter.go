package build

import (
	"fmt"
	"io"
	"path"
	"sort"
	"strconv"
	"strings"
)

const (
	ustarName   = 100     // bytes of the name field
	ustarPrefix = 155     // bytes of the prefix field
	ustarMaxID  = 1 << 21 // exclusive
	ustarMax12  = 1 << 33 // exclusive: sizes and times
)

// A tarWriter writes a tar strictly forward: a ustar header per entry and, where
// that can't say it, a PAX extended header before. Unlike archive/tar it carries
// empty and binary xattr values. The same entries give the same bytes.
type tarWriter struct {
	w    io.Writer
	left uint64 // data bytes of the current entry still to come
	pad  uint64
	err  error
}

func newTarWriter(w io.Writer) *tarWriter { return &tarWriter{w: w} }

// header starts the next entry. The data of the one before must be complete.
func (t *tarWriter) header(e *tarEntry) error {
	if err := t.flush(); err != nil {
		return err
	}
	records, err := paxRecords(e)
	if err != nil {
		return err
	}
	if len(records) > 0 {
		x := tarEntry{typ: tarPAX, name: paxName(e.name), size: uint64(len(records))}
		t.put(ustarHeader(&x))
		t.put(records)
		t.put(make([]byte, padding(x.size)))
	}
	t.put(ustarHeader(e))
	t.left, t.pad = e.size, padding(e.size)
	return t.err
}

// Write appends data of the current entry.
func (t *tarWriter) Write(p []byte) (int, error) {
	if uint64(len(p)) > t.left {
		return 0, fmt.Errorf("tar entry: %d bytes more than its size", uint64(len(p))-t.left)
	}
	t.left -= uint64(len(p))
	t.put(p)
	return len(p), t.err
}

// close ends the archive.
func (t *tarWriter) close() error {
	if err := t.flush(); err != nil {
		return err
	}
	t.put(make([]byte, 2*tarBlockSize))
	return t.err
}

func (t *tarWriter) flush() error {
	if t.err == nil && t.left > 0 {
		t.err = fmt.Errorf("tar entry: %d bytes of its size missing", t.left)
	}
	t.put(make([]byte, t.pad))
	t.pad = 0
	return t.err
}

func (t *tarWriter) put(p []byte) {
	if t.err == nil && len(p) > 0 {
		_, t.err = t.w.Write(p)
	}
}

// ustarHeader encodes what fits into a ustar header; the rest is in PAX records,
// which win.
func ustarHeader(e *tarEntry) []byte {
	b := make([]byte, tarBlockSize)
	prefix, name, ok := splitName(e.name)
	if !ok {
		name = cut(ascii(e.name), ustarName)
	}
	copy(b, name)
	copy(b[345:], prefix)
	putOctal(b[100:108], uint64(e.mode)&0o7777)
	putOctal(b[108:116], fits(uint64(e.uid), ustarMaxID))
	putOctal(b[116:124], fits(uint64(e.gid), ustarMaxID))
	putOctal(b[124:136], fits(e.size, ustarMax12))
	if e.mtime >= 0 {
		putOctal(b[136:148], fits(uint64(e.mtime), ustarMax12))
	} else {
		putOctal(b[136:148], 0)
	}
	b[156] = e.typ
	copy(b[157:257], cut(ascii(e.link), ustarName))
	copy(b[257:], "ustar\x0000")
	putOctal(b[329:337], uint64(e.major))
	putOctal(b[337:345], uint64(e.minor))
	copy(b[148:156], "        ")
	sum := uint64(0)
	for _, c := range b {
		sum += uint64(c)
	}
	putOctal(b[148:155], sum)
	return b
}

// putOctal fills a field with zero-padded octal digits and a NUL.
func putOctal(b []byte, v uint64) {
	n := len(b) - 1
	b[n] = 0
	for i := n - 1; i >= 0; i-- {
		b[i] = '0' + byte(v&7)
		v >>= 3
	}
}

// fits is v, or 0 if a field ends before limit: a PAX record then has the value.
func fits(v, limit uint64) uint64 {
	if v >= limit {
		return 0
	}
	return v
}

func cut(s string, n int) string { return s[:min(len(s), n)] }

// ascii replaces what the portable header fields don't carry.
func ascii(s string) string {
	if isASCII(s) {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if c == 0 || c >= 0x80 {
			b[i] = '_'
		}
	}
	return string(b)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] == 0 || s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// splitName divides a path between the prefix and name fields.
func splitName(s string) (prefix, name string, ok bool) {
	if !isASCII(s) {
		return "", "", false
	}
	if len(s) <= ustarName {
		return "", s, true
	}
	for i := min(len(s)-2, ustarPrefix); i > 0; i-- {
		if s[i] == '/' {
			return s[:i], s[i+1:], len(s)-i-1 <= ustarName
		}
	}
	return "", "", false
}

// paxName names the extended header of an entry; readers ignore it.
func paxName(name string) string {
	dir, base := path.Split(strings.TrimSuffix(name, "/"))
	return cut(path.Join(ascii(dir), "PaxHeaders.0", ascii(base)), ustarName)
}

// paxRecords encodes what a ustar header of e can't carry, sorted by key.
func paxRecords(e *tarEntry) ([]byte, error) {
	m := map[string]string{}
	if _, _, ok := splitName(e.name); !ok {
		m["path"] = e.name
	}
	if len(e.link) > ustarName || !isASCII(e.link) {
		m["linkpath"] = e.link
	}
	if e.size >= ustarMax12 {
		m["size"] = strconv.FormatUint(e.size, 10)
	}
	if e.uid >= ustarMaxID {
		m["uid"] = strconv.FormatUint(uint64(e.uid), 10)
	}
	if e.gid >= ustarMaxID {
		m["gid"] = strconv.FormatUint(uint64(e.gid), 10)
	}
	if e.mtime < 0 || e.mtime >= ustarMax12 || e.nsec != 0 {
		m["mtime"] = formatTime(e.mtime, e.nsec)
	}
	for _, x := range e.xattrs {
		if strings.Contains(x.name, "=") {
			return nil, fmt.Errorf("%w: a tar can't carry an xattr named %q", ErrSource, x.name)
		}
		m[xattrPAX+x.name] = string(x.value)
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var out []byte
	for _, k := range keys {
		out = append(out, paxRecord(k, m[k])...)
	}
	return out, nil
}

// paxRecord is "length key=value\n", where length counts itself.
func paxRecord(k, v string) string {
	size := len(k) + len(v) + 3 // blank, equals sign, newline
	n := size + len(strconv.Itoa(size))
	if len(strconv.Itoa(n)) > len(strconv.Itoa(size)) {
		n++
	}
	return strconv.Itoa(n) + " " + k + "=" + v + "\n"
}

// formatTime is the decimal form of a time, as parseTime reads it.
func formatTime(sec int64, nsec uint32) string {
	if nsec == 0 {
		return strconv.FormatInt(sec, 10)
	}
	sign := ""
	if sec < 0 {
		sign, sec, nsec = "-", -sec-1, 1e9-nsec
	}
	return strings.TrimRight(fmt.Sprintf("%s%d.%09d", sign, sec, nsec), "0")
}
