package rafs

// reserved checks that the bytes of a v6 image's head which nothing is stored in
// are zero (sections 2.1 to 2.5). Opening an image doesn't look at them; that they
// are not zero means damage, or a format this package does not know.
func (c *checker) reserved() error {
	if !c.strict {
		return nil
	}
	ext := c.im.data[V6ExtOff:][:V6ExtSize]
	type field struct {
		name    string
		off, to uint64
	}
	fields := []field{
		{"bootstrap.head", 0, V6SuperOff},
		{"super.reserved", V6SuperOff + V6SuperDirBlkBitsAt, V6SuperOff + V6SuperSize},
		{"ext_super.reserved", V6ExtOff + V6ExtReservedAt, V6ExtOff + V6ExtSize},
	}
	blobs := le64(ext[V6ExtBlobTableAt:])
	for i := range uint64(len(c.im.blobs)) {
		dev, blob := V6DeviceOff+i*V6DeviceSize, blobs+i*V6BlobSize
		fields = append(fields,
			field{"device.reserved", dev + V6DeviceReservedAt, dev + V6DeviceSize},
			field{"blob.reserved", blob + V6BlobReservedAt, blob + V6BlobSize})
	}
	for _, f := range fields {
		if err := c.zero(f.name, f.off, f.to); err != nil {
			if err := c.problem(c.im.root, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// unused checks the reserved bytes of a v6 inode and of the header of its extended
// attributes (sections 2.8 and 2.12).
func (c *checker) unused(n *Inode) error {
	if !c.strict {
		return nil
	}
	gaps := [2][2]uint64{{V6CompactReservedAt, V6CompactUAt}, {V6CompactReserved2At, V6CompactSize}}
	if n.extended {
		gaps = [2][2]uint64{{V6ExtendedReservedAt, V6ExtendedSizeAt}, {V6ExtendedReserved2At, V6ExtendedSize}}
	}
	for _, g := range gaps {
		if err := c.zero("inode.reserved", n.off+g[0], n.off+g[1]); err != nil {
			return err
		}
	}
	if n.xattr == 0 {
		return nil
	}
	if err := c.zero("xattr.name_filter", n.xattr, n.xattr+V6XattrSharedCountAt); err != nil {
		return err
	}
	return c.zero("xattr.reserved", n.xattr+V6XattrReservedAt, n.xattr+V6XattrHeaderSize)
}

// dirent checks the fields of an entry that a listing doesn't need.
func (c *checker) dirent(dir *Inode, e []byte) error {
	if !c.strict {
		return nil
	}
	if t := e[V6DirentTypeAt]; int(t) >= len(direntTypes) {
		return corrupt(dir.off, "dirent.file_type", "%d", t)
	}
	if v := e[V6DirentReservedAt]; v != 0 {
		return corrupt(dir.off, "dirent.reserved", "%#x, want 0", v)
	}
	return nil
}

// zero finds the first byte of [off, to) that is not zero.
func (c *checker) zero(field string, off, to uint64) error {
	for at := off; at < to; at++ {
		if v := c.im.data[at]; v != 0 {
			return corrupt(at, field, "%#x, want 0", v)
		}
	}
	return nil
}
