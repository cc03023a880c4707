package rafs

import "encoding/binary"

// BlobMeta is the chunk info array of one v6 blob (sections 4.3 to 4.7), parsed
// in place:
//
//	|chunk info 0|..|chunk info n-1|batch or zran contexts|zran dictionaries|
//	 16 or 24 bytes each            40 bytes each
//
// It is immutable and safe for concurrent use.
type BlobMeta struct {
	blob     *Blob
	array    []byte // chunk infos alone
	contexts []byte
	dicts    []byte
	tables   uint64 // offset of contexts in the array, for errors
}

// ParseBlobMetaHeader checks that the 4096 bytes of a header, decrypted, belong
// to a blob. The features in the header may be incomplete and are not compared.
func ParseBlobMetaHeader(b *Blob, header []byte) error {
	if len(header) != BlobMetaHeaderSize {
		return corrupt(0, "blob_meta.header", "%d bytes", len(header))
	}
	for _, at := range []uint64{BlobMetaMagicAt, BlobMetaMagic2At} {
		if v := le32(header[at:]); v != BlobMetaMagic {
			return corrupt(at, "blob_meta.magic", "%#x", v)
		}
	}
	for _, f := range []struct {
		at        uint64
		field     string
		got, want uint64
	}{
		{BlobMetaCompressorAt, "ci_compressor", uint64(le32(header[BlobMetaCompressorAt:])), uint64(b.MetaCompressor)},
		{BlobMetaEntriesAt, "ci_entries", uint64(le32(header[BlobMetaEntriesAt:])), uint64(b.ChunkCount)},
		{BlobMetaOffsetAt, "ci_offset", le64(header[BlobMetaOffsetAt:]), b.MetaOff},
		{BlobMetaCompressedAt, "ci_compressed_size", le64(header[BlobMetaCompressedAt:]), b.MetaCompressedSize},
		{BlobMetaUncompressedAt, "ci_uncompressed_size", le64(header[BlobMetaUncompressedAt:]), b.MetaUncompressedSize},
	} {
		if f.got != f.want && !(f.at == BlobMetaEntriesAt && b.Features.Has(BlobChunkDictGenerated)) {
			return corrupt(f.at, "blob_meta."+f.field, "%d, the blob table says %d", f.got, f.want)
		}
	}
	return nil
}

// ParseBlobMeta checks header (4096 bytes, decrypted) against the blob and gives
// access to array, the uncompressed chunk info array with its appended tables,
// which must stay unchanged. Bytes of array after MetaUncompressedSize are
// ignored. Entries are checked when they are used.
func ParseBlobMeta(b *Blob, header, array []byte) (*BlobMeta, error) {
	if err := ParseBlobMetaHeader(b, header); err != nil {
		return nil, err
	}
	size, infos := b.MetaUncompressedSize, b.ChunkInfoSize()*uint64(b.ChunkCount)
	if size > uint64(len(array)) || infos > size {
		return nil, corrupt(0, "blob_meta.array", "%d bytes, header says %d, %d chunks", len(array), size, b.ChunkCount)
	}
	m := &BlobMeta{blob: b, array: array[:infos:infos]}
	if b.Features&(BlobZran|BlobBatch) == 0 {
		return m, nil
	}
	off, bytes := le64(header[BlobMetaContextsAt:]), le64(header[BlobMetaContextsSizeAt:])
	count := uint64(le32(header[BlobMetaContextsCountAt:]))
	const unit = ZranContextSize // of batch contexts as well
	switch {
	case count == 0 && bytes == 0:
		return m, nil // wherever the nothing is
	case off != infos:
		return nil, corrupt(BlobMetaContextsAt, "blob_meta.ci_zran_offset", "%d, want %d", off, infos)
	case bytes > size-off:
		return nil, corrupt(BlobMetaContextsSizeAt, "blob_meta.ci_zran_size", "%d runs past the array", bytes)
	case count > uint64(b.ChunkCount) || count*unit > bytes:
		return nil, corrupt(BlobMetaContextsCountAt, "blob_meta.ci_zran_count", "%d in %d bytes", count, bytes)
	}
	tables := array[off : off+bytes : off+bytes]
	m.tables, m.contexts, m.dicts = off, tables[:count*unit:count*unit], tables[count*unit:]
	return m, nil
}

// Len gives the number of chunks.
func (m *BlobMeta) Len() uint32 { return uint32(uint64(len(m.array)) / m.blob.ChunkInfoSize()) }

// Chunk gives chunk i. Digests are not stored here. For batch and zran chunks
// the compressed place is that of their unit.
func (m *BlobMeta) Chunk(i ChunkIndex) (Chunk, error) {
	unit := m.blob.ChunkInfoSize()
	at := uint64(i) * unit
	if i >= ChunkIndex(m.Len()) {
		return Chunk{}, corrupt(at, "chunk_info", "%d of %d", i, m.Len())
	}
	c := Chunk{Blob: uint16(m.blob.Index), Index: i}
	b := m.array[at:][:unit]
	if unit == ChunkInfoV1Size {
		decodeV1(b, &c)
	} else if err := m.decodeV2(b, at, &c); err != nil {
		return Chunk{}, err
	}
	if field, why := m.blob.checkChunk(&c); field != "" {
		return Chunk{}, corrupt(at, "chunk_info."+field, "%s", why)
	}
	if c.CompressedSize == 0 && !m.blob.Features.Has(BlobSeparate) && !m.blob.Features.Has(BlobChunkDictGenerated) {
		return Chunk{}, corrupt(at, "chunk_info.compressed_size", "0")
	}
	return c, nil
}

// decodeV1 reads a version 1 chunk info: unequal sizes mean compressed.
func decodeV1(b []byte, c *Chunk) {
	u, s := le64(b), le64(b[8:])
	c.Off = u & chunkV1OffMask
	c.Size = uint32(u>>44|u&chunkV1SizeHigh<<12) + 1
	c.CompressedOff = s & chunkV1COffMask
	c.CompressedSize = uint32(s>>44|s&chunkV1CHigh>>20) + 1
	if c.Size != c.CompressedSize {
		c.Flags = ChunkCompressed
	}
}

// decodeV2 reads a version 2 chunk info and resolves its context.
func (m *BlobMeta) decodeV2(b []byte, at uint64, c *Chunk) error {
	u, s, data := le64(b), le64(b[8:]), le64(b[16:])
	c.Off = u & 0xffff_ffff << 12
	c.Size = uint32(u>>32&0xff_ffff) + 1
	c.CompressedOff = s & chunkV1COffMask
	c.CompressedSize = uint32(s >> 40)
	flags := uint8(u >> 56)
	if flags&ChunkV2Compressed != 0 {
		c.Flags |= ChunkCompressed
	}
	if flags&ChunkV2Encrypted != 0 {
		c.Flags |= ChunkEncrypted
	}
	unit, off := uint32(data>>32), uint32(data)
	switch {
	case flags&ChunkV2Zran != 0:
		z, err := m.Zran(unit)
		if err != nil {
			return err
		}
		c.Flags |= ChunkZran
		c.Unit, c.UnitOff, c.UnitSize = unit, off, z.OutLen
		c.CompressedOff, c.CompressedSize = z.InOff, z.InLen
	case flags&ChunkV2Batch != 0:
		e, err := m.context(unit, BlobBatch, at)
		if err != nil {
			return err
		}
		c.Flags |= ChunkBatch
		c.CompressedSize = le32(e[BatchCompressedAt:])
		c.Unit, c.UnitOff, c.UnitSize = unit, off, le32(e[BatchUncompressedAt:])
		if c.UnitSize > MaxUnitSize || c.CompressedSize == 0 {
			return corrupt(at, "batch_context", "%d bytes of %d", c.CompressedSize, c.UnitSize)
		}
		c.Flags &^= ChunkCompressed // told by the sizes of the batch (section 4.6)
		if c.CompressedSize != c.UnitSize {
			c.Flags |= ChunkCompressed
		}
	case flags&ChunkV2HasCRC != 0 && off != 0:
		c.Flags |= ChunkHasCRC
		c.CRC32 = off
	}
	if c.UnitSize != 0 && (off > c.UnitSize || c.Size > c.UnitSize-off) {
		return corrupt(at, "chunk_info.data", "%d bytes at %d of a unit of %d", c.Size, off, c.UnitSize)
	}
	return nil
}

// context gives record i of the context table, which holds those of one feature.
func (m *BlobMeta) context(i uint32, f BlobFeatures, at uint64) ([]byte, error) {
	if !m.blob.Features.Has(f) || uint64(i) >= uint64(len(m.contexts)/ZranContextSize) {
		return nil, corrupt(at, "chunk_info.data", "context %d of %d in a blob of features %v", i, len(m.contexts)/ZranContextSize, m.blob.Features)
	}
	return m.contexts[uint64(i)*ZranContextSize:][:ZranContextSize], nil
}

// A ZranContext is a point where a gzip stream can be entered, and the slice of
// its output that follows (section 4.7).
type ZranContext struct {
	InOff   uint64 // in the gzip file, where raw inflate input starts
	OutOff  uint64 // in the decompressed stream
	InLen   uint32
	OutLen  uint32 // at most MaxUnitSize
	CtxByte byte   // the byte before InOff, if CtxBits is not 0
	CtxBits uint8  // pending bits of it, 0 to 7
	Dict    []byte // the window before the slice, a view of the array
}

// ZranCount gives the number of zran contexts.
func (m *BlobMeta) ZranCount() uint32 {
	if !m.blob.Features.Has(BlobZran) {
		return 0
	}
	return uint32(len(m.contexts) / ZranContextSize)
}

// Zran gives zran context i (Chunk.Unit).
func (m *BlobMeta) Zran(i uint32) (ZranContext, error) {
	at := m.tables + uint64(i)*ZranContextSize
	e, err := m.context(i, BlobZran, at)
	if err != nil {
		return ZranContext{}, err
	}
	z := ZranContext{
		InOff: le64(e[ZranInOffAt:]), OutOff: le64(e[ZranOutOffAt:]),
		InLen: le32(e[ZranInLenAt:]), OutLen: le32(e[ZranOutLenAt:]),
		CtxByte: e[ZranCtxByteAt], CtxBits: e[ZranCtxBitsAt],
	}
	off, size := le64(e[ZranDictOffAt:]), uint64(le32(e[ZranDictSizeAt:]))
	switch {
	case z.CtxBits > 7:
		return ZranContext{}, corrupt(at+ZranCtxBitsAt, "zran.ctx_bits", "%d", z.CtxBits)
	case z.OutLen == 0 || z.OutLen > MaxUnitSize:
		return ZranContext{}, corrupt(at+ZranOutLenAt, "zran.out_len", "%d", z.OutLen)
	case z.InOff > V6MaxCompressed || z.InLen == 0 || z.InLen > 2*MaxUnitSize:
		return ZranContext{}, corrupt(at+ZranInOffAt, "zran.in", "%d bytes at %#x", z.InLen, z.InOff)
	case size > ZranMaxDict || off > uint64(len(m.dicts)) || size > uint64(len(m.dicts))-off:
		return ZranContext{}, corrupt(at+ZranDictOffAt, "zran.dict", "%d bytes at %#x of %d", size, off, len(m.dicts))
	}
	z.Dict = m.dicts[off : off+size : off+size]
	return z, nil
}

// Find gives the chunk that holds an offset of the uncompressed blob; false for
// the padding between chunks and past the end. Offsets rise with the number, in
// a malformed array a chunk may not be found.
func (m *BlobMeta) Find(off uint64) (ChunkIndex, bool) {
	i := m.After(off)
	if i == 0 {
		return 0, false
	}
	c, err := m.Chunk(ChunkIndex(i - 1))
	if err != nil || off < c.Off || off-c.Off >= uint64(c.Size) {
		return 0, false
	}
	return ChunkIndex(i - 1), true
}

// After gives the number of chunks that start at or before off: the index of the
// first one that starts after it, Len if there is none.
func (m *BlobMeta) After(off uint64) uint32 {
	unit := m.blob.ChunkInfoSize()
	lo, hi := uint32(0), m.Len()
	for lo < hi {
		mid := lo + (hi-lo)/2
		u := binary.LittleEndian.Uint64(m.array[uint64(mid)*unit:])
		start := u & chunkV1OffMask
		if unit == ChunkInfoV2Size {
			start = u & 0xffff_ffff << 12
		}
		if start <= off {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}
