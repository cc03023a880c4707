package passthrough

import "encoding/binary"

// Kinds of file handles in which the inode number is known (kernel: enum fid_type and
// the file systems' export.c).
const (
	kindIno32 = 0x01 // ext4 and most others: inode, generation; tmpfs: generation, inode
	kindIno64 = 0x81 // xfs: inode, generation
	kindBtrfs = 0x4d // object, root, generation
)

// inode reads the inode number out of a handle, where it is known to be.
func (h *fileHandle) inode() (ino uint64, ok bool) {
	le := binary.NativeEndian
	switch {
	case h.kind == kindIno32 && h.size == 8:
		return uint64(le.Uint32(h.b[0:])), true
	case h.kind == kindIno32 && h.size == 12:
		return uint64(le.Uint32(h.b[4:])) | uint64(le.Uint32(h.b[8:]))<<32, true
	case h.kind == kindIno64 && h.size >= 8, h.kind == kindBtrfs && h.size >= 8:
		return le.Uint64(h.b[0:]), true
	}
	return 0, false
}

// tells reports whether the handle is of inode ino. It has to be asked where handle and
// inode number were found by name one after the other: the name may have been
// another file's meanwhile.
func (h *fileHandle) tells(ino uint64) bool {
	n, ok := h.inode()
	return ok && (n == ino || h.size == 8 && uint32(n) == uint32(ino))
}
