package rafs

import (
	"bytes"
	"slices"
)

// inode checks one inode (a v5 record) and what belongs to it alone.
func (c *checker) inode(n *Inode) error {
	if c.im.version == V6 || c.im.recordIs(n) {
		c.report.Inodes++
		c.count(n)
	}
	for _, f := range []func(*Inode) error{c.times, c.unused, c.xattrs, c.content, c.digest} {
		if err := f(n); err != nil {
			if err := c.problem(n.ino, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// recordIs reports whether a v5 record is the first of its inode.
func (im *Image) recordIs(n *Inode) bool {
	_, off, err := im.recordV5(uint64(n.ino))
	return err == nil && off == n.off
}

func (c *checker) count(n *Inode) {
	r := &c.report
	switch n.mode & ModeType {
	case ModeDir:
		r.Dirs++
	case ModeRegular:
		r.Files++
	case ModeSymlink:
		r.Symlinks++
	case ModeFIFO:
		r.FIFOs++
	case ModeSocket:
		r.Sockets++
	default:
		r.Devices++
	}
}

func (c *checker) times(n *Inode) error {
	var nsec uint32
	if c.im.version == V5 {
		nsec = le32(n.recV5()[V5InodeMtimeNsecAt:])
	} else if n.extended {
		nsec = le32(c.im.data[n.off+V6ExtendedNsecAt:])
	}
	if nsec > 999_999_999 {
		return corrupt(n.off, "inode.mtime_nsec", "%d", nsec)
	}
	return nil
}

// xattrs checks that all attributes can be read and no name is there twice.
func (c *checker) xattrs(n *Inode) error {
	if n.xattr == 0 {
		return nil
	}
	size := uint64(n.count)
	if c.im.version == V5 {
		size = le64(c.im.data[n.xattr:])
	}
	if err := c.spend(n, size, "extended attributes"); err != nil {
		return err
	}
	w, err := n.xattrs()
	if err != nil {
		return err
	}
	var p xattrPair
	for {
		at := w.off
		ok, err := w.next(&p)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		full := len(p.prefix) + len(p.name)
		if full == 0 || full > MaxXattrNameLen || bytes.IndexByte(p.name, 0) >= 0 {
			return corrupt(at, "xattr.name", "%d bytes, or a zero byte", full)
		}
		if len(p.value) > MaxXattrValue {
			return corrupt(at, "xattr.value", "%d bytes", len(p.value))
		}
		c.report.Xattrs++
	}
	if c.names, err = n.AppendXattrNames(c.names[:0]); err != nil {
		return err
	}
	names := bytes.Split(c.names, []byte{0})
	slices.SortFunc(names, bytes.Compare)
	for i := 1; i < len(names); i++ {
		if bytes.Equal(names[i-1], names[i]) {
			return corrupt(n.xattr, "xattr.name", "%q twice", names[i])
		}
	}
	return nil
}

// content checks symlink targets, inline tails and the chunks of files.
func (c *checker) content(n *Inode) error {
	if c.im.version == V6 && n.layout == V6LayoutFlatInline && !n.IsRegular() {
		bs := uint64(c.im.BlockSize())
		if n.off%bs+(n.body-n.off)+n.size%bs > bs {
			return corrupt(n.off, "inode.size", "inline tail crosses a block boundary")
		}
	}
	switch {
	case n.IsSymlink():
		target, err := n.Symlink()
		if err == nil && bytes.IndexByte(target, 0) >= 0 {
			err = corrupt(n.off, "inode.symlink", "target contains a zero byte")
		}
		return err
	case n.IsRegular():
		return c.file(n)
	}
	return nil
}

// spanBatch is how many chunks are looked at in one go.
const spanBatch = 256

// file checks that the chunks of a file cover its size exactly.
func (c *checker) file(n *Inode) error {
	count := n.ChunkCount()
	unit := uint64(V6ChunkAddrSize)
	if c.im.version == V5 {
		unit = ChunkInfoSize
		if want := ceilShift(n.size, c.im.chunkBits); !n.holes && count != want {
			return corrupt(n.off+V5InodeChildCountAt, "inode.child_count", "%d chunks for %d bytes, want %d", count, n.size, want)
		}
	}
	if err := c.spend(n, count*unit, "chunk lists"); err != nil {
		return err
	}
	c.report.Chunks += count
	step := uint64(spanBatch) << c.im.chunkBits
	var first Span
	run := true // all chunks lie back to back in one blob
	for off := uint64(0); off < n.size; {
		var err error
		if c.spans, err = n.AppendSpans(c.spans[:0], off, step); err != nil {
			return err
		}
		if len(c.spans) == 0 {
			return corrupt(n.off, "inode.size", "no chunk for offset %#x", off)
		}
		if off == 0 {
			first = c.spans[0]
		}
		for _, s := range c.spans {
			if err := c.listed(n, &s); err != nil {
				return err
			}
			run = run && s.Blob == first.Blob && s.Off == first.Off+off
			off += uint64(s.Len)
		}
	}
	return c.extent(n, run)
}

// extent checks the chunk size that the kernel goes by: the image's, or for a file
// in one run any that holds it whole (section 2.9). This package ignores it.
func (c *checker) extent(n *Inode, run bool) error {
	if !c.strict || n.size == 0 || c.generated() {
		return nil
	}
	bits := uint8(n.first&V6ChunkBitsMask) + c.im.blockBits
	if bits == c.im.chunkBits || run && ceilShift(n.size, bits) == 1 {
		return nil
	}
	return corrupt(n.off, "inode.i_u", "chunks of 1<<%d bytes, of an image with 1<<%d", bits, c.im.chunkBits)
}

// generated reports whether the image is a generated chunk dictionary, whose one
// file is a list of chunks of any size that nobody reads.
func (c *checker) generated() bool {
	return len(c.im.blobs) > 0 && c.im.blobs[0].Features.Has(BlobChunkDictGenerated)
}

// listed checks that a v6 chunk is in the chunk table, if the image has one, and
// at the place the address says (section 2.9).
func (c *checker) listed(n *Inode, s *Span) error {
	if len(c.chunks) == 0 {
		return nil
	}
	key := chunkKey(s.Blob, s.Index)
	i, _ := slices.BinarySearch(c.chunks, key<<32)
	if i == len(c.chunks) || c.chunks[i]>>32 != key {
		return corrupt(n.off, "chunk_addr", "chunk %d of blob %d is not in the chunk table", s.Index, s.Blob)
	}
	ch, err := c.im.ChunkTableEntry(c.chunks[i] & 0xffff_ffff)
	sized := err == nil && !c.im.blobs[s.Blob].Features.Has(BlobChunkDictGenerated)
	if err == nil && ch.Off != s.Off || sized && ch.Size != s.Len {
		err = corrupt(n.off, "chunk_addr.block", "chunk %d of blob %d: %d bytes at %#x, the chunk table says %d at %#x",
			s.Index, s.Blob, s.Len, s.Off, ch.Size, ch.Off)
	}
	return err
}

// digest compares the Merkle digest of a v5 inode.
func (c *checker) digest(n *Inode) error {
	if c.merkle == nil {
		return nil
	}
	err := c.merkle.verify(n)
	if err == nil {
		c.report.Digests++
	}
	return err
}
