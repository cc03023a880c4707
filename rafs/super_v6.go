package rafs

import (
	"bytes"
	"math/bits"
)

// openV6 reads both super blocks and the tables (sections 2.2 to 2.7).
func (im *Image) openV6() error {
	size := im.Size()
	if size < V6Align {
		return corrupt(0, "bootstrap.size", "%d bytes", size)
	}
	sb := im.data[V6SuperOff:][:V6SuperSize]
	if err := im.superV6(sb); err != nil {
		return err
	}
	ext := im.data[V6ExtOff:][:V6ExtSize]
	im.flags = SuperFlags(le64(ext[V6ExtFlagsAt:]))
	const flagsAt = V6ExtOff + V6ExtFlagsAt
	if unknown := im.flags &^ FlagsKnown; unknown != 0 {
		return unsupported(flagsAt, "ext_super.flags", "unknown bits %v", unknown)
	}
	if bits.OnesCount64(uint64(im.flags&FlagsCompression)) != 1 || bits.OnesCount64(uint64(im.flags&FlagsHash)) != 1 {
		return corrupt(flagsAt, "ext_super.flags", "%v: not one compressor and one digester", im.flags)
	}
	if im.Tarfs() != (im.blockBits == V6BlkSzBitsTarfs) {
		return corrupt(V6SuperOff+V6SuperBlkSzBitsAt, "super.blkszbits", "%d with flags %v", im.blockBits, im.flags)
	}
	chunk := le32(ext[V6ExtChunkSizeAt:])
	if !ValidChunkSize(chunk) {
		return corrupt(V6ExtOff+V6ExtChunkSizeAt, "ext_super.chunk_size", "%d", chunk)
	}
	im.chunkBits = log2(chunk)
	return im.tablesV6(sb, ext)
}

// superV6 checks the EROFS super block (section 2.2).
func (im *Image) superV6(sb []byte) error {
	bad := func(at uint64, field, why string, v any) error {
		return corrupt(V6SuperOff+at, "super."+field, why, v)
	}
	if v := le32(sb[V6SuperCompatAt:]); v&V6CompatRAFS == 0 {
		return unsupported(V6SuperOff+V6SuperCompatAt, "super.feature_compat", "%#x lacks the RAFS bit: a plain EROFS image", v)
	}
	if v := le32(sb[V6SuperIncompatAt:]); v != V6IncompatWanted {
		const at = V6SuperOff + V6SuperIncompatAt
		if unknown := v &^ V6IncompatWanted; unknown != 0 {
			return unsupported(at, "super.feature_incompat", "bits not understood: %s", flagNames(uint64(unknown), incompatNames))
		}
		return corrupt(at, "super.feature_incompat", "missing %s", flagNames(uint64(V6IncompatWanted&^v), incompatNames))
	}
	im.blockBits = sb[V6SuperBlkSzBitsAt]
	if im.blockBits != V6BlkSzBits && im.blockBits != V6BlkSzBitsTarfs {
		return bad(V6SuperBlkSzBitsAt, "blkszbits", "%d", im.blockBits)
	}
	if im.Size()%uint64(im.BlockSize()) != 0 {
		return corrupt(im.Size(), "bootstrap.size", "%d is not a multiple of the block size", im.Size())
	}
	if v := le32(sb[V6SuperChecksumAt:]); v != 0 {
		return bad(V6SuperChecksumAt, "checksum", "%#x, want 0", v)
	}
	if v := sb[V6SuperExtSlotsAt]; v != 0 {
		return bad(V6SuperExtSlotsAt, "sb_extslots", "%d, want 0", v)
	}
	if v := le16(sb[V6SuperCompressionAt:]); v != 0 {
		return bad(V6SuperCompressionAt, "compression", "%#x, want 0", v)
	}
	if v := le16(sb[V6SuperDevtSlotOffAt:]); v != V6DevtSlotOff {
		return bad(V6SuperDevtSlotOffAt, "devt_slotoff", "%d, want 11", v)
	}
	if v := le32(sb[V6SuperBlocksAt:]); le16(sb[V6SuperExtraDevicesAt:]) == 0 && v != 0 && v != V6Align {
		return bad(V6SuperBlocksAt, "blocks", "%d without devices", v)
	}
	im.names = le64(sb[V6SuperInosAt:])
	im.inodes = im.names
	if im.inodes == 0 {
		return bad(V6SuperInosAt, "inos", "%d", im.inodes)
	}
	im.root = Ino(le16(sb[V6SuperRootNidAt:]))
	im.meta = uint64(le32(sb[V6SuperMetaBlkaddrAt:])) << im.blockBits
	if im.meta >= im.Size() {
		return bad(V6SuperMetaBlkaddrAt, "meta_blkaddr", "%#x is past the end", im.meta)
	}
	im.xattrs = uint64(le32(sb[V6SuperXattrBlkaddrAt:])) << im.blockBits
	if im.xattrs >= im.Size() {
		return bad(V6SuperXattrBlkaddrAt, "xattr_blkaddr", "%#x is past the end", im.xattrs)
	}
	return nil
}

// tablesV6 places the tables and decodes devices and blobs.
func (im *Image) tablesV6(sb, ext []byte) error {
	devices := region{V6DeviceOff, uint64(le16(sb[V6SuperExtraDevicesAt:])) * V6DeviceSize}
	blobs := region{le64(ext[V6ExtBlobTableAt:]), uint64(le32(ext[V6ExtBlobTableSizeAt:]))}
	chunks := region{le64(ext[V6ExtChunkTableAt:]), le64(ext[V6ExtChunkTableSizeAt:])}
	prefetch := region{le64(ext[V6ExtPrefetchTableAt:]), uint64(le32(ext[V6ExtPrefetchTableSizeAt:]))}
	if prefetch.off == 0 { // legacy empty images have a size alone
		prefetch.size = 0
	}
	tables := []struct {
		field    string
		at       uint64
		r        *region
		align    uint64
		unit     uint64
		smallest uint64
	}{
		{"device_table", V6SuperOff + V6SuperExtraDevicesAt, &devices, 1, V6DeviceSize, V6DeviceOff},
		{"blob_table", V6ExtOff + V6ExtBlobTableAt, &blobs, V6Align, V6BlobSize, V6Align},
		{"chunk_table", V6ExtOff + V6ExtChunkTableAt, &chunks, V6Align, ChunkInfoSize, V6Align},
		{"prefetch_table", V6ExtOff + V6ExtPrefetchTableAt, &prefetch, 1, V6PrefetchEntrySize, V6ExtOff + V6ExtSize},
	}
	for i := range tables {
		t := &tables[i]
		if t.r.size == 0 {
			*t.r = region{}
			continue
		}
		if t.r.size%t.unit != 0 {
			return corrupt(t.at, "ext_super."+t.field, "%d bytes are not a multiple of %d", t.r.size, t.unit)
		}
		if t.r.off < t.smallest || t.r.off%t.align != 0 || !im.holds(t.r.off, t.r.size) {
			return corrupt(t.at, "ext_super."+t.field, "%d bytes at %#x are not an aligned part of the file", t.r.size, t.r.off)
		}
		for _, o := range tables[:i] {
			if t.r.overlaps(*o.r) {
				return corrupt(t.at, "ext_super."+t.field, "overlaps the %s", o.field)
			}
		}
	}
	if !im.Tarfs() { // in tarfs mode the table is meaningless (section 2.7)
		im.chunkTable = chunks
	}
	im.prefetch = prefetch
	return im.blobsV6(devices, blobs)
}

// blobsV6 decodes the device table and the blob table (sections 2.4 and 2.5).
func (im *Image) blobsV6(devices, blobs region) error {
	n := blobs.size / V6BlobSize
	if d := devices.size / V6DeviceSize; d != n {
		return corrupt(V6SuperOff+V6SuperExtraDevicesAt, "super.extra_devices", "%d devices for %d blobs", d, n)
	}
	if n > V6MaxBlobs {
		return unsupported(blobs.off, "blob_table", "%d blobs, at most %d", n, V6MaxBlobs)
	}
	im.blobs = make([]Blob, n)
	for i := range im.blobs {
		b := &im.blobs[i]
		at := blobs.off + uint64(i)*V6BlobSize
		e := im.data[at:][:V6BlobSize]
		if err := b.decodeV6(e, i); err != nil {
			err.Off += at
			return err
		}
		if err := im.checkBlobV6(b); err != nil {
			err.Off += at
			return err
		}
		at = devices.off + uint64(i)*V6DeviceSize
		dev := im.data[at:][:V6DeviceSize]
		tag := bytes.TrimRight(dev[V6DeviceTagAt:][:V6BlobIDSize], "\x00")
		if string(tag) != b.ID {
			return corrupt(at, "device.tag", "%q is not the id of blob %d", tag, i)
		}
		for _, o := range im.blobs[:i] {
			if o.ID == b.ID {
				return corrupt(at, "device.tag", "blob %d repeats the id of blob %d", i, o.Index)
			}
		}
		b.Blocks = le32(dev[V6DeviceBlocksAt:])
		b.MappedBlk = le32(dev[V6DeviceMappedBlkaddrAt:])
		if b.Blocks == 0 {
			return corrupt(at+V6DeviceBlocksAt, "device.blocks", "0")
		}
	}
	return nil
}

// decodeV6 reads the fields of blob table entry i. Offsets of errors are
// relative to the entry.
func (b *Blob) decodeV6(e []byte, i int) *FormatError {
	b.ID = string(bytes.TrimRight(e[V6BlobIDAt:][:V6BlobIDSize], "\x00"))
	b.RawID = b.ID
	if why := checkBlobID(b.ID); why != "" {
		return blobError(V6BlobIDAt, "blob_id", why)
	}
	b.Index = i
	if v := le32(e[V6BlobIndexAt:]); v != uint32(i) {
		return blobError(V6BlobIndexAt, "blob_index", "is not the position in the table")
	}
	algo := func(at uint64, field string, valid func(uint8) bool) (uint8, *FormatError) {
		if v := le32(e[at:]); v > 255 || !valid(uint8(v)) {
			return 0, blobError(at, field, "unknown algorithm")
		}
		return e[at], nil
	}
	compressor := func(v uint8) bool { return Compressor(v).Valid() }
	digester := func(v uint8) bool { return Digester(v).Valid() }
	cipher := func(v uint8) bool { return Cipher(v) <= CipherAES128XTS }
	for _, a := range []struct {
		at    uint64
		field string
		valid func(uint8) bool
		dst   *uint8
	}{
		{V6BlobCompressorAt, "compression_algo", compressor, (*uint8)(&b.Compressor)},
		{V6BlobDigesterAt, "digest_algo", digester, (*uint8)(&b.Digester)},
		{V6BlobCICompressorAt, "ci_compressor", compressor, (*uint8)(&b.MetaCompressor)},
		{V6BlobCipherAt, "cipher_algo", cipher, (*uint8)(&b.Cipher)},
	} {
		v, err := algo(a.at, a.field, a.valid)
		if err != nil {
			return err
		}
		*a.dst = v
	}
	b.ChunkSize = le32(e[V6BlobChunkSizeAt:])
	b.ChunkCount = le32(e[V6BlobChunkCountAt:])
	b.Features = BlobFeatures(le32(e[V6BlobFeaturesAt:]))
	b.CompressedSize = le64(e[V6BlobCompressedAt:])
	b.UncompressedSize = le64(e[V6BlobUncompressedAt:])
	b.TOCSize = le32(e[V6BlobTOCSizeAt:])
	b.MetaOff = le64(e[V6BlobCIOffsetAt:])
	b.MetaCompressedSize = le64(e[V6BlobCICompressedAt:])
	b.MetaUncompressedSize = le64(e[V6BlobCIUncompressedAt:])
	b.TOCDigest = Digest(e[V6BlobTOCDigestAt:])
	if b.Features.Has(BlobEncrypted) {
		b.Key = [32]byte(e[V6BlobKeyAt:])
		b.IV = [16]byte(e[V6BlobIVAt:])
	} else {
		b.MetaDigest = Digest(e[V6BlobMetaDigestAt:])
		b.MetaFileSize = le64(e[V6BlobMetaSizeAt:])
	}
	return nil
}

func blobError(at uint64, field, why string) *FormatError {
	return &FormatError{Off: at, Field: "blob." + field, Why: why}
}

// checkBlobV6 applies the rules of section 2.5 that relate fields to each other.
func (im *Image) checkBlobV6(b *Blob) *FormatError {
	f := b.Features
	if unknown := f & BlobIncompatMask &^ BlobIncompatKnown; unknown != 0 {
		err := blobError(V6BlobFeaturesAt, "features", "incompatible bits not understood: "+unknown.String())
		err.Class = ErrUnsupported
		return err
	}
	external := f.Has(BlobExternal)
	switch {
	case f.Has(BlobNoExtTable):
		return blobError(V6BlobFeaturesAt, "features", "internal bit is set")
	case im.Tarfs() == f.Has(BlobAligned) && !external:
		return blobError(V6BlobFeaturesAt, "features", "ALIGNED and TARFS_MODE do not go together: "+f.String())
	case b.ChunkSize != im.ChunkSize():
		return blobError(V6BlobChunkSizeAt, "chunk_size", "differs from the image's")
	case b.ChunkCount > MaxChunksPerBlob:
		return blobError(V6BlobChunkCountAt, "chunk_count", "above 2^24")
	case b.CompressedSize > V6MaxCompressed:
		return blobError(V6BlobCompressedAt, "compressed_size", "above 2^40")
	case b.UncompressedSize > V6MaxUncompressed:
		return blobError(V6BlobUncompressedAt, "uncompressed_size", "above 2^44")
	case b.UncompressedSize%V6BlobUncompressedAligns != 0 && !im.Tarfs() && !external:
		return blobError(V6BlobUncompressedAt, "uncompressed_size", "not a multiple of 4096")
	case f.Has(BlobEncrypted) && b.Cipher == CipherNone:
		return blobError(V6BlobCipherAt, "cipher_algo", "none in an ENCRYPTED blob")
	case f.Has(BlobEncrypted) && [16]byte(b.Key[:]) == [16]byte(b.Key[16:]):
		return blobError(V6BlobKeyAt, "key", "halves are equal")
	case b.TOCSize != 0 && (b.TOCSize < TOCMinSize || b.TOCSize > TOCMaxSize || b.TOCSize%TOCEntrySize != 0):
		return blobError(V6BlobTOCSizeAt, "blob_toc_size", "not a multiple of 128 in 512..65536")
	}
	return im.checkMetaSizes(b)
}

// checkMetaSizes relates the chunk info array's size to the number of chunks.
func (im *Image) checkMetaSizes(b *Blob) *FormatError {
	f := b.Features
	v2, special := f.Has(BlobChunkInfoV2), f&blobSpecialChunkSources != 0
	size, count := b.MetaUncompressedSize, uint64(b.ChunkCount)
	limit := uint64(BlobMetaMaxV1)
	if v2 {
		limit = BlobMetaMaxV2
	}
	switch {
	case b.MetaOff > V6MaxCompressed:
		return blobError(V6BlobCIOffsetAt, "ci_offset", "above 2^40")
	case b.MetaCompressedSize > size:
		return blobError(V6BlobCICompressedAt, "ci_compressed_size", "larger than uncompressed")
	case size > limit:
		return blobError(V6BlobCIUncompressedAt, "ci_uncompressed_size", "too large")
	case special && !v2:
		return blobError(V6BlobFeaturesAt, "features", "BATCH, ZRAN and ENCRYPTED need CHUNK_INFO_V2")
	case f.IsTarfs(), f.Has(BlobChunkDictGenerated), f.Has(BlobExternal) && size == 0:
		return nil
	case v2 && special && size < ChunkInfoV2Size*count,
		v2 && !special && size != ChunkInfoV2Size*count,
		!v2 && size != ChunkInfoV1Size*count:
		return blobError(V6BlobCIUncompressedAt, "ci_uncompressed_size", "does not fit chunk_count")
	}
	return nil
}
