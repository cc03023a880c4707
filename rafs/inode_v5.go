package rafs

import "bytes"

// v5Inode is an inode record as stored (section 1.6).
type v5Inode [V5InodeSize]byte

func (r *v5Inode) parent() uint64      { return le64(r[V5InodeParentAt:]) }
func (r *v5Inode) ino() uint64         { return le64(r[V5InodeInoAt:]) }
func (r *v5Inode) mode() uint32        { return le32(r[V5InodeModeAt:]) }
func (r *v5Inode) size() uint64        { return le64(r[V5InodeSizeAt:]) }
func (r *v5Inode) flags() uint64       { return le64(r[V5InodeFlagsAt:]) }
func (r *v5Inode) nlink() uint32       { return le32(r[V5InodeNlinkAt:]) }
func (r *v5Inode) childIndex() uint32  { return le32(r[V5InodeChildIndexAt:]) }
func (r *v5Inode) childCount() uint32  { return le32(r[V5InodeChildCountAt:]) }
func (r *v5Inode) nameSize() uint16    { return le16(r[V5InodeNameSizeAt:]) }
func (r *v5Inode) symlinkSize() uint16 { return le16(r[V5InodeSymlinkSizeAt:]) }
func (r *v5Inode) digest() Digest      { return Digest(r[V5InodeDigestAt:]) }

// recordV5 gives the record with a table index (from 1), and its offset.
func (im *Image) recordV5(index uint64) (*v5Inode, uint64, error) {
	if index-1 >= im.names {
		return nil, 0, corrupt(0, "ino", "%d of %d", index, im.names)
	}
	at := im.inodeTable.off + (index-1)*V5InodeEntrySize
	entry := uint64(le32(im.data[at:]))
	if entry <= V5SuperSize>>V5InodeShift || entry >= V5MaxInodeEntry {
		return nil, 0, corrupt(at, "inode_table.entry", "%#x", entry)
	}
	off := entry << V5InodeShift
	b, err := im.bytesAt(off, V5InodeSize, "inode")
	if err != nil {
		return nil, 0, err
	}
	return (*v5Inode)(b), off, nil
}

// inodeV5 reads the inode whose table index and i_ino is ino (section 1.12).
func (im *Image) inodeV5(ino Ino) (Inode, error) {
	r, off, err := im.recordV5(uint64(ino))
	if err != nil {
		return Inode{}, err
	}
	if ino == V5RootIno && r.nameSize() == 0 && im.obsoleteV5(r) {
		return Inode{}, unsupported(off, "inode", "pre-release RAFS v5 inode layout; convert the image again with a current builder")
	}
	if got := r.ino(); got != uint64(ino) {
		return Inode{}, corrupt(off+V5InodeInoAt, "inode.ino", "%d at index %d", got, ino)
	}
	return im.parseV5(r, off, uint64(ino))
}

// obsoleteV5 recognises the record of section 1.13, made before the format was
// settled: no digest or uid flag, and mode where uid and gid are now.
func (im *Image) obsoleteV5(r *v5Inode) bool {
	const modeAt, nlinkAt = 52, 64
	return im.flags&(FlagsHash|FlagExplicitUIDGID) == 0 &&
		le32(r[modeAt:])&ModeType == ModeDir && le64(r[nlinkAt:]) != 0
}

// parseV5 checks a record and the sizes of what follows it. The index differs
// from i_ino for further hard links, whose parent may come after i_ino.
func (im *Image) parseV5(r *v5Inode, off, index uint64) (Inode, error) {
	n := Inode{
		im: im, ino: Ino(r.ino()), off: off,
		size: r.size(), mode: r.mode(), nlink: r.nlink(),
		first: r.childIndex(), count: r.childCount(),
		holes: r.flags()&V5InodeHasHole != 0,
	}
	switch name := r.nameSize(); {
	case name == 0 || name > V5MaxNameSize:
		return Inode{}, corrupt(off+V5InodeNameSizeAt, "inode.name_size", "%d", name)
	case n.nlink == 0:
		return Inode{}, corrupt(off+V5InodeNlinkAt, "inode.nlink", "0")
	case !validType(n.mode):
		return Inode{}, corrupt(off+V5InodeModeAt, "inode.mode", "%#o", n.mode)
	case index == V5RootIno && r.parent() != 0, index != V5RootIno && r.parent()-1 >= index-1:
		return Inode{}, corrupt(off+V5InodeParentAt, "inode.parent", "%d of inode %d", r.parent(), index)
	case n.size > 1<<62:
		return Inode{}, corrupt(off+V5InodeSizeAt, "inode.size", "%d", n.size)
	}
	return n, im.bodyV5(&n, r)
}

// bodyV5 finds the parts after the record: name, target, xattrs, chunk infos.
func (im *Image) bodyV5(n *Inode, r *v5Inode) error {
	p := n.off + V5InodeSize + alignUp(uint64(r.nameSize()), V5Align)
	if target := uint64(r.symlinkSize()); n.IsSymlink() {
		if target == 0 {
			return corrupt(n.off+V5InodeSymlinkSizeAt, "inode.symlink_size", "0")
		}
		n.body, n.size = p, target
		if !im.holds(p, target) {
			return corrupt(p, "inode.symlink", "%d bytes run past the end", target)
		}
	}
	p += alignUp(uint64(r.symlinkSize()), V5Align)
	if r.flags()&V5InodeXattr != 0 {
		b, err := im.bytesAt(p, V5XattrHeaderSize, "inode.xattr")
		if err != nil {
			return err
		}
		size := le64(b)
		if size > MaxXattrArea || !im.holds(p+V5XattrHeaderSize, size) {
			return corrupt(p, "inode.xattr.size", "%d", size)
		}
		n.xattr = p
		p += V5XattrHeaderSize + alignUp(size, V5Align)
	}
	count := uint64(n.count)
	switch n.mode & ModeType {
	case ModeRegular:
		n.body = p
		if !im.holds(p, count*ChunkInfoSize) {
			return corrupt(n.off+V5InodeChildCountAt, "inode.child_count", "%d chunk infos at %#x run past the end", count, p)
		}
	case ModeDir:
		first := uint64(n.first)
		if count > 0 && (first <= uint64(n.ino) || count >= im.names || first+count-1 > im.names) {
			return corrupt(n.off+V5InodeChildIndexAt, "inode.child_index", "children %d+%d of directory %d", first, count, n.ino)
		}
	default:
		n.count = 0
	}
	return nil
}

func (n *Inode) recV5() *v5Inode { return (*v5Inode)(n.im.data[n.off:]) }

func (n *Inode) attrV5() Attr {
	r := n.recV5()
	a := Attr{
		Ino: n.ino, Mode: n.mode, Nlink: n.nlink, Size: n.size,
		UID: le32(r[V5InodeUIDAt:]), GID: le32(r[V5InodeGIDAt:]),
		Blocks:    le64(r[V5InodeBlocksAt:]),
		Mtime:     int64(le64(r[V5InodeMtimeAt:])),
		MtimeNsec: min(le32(r[V5InodeMtimeNsecAt:]), 999_999_999),
	}
	if n.IsDevice() {
		a.Rdev = le32(r[V5InodeRdevAt:])
	}
	if a.Blocks == 0 || a.Blocks > 1<<53 {
		a.Blocks = ceilShift(n.size, 9)
	}
	return a
}

func (n *Inode) parentV5() (Ino, error) { return Ino(n.recV5().parent()), nil }

// Digest gives the Merkle digest stored for a v5 inode (section 1.10); false for v6.
func (n *Inode) Digest() (Digest, bool) {
	if n.im.version != V5 {
		return Digest{}, false
	}
	return n.recV5().digest(), true
}

// childV5 gives the record with a child index, and its name. Where i_ino differs
// from the index the record is a further hard link.
func (im *Image) childV5(index uint64) (*v5Inode, []byte, error) {
	r, off, err := im.recordV5(index)
	if err != nil {
		return nil, nil, err
	}
	size := uint64(r.nameSize())
	if size == 0 || size > V5MaxNameSize {
		return nil, nil, corrupt(off+V5InodeNameSizeAt, "inode.name_size", "%d", size)
	}
	name, err := im.bytesAt(off+V5InodeSize, size, "inode.name")
	return r, name, err
}

// linkV5 gives the inode number that the record with a child index stands for.
func (im *Image) linkV5(r *v5Inode, index uint64) (Ino, error) {
	ino := r.ino()
	if ino == index {
		return Ino(ino), nil
	}
	if ino-1 < index-1 && r.mode()&ModeType == ModeRegular {
		first, _, err := im.recordV5(ino)
		if err != nil {
			return 0, err
		}
		if first.mode()&ModeType == ModeRegular {
			return Ino(ino), nil
		}
	}
	return 0, corrupt(0, "inode.ino", "%d at index %d is no hard link to a file", ino, index)
}

func (n *Inode) lookupV5(name []byte) (Ino, error) {
	lo, hi := uint64(n.first), uint64(n.first)+uint64(n.count)
	for lo < hi {
		mid := lo + (hi-lo)/2
		r, got, err := n.im.childV5(mid)
		if err != nil {
			return 0, err
		}
		switch c := bytes.Compare(got, name); {
		case c == 0:
			return n.im.linkV5(r, mid)
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return 0, ErrNotExist
}
