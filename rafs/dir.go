package rafs

import "bytes"

// A Dirent is one entry of a directory.
type Dirent struct {
	Name   []byte // view of the bootstrap
	Ino    Ino
	Type   uint8  // DT_ value
	Cursor uint64 // hand it to Dir to go on after this entry
}

// Cursors: 0 is the start, 1 is after ".", 2 after "..". From there v5 counts
// children; v6 adds the place of the next entry, block << slotBits | slot.
const (
	cursorDot = iota
	cursorDotDot
	cursorFirst
)

// A DirCursor walks a directory. It is a value and holds no memory of its own;
// it is not for concurrent use.
type DirCursor struct {
	n   Inode
	pos uint64

	// v6: the block that pos is in, and its number of entries; nil if not read.
	blk   []byte
	count int
}

var (
	nameDot    = []byte(".")
	nameDotDot = []byte("..")
)

// Dir starts a walk at the beginning (cursor 0) or after the entry whose Cursor
// is given. "." and ".." come first, then the children in the order of their
// names. A cursor that no entry had ends the walk or starts it somewhere; it
// does no harm.
func (n *Inode) Dir(cursor uint64) (DirCursor, error) {
	if !n.IsDir() {
		return DirCursor{}, ErrNotDir
	}
	return DirCursor{n: *n, pos: cursor}, nil
}

// Next stores the next entry in d. It returns false at the end. After an error
// the walk can't go on.
func (c *DirCursor) Next(d *Dirent) (bool, error) {
	switch c.pos {
	case cursorDot:
		*d = Dirent{Name: nameDot, Ino: c.n.ino, Type: DTDir, Cursor: cursorDotDot}
	case cursorDotDot:
		parent, err := c.n.Parent()
		if err != nil {
			return false, err
		}
		*d = Dirent{Name: nameDotDot, Ino: parent, Type: DTDir, Cursor: cursorFirst}
	default:
		if c.n.im.version == V5 {
			return c.nextV5(d)
		}
		return c.nextV6(d)
	}
	c.pos++
	return true, nil
}

func (c *DirCursor) nextV5(d *Dirent) (bool, error) {
	k := c.pos - cursorFirst
	if k >= uint64(c.n.count) {
		return false, nil
	}
	index := uint64(c.n.first) + k
	r, name, err := c.n.im.childV5(index)
	if err != nil {
		return false, err
	}
	if why := badName(name); why != "" {
		return false, corrupt(0, "inode.name", "child %d of inode %d %s", k, c.n.ino, why)
	}
	ino, err := c.n.im.linkV5(r, index)
	if err != nil {
		return false, err
	}
	c.pos++
	*d = Dirent{Name: name, Ino: ino, Type: modeDT(r.mode()), Cursor: c.pos}
	return true, nil
}

// badName says what is wrong with the name of a child, or "".
func badName(name []byte) string {
	switch {
	case len(name) == 0:
		return "is empty"
	case len(name) > MaxNameLen:
		return "is longer than 255 bytes"
	case bytes.IndexByte(name, '/') >= 0:
		return "contains a slash"
	case bytes.IndexByte(name, 0) >= 0:
		return "contains a zero byte"
	case isDots(name):
		return "is . or .."
	}
	return ""
}

// isDots reports whether name is "." or "..".
func isDots(name []byte) bool {
	return len(name) <= 2 && len(name) > 0 && name[0] == '.' && name[len(name)-1] == '.'
}
