package rafs

// reserved checks that the bytes of a v6 image's head which nothing is stored in
// are zero (sections 2.1 to 2.5). Opening an image doesn't look at them; that they
// are not zero means damage, or a format this package does not know.
func (c *checker) reserved() error {
	if c.im.version != V6 {
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

// zero finds the first byte of [off, to) that is not zero.
func (c *checker) zero(field string, off, to uint64) error {
	for at := off; at < to; at++ {
		if v := c.im.data[at]; v != 0 {
			return corrupt(at, field, "%#x, want 0", v)
		}
	}
	return nil
}
