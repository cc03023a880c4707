package rafs

import "bytes"

// Directory data of v6 is a run of self-contained blocks (section 2.10):
//
//	|dirent 0|dirent 1|..|dirent n-1|name 0|name 1|..|name n-1|zero..|
//	 nid nameoff type     12 bytes each    no separators

// slotBits is the width of an entry's number inside its block in a cursor.
func (n *Inode) slotBits() uint8 { return n.im.blockBits - 3 }

// dirBlock gives block k of a directory and the number of its entries.
func (n *Inode) dirBlock(k uint64) ([]byte, int, error) {
	b := n.block(k)
	if len(b) >= V6DirentSize {
		first := int(le16(b[V6DirentNameOffAt:]))
		if first >= V6DirentSize && first < len(b) && first%V6DirentSize == 0 {
			return b, first / V6DirentSize, nil
		}
	}
	return nil, 0, corrupt(n.off, "dirent.nameoff", "block %d of the directory has no valid first name", k)
}

// direntName gives the name of entry i of n in a block, nil if it is malformed.
func direntName(b []byte, i, n int) []byte {
	start := int(le16(b[i*V6DirentSize+V6DirentNameOffAt:]))
	end := len(b)
	if i+1 < n {
		end = int(le16(b[(i+1)*V6DirentSize+V6DirentNameOffAt:]))
	}
	if start < n*V6DirentSize || start >= end || end > len(b) {
		return nil
	}
	name := b[start:end:end]
	if i+1 == n {
		if z := bytes.IndexByte(name, 0); z >= 0 {
			name = name[:z:z]
		}
	}
	if len(name) == 0 {
		return nil
	}
	return name
}

func (n *Inode) badDirent(k uint64, i int) error {
	return corrupt(n.off, "dirent.nameoff", "entry %d in block %d of the directory", i, k)
}

func (n *Inode) lookupV6(name []byte) (Ino, error) {
	// Find the last block whose first name is not above the one sought.
	lo, hi := uint64(0), ceilShift(n.size, n.im.blockBits)
	for lo < hi {
		mid := lo + (hi-lo)/2
		b, count, err := n.dirBlock(mid)
		if err != nil {
			return 0, err
		}
		first := direntName(b, 0, count)
		if first == nil {
			return 0, n.badDirent(mid, 0)
		}
		if bytes.Compare(first, name) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return 0, ErrNotExist
	}
	b, count, err := n.dirBlock(lo - 1)
	if err != nil {
		return 0, err
	}
	i, j := 0, count
	for i < j {
		mid := int(uint(i+j) / 2)
		got := direntName(b, mid, count)
		if got == nil {
			return 0, n.badDirent(lo-1, mid)
		}
		switch c := bytes.Compare(got, name); {
		case c == 0:
			return Ino(le64(b[mid*V6DirentSize:])), nil
		case c < 0:
			i = mid + 1
		default:
			j = mid
		}
	}
	return 0, ErrNotExist
}

func (n *Inode) parentV6() (Ino, error) {
	ino, err := n.lookupV6(nameDotDot)
	if err == ErrNotExist {
		return 0, corrupt(n.off, "dirent", "directory without ..")
	}
	return ino, err
}

// nextV6 goes on at c.pos, skipping the stored dots.
func (c *DirCursor) nextV6(d *Dirent) (bool, error) {
	slotBits := c.n.slotBits()
	for {
		at := c.pos - cursorFirst
		k, i := at>>slotBits, int(at&(1<<slotBits-1))
		if k >= ceilShift(c.n.size, c.n.im.blockBits) {
			return false, nil
		}
		if c.blk == nil {
			var err error
			if c.blk, c.count, err = c.n.dirBlock(k); err != nil {
				return false, err
			}
		}
		if i >= c.count {
			c.pos, c.blk = (k+1)<<slotBits+cursorFirst, nil
			continue
		}
		name := direntName(c.blk, i, c.count)
		if name == nil {
			return false, c.n.badDirent(k, i)
		}
		c.pos++
		if isDots(name) {
			continue
		}
		if why := badName(name); why != "" {
			return false, corrupt(c.n.off, "dirent.name", "entry %d in block %d %s", i, k, why)
		}
		e := c.blk[i*V6DirentSize:]
		*d = Dirent{Name: name, Ino: Ino(le64(e)), Type: direntDT(e[V6DirentTypeAt]), Cursor: c.pos}
		return true, nil
	}
}

var direntTypes = [...]uint8{
	V6FTUnknown: DTUnknown,
	V6FTRegular: DTRegular,
	V6FTDir:     DTDir,
	V6FTChar:    DTChar,
	V6FTBlock:   DTBlock,
	V6FTFIFO:    DTFIFO,
	V6FTSocket:  DTSocket,
	V6FTSymlink: DTSymlink,
}

// direntDT translates an EROFS file type to a DT_ value.
func direntDT(t uint8) uint8 {
	if int(t) < len(direntTypes) {
		return direntTypes[t]
	}
	return DTUnknown
}
