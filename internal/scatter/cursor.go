package scatter

import "golang.org/x/sys/unix"

// MaxVectors is what one call takes (UIO_MAXIOV).
const MaxVectors = 1024

// A Cursor is a place in memory that lies in pieces.
type Cursor struct {
	parts [][]byte
	off   int // in parts[0]
}

// At returns a cursor at the beginning of parts.
func At(parts [][]byte) Cursor { return Cursor{parts: parts} }

// Skip moves n bytes on; false if there are fewer.
func (c *Cursor) Skip(n uint64) bool {
	for n > 0 {
		if len(c.parts) == 0 {
			return false
		}
		left := uint64(len(c.parts[0]) - c.off)
		if n < left {
			c.off += int(n)
			return true
		}
		n -= left
		c.parts, c.off = c.parts[1:], 0
	}
	return true
}

// Vectors appends the next pieces to iov, up to size bytes and until there are
// MaxVectors, and gives the bytes they hold. It does not move the cursor.
func (c *Cursor) Vectors(iov []unix.Iovec, size uint64) (_ []unix.Iovec, total uint64) {
	off := c.off
	for _, p := range c.parts {
		if total == size || len(iov) == MaxVectors {
			break
		}
		p = p[off:]
		off = 0
		if len(p) == 0 {
			continue
		}
		p = p[:min(uint64(len(p)), size-total)]
		iov = append(iov, vector(p))
		total += uint64(len(p))
	}
	return iov, total
}
