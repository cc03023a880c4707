package rafs

// inodeV6 reads the inode with a nid (section 2.8).
func (im *Image) inodeV6(ino Ino) (Inode, error) {
	if ino >= V6MaxNid {
		return Inode{}, corrupt(0, "nid", "%#x", uint64(ino))
	}
	off := im.meta + uint64(ino)*V6SlotSize
	b, err := im.bytesAt(off, V6CompactSize, "inode")
	if err != nil {
		return Inode{}, err
	}
	format := le16(b[V6InodeFormatAt:])
	n := Inode{
		im: im, ino: ino, off: off,
		mode:     uint32(le16(b[V6InodeModeAt:])),
		layout:   uint8(format >> 1 & 7),
		extended: format&V6FormatExtended != 0,
	}
	n.body = off + V6CompactSize
	if n.extended {
		if b, err = im.bytesAt(off, V6ExtendedSize, "inode"); err != nil {
			return Inode{}, err
		}
		n.body = off + V6ExtendedSize
		n.size, n.first, n.nlink = le64(b[V6ExtendedSizeAt:]), le32(b[V6ExtendedUAt:]), le32(b[V6ExtendedNlinkAt:])
	} else {
		n.size, n.first, n.nlink = uint64(le32(b[V6CompactSizeAt:])), le32(b[V6CompactUAt:]), uint32(le16(b[V6CompactNlinkAt:]))
	}
	if count := le16(b[V6InodeXattrICountAt:]); count > 0 {
		n.xattr = n.body
		n.count = V6XattrHeaderSize + V6XattrEntrySize*uint32(count-1)
		n.body += uint64(n.count)
	}
	switch {
	case format > 0xf:
		return Inode{}, corrupt(off+V6InodeFormatAt, "inode.format", "unknown bits in %#x", format)
	case !validType(n.mode):
		return Inode{}, corrupt(off+V6InodeModeAt, "inode.mode", "%#o", n.mode)
	case n.nlink == 0:
		return Inode{}, corrupt(off, "inode.nlink", "0")
	case n.size > 1<<62:
		return Inode{}, corrupt(off, "inode.size", "%d", n.size)
	case !im.holds(n.body, 0):
		return Inode{}, corrupt(off+V6InodeXattrICountAt, "inode.xattr_icount", "%d bytes run past the end", n.count)
	}
	return n, im.bodyV6(&n)
}

// bodyV6 checks that the data an inode points to is in the file: blocks of
// directories and symlinks, chunk addresses of files.
func (im *Image) bodyV6(n *Inode) error {
	switch n.mode & ModeType {
	case ModeRegular:
		return im.chunksV6(n)
	case ModeDir:
	case ModeSymlink:
		if n.size == 0 || n.size > V6MaxSymlink {
			return corrupt(n.off, "inode.size", "%d bytes of symlink", n.size)
		}
	default:
		return nil
	}
	start := uint64(n.first) << im.blockBits
	tail := n.size & uint64(im.BlockSize()-1)
	ok := false
	switch n.layout {
	case V6LayoutFlatPlain:
		ok = n.size == 0 || im.holds(start, n.size)
	case V6LayoutFlatInline:
		ok = n.size == 0 || tail != 0 && im.holds(n.body, tail) && (n.size == tail || im.holds(start, n.size-tail))
	default:
		return unsupported(n.off+V6InodeFormatAt, "inode.format", "data layout %d of mode %#o", n.layout, n.mode)
	}
	if !ok {
		return corrupt(n.off, "inode.size", "%d bytes in layout %d at block %#x are not in the file", n.size, n.layout, n.first)
	}
	return nil
}

// chunksV6 checks a regular file's chunk addresses (section 2.9).
func (im *Image) chunksV6(n *Inode) error {
	if n.size == 0 {
		return nil
	}
	if n.layout != V6LayoutChunkBased {
		return unsupported(n.off+V6InodeFormatAt, "inode.format", "data layout %d of a regular file", n.layout)
	}
	if n.first&^V6ChunkFormatKnown != 0 || n.first&V6ChunkIndexes == 0 {
		return unsupported(n.off, "inode.i_u", "chunk format %#x", n.first)
	}
	n.body = alignUp(n.body, V6ChunkAddrSize)
	count := ceilShift(n.size, im.chunkBits)
	if count > im.Size() || !im.holds(n.body, count*V6ChunkAddrSize) {
		return corrupt(n.off, "inode.size", "%d chunk addresses at %#x run past the end", count, n.body)
	}
	return nil
}

func (n *Inode) attrV6() Attr {
	a := Attr{
		Ino: n.ino, Mode: n.mode, Nlink: n.nlink, Size: n.size,
		Blocks: ceilShift(n.size, 9),
	}
	if n.extended {
		b := n.im.data[n.off:][:V6ExtendedSize]
		a.UID, a.GID = le32(b[V6ExtendedUIDAt:]), le32(b[V6ExtendedGIDAt:])
		a.Mtime = int64(le64(b[V6ExtendedMtimeAt:]))
		a.MtimeNsec = min(le32(b[V6ExtendedNsecAt:]), 999_999_999)
	} else {
		b := n.im.data[n.off:][:V6CompactSize]
		a.UID, a.GID = uint32(le16(b[V6CompactUIDAt:])), uint32(le16(b[V6CompactGIDAt:]))
	}
	if n.IsDevice() {
		a.Rdev = n.first
	}
	return a
}

// block gives block k of the data of a directory or symlink; the last one ends
// with the data.
func (n *Inode) block(k uint64) []byte {
	bits := n.im.blockBits
	size := uint64(n.im.BlockSize())
	start := k << bits
	left := n.size - start
	if left >= size {
		off := (uint64(n.first) + k) << bits
		return n.im.data[off:][:size:size]
	}
	off := (uint64(n.first) + k) << bits
	if n.layout == V6LayoutFlatInline {
		off = n.body
	}
	return n.im.data[off:][:left:left]
}

func (n *Inode) symlinkV6() ([]byte, error) {
	size := uint64(n.im.BlockSize())
	if n.layout == V6LayoutFlatPlain {
		return n.im.bytesAt(uint64(n.first)<<n.im.blockBits, n.size, "inode.symlink")
	}
	if n.size <= size {
		return n.block(0), nil
	}
	target := make([]byte, 0, n.size)
	for k := range ceilShift(n.size, n.im.blockBits) {
		target = append(target, n.block(k)...)
	}
	return target, nil
}
