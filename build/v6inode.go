package build

import (
	"fmt"
	"slices"
	"strings"

	"vrafs/rafs"
)

// A dirent is one entry of a directory with its dots.
type dirent struct {
	name string
	in   *inode
}

// appendDirents appends the entries of d in the order of their names, dots
// included: names may sort before them (rafs.md 2.10).
func appendDirents(list []dirent, d *node) []dirent {
	up := d
	if d.parent != nil {
		up = d.parent
	}
	dots := []dirent{{".", d.in}, {"..", up.in}}
	for _, k := range d.kids {
		for len(dots) > 0 && dots[0].name < k.name {
			list, dots = append(list, dots[0]), dots[1:]
		}
		list = append(list, dirent{k.name, k.in})
	}
	return append(list, dots...)
}

// direntBytes is the size of a directory's data: no entry crosses a block.
func direntBytes(list []dirent, block uint64) uint64 {
	full, used := uint64(0), uint64(0)
	for i := range list {
		need := uint64(rafs.V6DirentSize + len(list[i].name))
		if used+need > block {
			full, used = full+block, 0
		}
		used += need
	}
	return full + used
}

// putDirents writes the blocks of a directory into out, which is zero and as
// long as direntBytes says.
func putDirents(out []byte, list []dirent, block int) {
	for len(list) > 0 {
		n, used := 0, 0
		for ; n < len(list) && used+rafs.V6DirentSize+len(list[n].name) <= block; n++ {
			used += rafs.V6DirentSize + len(list[n].name)
		}
		nameOff := n * rafs.V6DirentSize
		for i := range list[:n] {
			e := out[i*rafs.V6DirentSize:][:rafs.V6DirentSize]
			le.PutUint64(e[rafs.V6DirentNidAt:], list[i].in.nid)
			le.PutUint16(e[rafs.V6DirentNameOffAt:], uint16(nameOff))
			e[rafs.V6DirentTypeAt] = direntType(list[i].in.mode)
			nameOff += copy(out[nameOff:], list[i].name)
		}
		out, list = out[min(block, len(out)):], list[n:]
	}
}

func direntType(mode uint32) byte {
	switch mode & rafs.ModeType {
	case rafs.ModeRegular:
		return rafs.V6FTRegular
	case rafs.ModeDir:
		return rafs.V6FTDir
	case rafs.ModeChar:
		return rafs.V6FTChar
	case rafs.ModeBlock:
		return rafs.V6FTBlock
	case rafs.ModeFIFO:
		return rafs.V6FTFIFO
	case rafs.ModeSocket:
		return rafs.V6FTSocket
	case rafs.ModeSymlink:
		return rafs.V6FTSymlink
	}
	return rafs.V6FTUnknown
}

// place allots the inode of n, at its first name, and its data (rafs.md 2.11).
func (l *v6Layout) place(n *node) error {
	if err := checkName(n); err != nil {
		return err
	}
	if !n.first() {
		return nil
	}
	head := rafs.V6ExtendedSize + xattrArea(n.in.xattrs)
	if n.in.isLink() && len(n.in.target) > rafs.V6MaxSymlink {
		return fmt.Errorf("%w: %q: symlink target of %d bytes, v6 holds %d", ErrSource, n.path(), len(n.in.target), rafs.V6MaxSymlink)
	}
	if head > rafs.V6ExtendedSize+maxXattrArea {
		return fmt.Errorf("%w: %q: %d bytes of xattrs, v6 holds %d", ErrSource, n.path(), head-rafs.V6ExtendedSize, maxXattrArea)
	}
	var off uint64
	switch {
	case n.in.isReg():
		off = l.take(alignUp(head, rafs.V6ChunkAddrSize) + rafs.V6ChunkAddrSize*uint64(len(n.in.chunks)))
	case n.in.isDir():
		l.ents = appendDirents(l.ents[:0], n)
		n.in.size = direntBytes(l.ents, l.block)
		off = l.placeFlat(n.in, head)
	case n.in.isLink():
		off = l.placeFlat(n.in, head)
	default:
		off = l.take(head)
	}
	n.in.nid = off / rafs.V6SlotSize
	return nil
}

// take finds a place for size bytes that may cross blocks.
func (l *v6Layout) take(size uint64) uint64 {
	if off, ok := l.room.take(size); ok {
		return off
	}
	off := l.next
	l.next = alignUp(off+size, rafs.V6SlotSize)
	return off
}

// inline reports whether the last part of the data of in follows its inode,
// whose head has the given size.
func (l *v6Layout) inline(in *inode, head uint64) bool {
	tail := in.size % l.block
	return tail != 0 && head+tail <= l.block
}

// placeFlat allots a directory or symlink: the inode with its inline tail in one
// block, full blocks behind.
func (l *v6Layout) placeFlat(in *inode, head uint64) uint64 {
	full := in.size
	var off uint64
	if l.inline(in, head) {
		tail := in.size % l.block
		full -= tail
		off = l.takeWhole(head + tail)
	} else {
		off = l.take(head)
	}
	if full > 0 {
		at := l.nextBlock()
		l.data[in] = at
		l.next = at + alignUp(full, l.block)
	}
	return off
}

// takeWhole finds a place for size bytes inside one block.
func (l *v6Layout) takeWhole(size uint64) uint64 {
	if off, ok := l.room.take(size); ok {
		return off
	}
	if l.next%l.block+size > l.block {
		l.next = l.nextBlock()
	}
	off := l.next
	l.next = alignUp(off+size, rafs.V6SlotSize)
	return off
}

// nextBlock is the next start of a block; what is skipped stays usable.
func (l *v6Layout) nextBlock() uint64 {
	at := alignUp(l.next, l.block)
	l.room.add(l.next, at)
	return at
}

// putInode writes the inode of n with everything that belongs to it.
func (l *v6Layout) putInode(out []byte, n *node) {
	in := n.in
	head := rafs.V6ExtendedSize + xattrArea(in.xattrs)
	off := l.meta + in.nid*rafs.V6SlotSize
	layout, u := uint16(rafs.V6LayoutFlatPlain), uint32(0)
	switch {
	case in.isReg():
		layout, u = rafs.V6LayoutChunkBased, rafs.V6ChunkIndexes|uint32(l.chunkBits(in))
		l.putAddresses(out[off+alignUp(head, rafs.V6ChunkAddrSize):], in)
	case in.isDir() || in.isLink():
		layout, u = l.putFlat(out, n, off+head, l.inline(in, head))
	case in.isDev():
		u = in.rdev
	}
	e := out[off:]
	le.PutUint16(e[rafs.V6InodeFormatAt:], rafs.V6FormatExtended|layout<<1)
	le.PutUint16(e[rafs.V6InodeModeAt:], uint16(in.mode))
	le.PutUint64(e[rafs.V6ExtendedSizeAt:], in.size)
	le.PutUint32(e[rafs.V6ExtendedUAt:], u)
	le.PutUint32(e[rafs.V6ExtendedInoAt:], in.ino)
	uid, gid := l.m.owner(in)
	le.PutUint32(e[rafs.V6ExtendedUIDAt:], uid)
	le.PutUint32(e[rafs.V6ExtendedGIDAt:], gid)
	le.PutUint64(e[rafs.V6ExtendedMtimeAt:], uint64(in.mtime))
	le.PutUint32(e[rafs.V6ExtendedNsecAt:], in.mtimeNsec)
	le.PutUint32(e[rafs.V6ExtendedNlinkAt:], in.nlink)
	if len(in.xattrs) > 0 {
		le.PutUint16(e[rafs.V6InodeXattrICountAt:], uint16((head-rafs.V6ExtendedSize-rafs.V6XattrHeaderSize)/rafs.V6XattrAlign+1))
		putXattrs(e[rafs.V6ExtendedSize+rafs.V6XattrHeaderSize:], in.xattrs)
	}
}

// putFlat writes a directory or a symlink target; tail is the place behind the inode.
func (l *v6Layout) putFlat(out []byte, n *node, tail uint64, inline bool) (layout uint16, u uint32) {
	l.buf = slices.Grow(l.buf[:0], int(n.in.size))[:n.in.size]
	if n.in.isDir() {
		clear(l.buf)
		l.ents = appendDirents(l.ents[:0], n)
		putDirents(l.buf, l.ents, int(l.block))
	} else {
		copy(l.buf, n.in.target)
	}
	full := l.buf
	if inline {
		cut := uint64(len(l.buf)) &^ (l.block - 1)
		copy(out[tail:], l.buf[cut:])
		full = l.buf[:cut]
		layout = rafs.V6LayoutFlatInline
	}
	if at, ok := l.data[n.in]; ok {
		copy(out[l.meta+at:], full)
		u = uint32((l.meta + at) >> l.blockBits)
	}
	return layout, u
}

// chunkBits is the chunk size the kernel is told: the image's, or for a file
// whose chunks lie back to back one that covers it all (rafs.md 2.9).
func (l *v6Layout) chunkBits(in *inode) uint8 {
	size := uint64(l.m.chunkSize)
	if len(in.chunks) > 1 {
		first := &l.m.chunks[in.chunks[0]]
		for k, id := range in.chunks {
			c := &l.m.chunks[id]
			if c.Blob != first.Blob || c.Off != first.Off+uint64(k)*size {
				return log2(size) - l.blockBits
			}
		}
		for size < in.size && log2(size)-l.blockBits < rafs.V6ChunkBitsMask {
			size <<= 1
		}
	}
	return log2(size) - l.blockBits
}

// putAddresses writes the chunk addresses of a regular file.
func (l *v6Layout) putAddresses(out []byte, in *inode) {
	for k, id := range in.chunks {
		c := &l.m.chunks[id]
		a := out[k*rafs.V6ChunkAddrSize:][:rafs.V6ChunkAddrSize]
		le.PutUint16(a[rafs.V6ChunkAddrIndexAt:], uint16(c.Index))
		a[rafs.V6ChunkAddrDeviceAt] = byte(c.Blob + 1)
		a[rafs.V6ChunkAddrHighAt] = byte(c.Index >> 16)
		le.PutUint32(a[rafs.V6ChunkAddrBlkAt:], uint32(c.Off>>l.blockBits))
	}
}

// maxXattrArea is what the 16-bit count of an inode can say.
const maxXattrArea = rafs.V6XattrHeaderSize + rafs.V6XattrAlign*(1<<16-2)

// xattrArea is the size of the xattrs behind an inode (rafs.md 2.12).
func xattrArea(xs []xattr) uint64 {
	if len(xs) == 0 {
		return 0
	}
	n := uint64(rafs.V6XattrHeaderSize)
	for _, x := range xs {
		_, suffix, _ := xattrIndex(x.name)
		n += alignUp(uint64(rafs.V6XattrEntrySize+len(suffix)+len(x.value)), rafs.V6XattrAlign)
	}
	return n
}

func putXattrs(out []byte, xs []xattr) {
	for _, x := range xs {
		index, suffix, _ := xattrIndex(x.name)
		out[rafs.V6XattrNameLenAt] = byte(len(suffix))
		out[rafs.V6XattrNameIndexAt] = index
		le.PutUint16(out[rafs.V6XattrValueSizeAt:], uint16(len(x.value)))
		n := copy(out[rafs.V6XattrEntrySize:], suffix)
		copy(out[rafs.V6XattrEntrySize+n:], x.value)
		out = out[alignUp(uint64(rafs.V6XattrEntrySize+len(suffix)+len(x.value)), rafs.V6XattrAlign):]
	}
}

// xattrIndex gives the EROFS name index and the part of name that is stored.
// ok is false for names outside the allowed name spaces (rafs.md 1.8, 2.12).
func xattrIndex(name string) (index uint8, suffix string, ok bool) {
	switch {
	case strings.HasPrefix(name, "user."):
		return rafs.V6XattrUser, name[5:], true
	case name == "system.posix_acl_access":
		return rafs.V6XattrACLAccess, "", true
	case name == "system.posix_acl_default":
		return rafs.V6XattrACLDefault, "", true
	case strings.HasPrefix(name, "trusted."):
		return rafs.V6XattrTrusted, name[8:], true
	case strings.HasPrefix(name, "security."):
		return rafs.V6XattrSecurity, name[9:], true
	}
	return 0, "", false
}
