package rafs

// decodeChunk reads a chunk info record (section 1.11) without judging it.
func decodeChunk(b []byte, c *Chunk) (blob uint32, fileOff uint64) {
	_ = b[ChunkInfoSize-1]
	blob = le32(b[ChunkInfoBlobAt:])
	*c = Chunk{
		Blob:           uint16(blob),
		Index:          ChunkIndex(le32(b[ChunkInfoIndexAt:])),
		Flags:          ChunkFlags(le32(b[ChunkInfoFlagsAt:])),
		Off:            le64(b[ChunkInfoUncompressedOffAt:]),
		Size:           le32(b[ChunkInfoSizeAt:]),
		CompressedOff:  le64(b[ChunkInfoCompressedOffAt:]),
		CompressedSize: le32(b[ChunkInfoCompressedSizeAt:]),
		CRC32:          le32(b[ChunkInfoCRCAt:]),
		Digest:         Digest(b[ChunkInfoDigestAt:]),
	}
	c.HasDigest = !c.Digest.IsZero()
	return blob, le64(b[ChunkInfoFileOffAt:])
}

// knownChunkFlags are those that a chunk info record may have.
const knownChunkFlags = ChunkCompressed | ChunkHole | ChunkEncrypted | ChunkBatch | ChunkHasCRC

// chunkInfo reads and checks the chunk info at off: blob and sizes are such that
// a reader can act on them. For batch and zran chunks the stored place is not
// that of their unit, which only the blob meta knows: UnitSize is 0.
func (im *Image) chunkInfo(off uint64) (Chunk, uint64, error) {
	b, err := im.bytesAt(off, ChunkInfoSize, "chunk")
	if err != nil {
		return Chunk{}, 0, err
	}
	var c Chunk
	blob, fileOff := decodeChunk(b, &c)
	if uint64(blob) >= uint64(len(im.blobs)) {
		return Chunk{}, 0, corrupt(off+ChunkInfoBlobAt, "chunk.blob_index", "%d of %d", blob, len(im.blobs))
	}
	d := &im.blobs[blob]
	if d.Features.Has(BlobZran) {
		c.Flags |= ChunkZran // the record has no bit for it
	}
	if field, why := d.checkChunk(&c); field != "" {
		return Chunk{}, 0, corrupt(off, "chunk."+field, "%s", why)
	}
	return c, fileOff, nil
}

// checkChunk says which field of a decoded chunk can't be, and why.
func (b *Blob) checkChunk(c *Chunk) (field, why string) {
	limit, limited := b.dataLimit()
	stored := b.CompressedDataSize()
	if b.Features.Has(BlobChunkDictGenerated) { // sizes of the blob are not kept
		limited, stored = false, 0
	}
	plain := c.Flags&(ChunkCompressed|ChunkEncrypted|ChunkBatch|ChunkZran) == 0
	switch {
	case c.Size == 0 || c.Size > b.ChunkSize:
		return "uncompressed_size", "0 or above the chunk size"
	case c.Off > V6MaxUncompressed, limited && (c.Off > limit || uint64(c.Size) > limit-c.Off):
		return "uncompressed_offset", "outside the blob"
	case c.Index >= MaxChunksPerBlob, limited && b.ChunkCount != 0 && uint32(c.Index) >= b.ChunkCount:
		return "index", "outside the blob"
	case c.Flags&ChunkHole != 0:
		return "flags", "holes are not supported"
	case c.Flags&^(knownChunkFlags|ChunkZran) != 0:
		return "flags", "unknown bits"
	case c.Flags&ChunkZran != 0 && c.UnitSize == 0:
		return "", ""
	case plain && c.CompressedSize != c.Size:
		return "compressed_size", "differs from the size of an uncompressed chunk"
	case uint64(c.CompressedSize) > maxStored(c):
		return "compressed_size", "far above the uncompressed size"
	case c.CompressedOff > V6MaxCompressed,
		stored != 0 && !b.LegacyStargz() && (c.CompressedOff > stored || uint64(c.CompressedSize) > stored-c.CompressedOff):
		return "compressed_offset", "outside the blob"
	}
	return "", ""
}

// CheckChunk says why b can't have c, a complete chunk of an image of version v
// that is not in tarfs mode: limits are exceeded, or (v6) files could not refer to
// it by a chunk address (section 2.9). The error is a *FormatError without an offset.
func (b *Blob) CheckChunk(v Version, c *Chunk) error {
	if field, why := b.checkChunk(c); field != "" {
		return corrupt(0, "chunk."+field, "%s", why)
	}
	switch {
	case v != V6:
	case c.Off%V6Align != 0:
		return corrupt(0, "chunk.uncompressed_offset", "%#x is not a multiple of %d", c.Off, V6Align)
	case uint32(c.Index) >= b.ChunkCount:
		return corrupt(0, "chunk.index", "%d of %d in blob %d", c.Index, b.ChunkCount, b.Index)
	}
	return nil
}

// maxStored bounds the stored bytes of a chunk or of the unit it is a slice of,
// with room for what gzip, padding and the estimates of eStargz may add.
func maxStored(c *Chunk) uint64 {
	n := uint64(max(c.Size, c.UnitSize))
	if c.Flags&ChunkBatch != 0 && c.UnitSize == 0 {
		n = MaxUnitSize
	}
	return n + n/64 + 4096
}

// ChunkAt gives the chunk info at a bootstrap offset (v5, Span.Ref).
func (im *Image) ChunkAt(ref uint64) (Chunk, error) {
	if im.version != V5 {
		return Chunk{}, ErrUnsupported
	}
	c, _, err := im.chunkInfo(ref)
	return c, err
}

// Chunk gives chunk k of a regular file. In v5 it is complete; in v6 only Blob,
// Index, Off and Size are known, the rest is in the chunk table or the blob meta.
func (n *Inode) Chunk(k uint64) (Chunk, error) {
	if !n.IsRegular() {
		return Chunk{}, ErrNotRegular
	}
	if count := n.ChunkCount(); k >= count {
		return Chunk{}, corrupt(n.off, "chunk", "%d of %d", k, count)
	}
	if n.im.version == V5 {
		c, _, err := n.im.chunkInfo(n.body + k*ChunkInfoSize)
		return c, err
	}
	s, err := n.addrV6(k)
	if err != nil {
		return Chunk{}, err
	}
	return Chunk{Blob: s.Blob, Index: s.Index, Off: s.Off, Size: s.Len}, nil
}

// ChunkRef gives the offset of chunk k's record in the bootstrap: the chunk info
// in v5, the chunk address in v6.
func (n *Inode) ChunkRef(k uint64) uint64 {
	if n.im.version == V5 {
		return n.body + k*ChunkInfoSize
	}
	return n.body + k*V6ChunkAddrSize
}

// AppendSpans appends the pieces of chunks that hold size bytes at off, clamped
// to the file's size, in file order. It allocates only if dst is too short.
// On an error what was appended is cut off again.
func (n *Inode) AppendSpans(dst []Span, off, size uint64) ([]Span, error) {
	if !n.IsRegular() {
		return dst, ErrNotRegular
	}
	if off >= n.size {
		return dst, nil
	}
	end := off + min(size, n.size-off)
	if n.im.version == V5 {
		return n.spansV5(dst, off, end)
	}
	start := len(dst)
	for off < end {
		k := off >> n.im.chunkBits
		s, err := n.addrV6(k)
		if err != nil {
			return dst[:start], err
		}
		dst = append(dst, cut(s, k<<n.im.chunkBits, off, end))
		off += uint64(dst[len(dst)-1].Len)
	}
	return dst, nil
}

// cut reduces a whole chunk that starts at file offset at to the range from off
// to end. Preconditions: at <= off < at+s.Len, off < end.
func cut(s Span, at, off, end uint64) Span {
	skip := off - at
	s.Off += skip
	s.Len = uint32(min(uint64(s.Len)-skip, end-off))
	return s
}

// addrV6 gives chunk k of a file as one span (section 2.9). k is below ChunkCount.
func (n *Inode) addrV6(k uint64) (Span, error) {
	im := n.im
	at := n.body + k*V6ChunkAddrSize
	b := im.data[at:][:V6ChunkAddrSize]
	device := int(b[V6ChunkAddrDeviceAt])
	if device == 0 || device > len(im.blobs) {
		return Span{}, corrupt(at+V6ChunkAddrDeviceAt, "chunk_addr.device", "%d of %d", device, len(im.blobs))
	}
	blob := &im.blobs[device-1]
	chunk := uint64(1) << im.chunkBits
	s := Span{
		Blob:  uint16(device - 1),
		Index: ChunkIndex(b[V6ChunkAddrHighAt])<<16 | ChunkIndex(le16(b)),
		Off:   uint64(le32(b[V6ChunkAddrBlkAt:])) << im.blockBits,
		Len:   uint32(min(chunk, n.size-k<<im.chunkBits)),
	}
	// The file in a generated dictionary is a list of chunks of any size: nobody reads it.
	limit, _ := blob.dataLimit()
	if !blob.Features.Has(BlobChunkDictGenerated) && (s.Off > limit || uint64(s.Len) > limit-s.Off) {
		return Span{}, corrupt(at+V6ChunkAddrBlkAt, "chunk_addr.block", "%#x+%#x outside blob %d", s.Off, s.Len, s.Blob)
	}
	if !im.Tarfs() && uint32(s.Index) >= blob.ChunkCount {
		return Span{}, corrupt(at, "chunk_addr.index", "%d of %d in blob %d", s.Index, blob.ChunkCount, s.Blob)
	}
	return s, nil
}

// spansV5 reads chunk infos from the one that holds off.
func (n *Inode) spansV5(dst []Span, off, end uint64) ([]Span, error) {
	start := len(dst)
	k := off >> n.im.chunkBits
	if n.holes {
		k = n.searchV5(off)
	}
	for ; off < end; k++ {
		if k >= uint64(n.count) {
			return dst[:start], corrupt(n.off+V5InodeChildCountAt, "inode.child_count", "%d chunks for %d bytes", n.count, n.size)
		}
		ref := n.body + k*ChunkInfoSize
		c, at, err := n.im.chunkInfo(ref)
		if err != nil {
			return dst[:start], err
		}
		if !n.holes && (at != k<<n.im.chunkBits || uint64(c.Size) != min(n.size-at, 1<<n.im.chunkBits)) {
			return dst[:start], corrupt(ref+ChunkInfoFileOffAt, "chunk.file_offset", "%d bytes at %#x as chunk %d of %d bytes", c.Size, at, k, n.size)
		}
		if at > off || off-at >= uint64(c.Size) {
			return dst[:start], unsupported(ref+ChunkInfoFileOffAt, "chunk.file_offset", "hole at %#x", off)
		}
		s := cut(Span{Blob: c.Blob, Index: c.Index, Off: c.Off, Len: c.Size, Ref: ref}, at, off, end)
		dst = append(dst, s)
		off += uint64(s.Len)
	}
	return dst, nil
}

// searchV5 finds the last chunk of a file with holes that starts at or before off.
func (n *Inode) searchV5(off uint64) uint64 {
	lo, hi := uint64(0), uint64(n.count)
	for lo < hi {
		mid := lo + (hi-lo)/2
		if le64(n.im.data[n.body+mid*ChunkInfoSize+ChunkInfoFileOffAt:]) <= off {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - min(lo, 1)
}
