package rafs

// An Inode is one inode of an image: a small value that holds offsets into the
// bootstrap and no memory of its own.
type Inode struct {
	im    *Image
	ino   Ino
	off   uint64 // of the inode record
	size  uint64 // i_size; of symlinks, the length of the target
	body  uint64 // v5: chunk infos or symlink target; v6: end of record and xattrs
	xattr uint64 // of the xattr area, 0 if there is none
	mode  uint32
	nlink uint32
	first uint32 // v5: child index; v6: i_u
	count uint32 // v5: children or chunk infos; v6: bytes of the xattr area

	layout   uint8 // v6: V6Layout...
	extended bool  // v6: extended form
	holes    bool  // v5: chunks are found by file offset, not by number
}

// Attr is what stat(2) shows of an inode.
type Attr struct {
	Ino       Ino
	Mode      uint32 // with the type bits
	UID, GID  uint32 // as stored; see FlagExplicitUIDGID
	Nlink     uint32
	Rdev      uint32 // kernel's 32-bit encoding; 0 unless a device
	Size      uint64
	Blocks    uint64 // of 512 bytes
	Mtime     int64  // seconds
	MtimeNsec uint32 // below 10^9
}

// Inode reads the inode named ino.
func (im *Image) Inode(ino Ino) (Inode, error) {
	if im.version == V5 {
		return im.inodeV5(ino)
	}
	return im.inodeV6(ino)
}

// Ino gives the inode's number.
func (n *Inode) Ino() Ino { return n.ino }

// Mode gives the mode with its type bits.
func (n *Inode) Mode() uint32 { return n.mode }

// Size gives the bytes of a file's content, a symlink's target or a directory.
func (n *Inode) Size() uint64 { return n.size }

// Nlink gives the number of links.
func (n *Inode) Nlink() uint32 { return n.nlink }

// Offset gives the place of the inode's record in the bootstrap.
func (n *Inode) Offset() uint64 { return n.off }

// IsDir reports whether the inode is a directory.
func (n *Inode) IsDir() bool { return n.mode&ModeType == ModeDir }

// IsRegular reports whether the inode is a regular file.
func (n *Inode) IsRegular() bool { return n.mode&ModeType == ModeRegular }

// IsSymlink reports whether the inode is a symlink.
func (n *Inode) IsSymlink() bool { return n.mode&ModeType == ModeSymlink }

// IsDevice reports whether the inode is a character or block device.
func (n *Inode) IsDevice() bool {
	return n.mode&ModeType == ModeChar || n.mode&ModeType == ModeBlock
}

// Attr gives the inode's attributes as they are stored: mtime 0 is 0.
func (n *Inode) Attr() Attr {
	if n.im.version == V5 {
		return n.attrV5()
	}
	return n.attrV6()
}

// Lookup finds a child of a directory by binary search. "." and ".." are found
// as well. A missing name is ErrNotExist, itself.
func (n *Inode) Lookup(name []byte) (Ino, error) {
	if !n.IsDir() {
		return 0, ErrNotDir
	}
	switch string(name) {
	case ".":
		return n.ino, nil
	case "..":
		return n.Parent()
	}
	if n.im.version == V5 {
		return n.lookupV5(name)
	}
	return n.lookupV6(name)
}

// Parent gives the parent of a directory; the root's is the root.
func (n *Inode) Parent() (Ino, error) {
	if !n.IsDir() {
		return 0, ErrNotDir
	}
	if n.ino == n.im.root {
		return n.ino, nil
	}
	if n.im.version == V5 {
		return n.parentV5()
	}
	return n.parentV6()
}

// Symlink gives the target of a symlink: a view of the bootstrap if it is stored
// in one piece, else a copy.
func (n *Inode) Symlink() ([]byte, error) {
	if !n.IsSymlink() {
		return nil, ErrNotSymlink
	}
	if n.im.version == V5 {
		return n.im.bytesAt(n.body, n.size, "inode.symlink")
	}
	return n.symlinkV6()
}

// ChunkCount gives the number of chunks of a regular file, 0 for other types.
func (n *Inode) ChunkCount() uint64 {
	switch {
	case !n.IsRegular():
		return 0
	case n.im.version == V5:
		return uint64(n.count)
	}
	return ceilShift(n.size, n.im.chunkBits)
}
