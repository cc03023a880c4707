package rafs

// BlobFeatures are the feature bits of a data blob, in the v6 blob table, the v5
// extended blob table and the blob meta header (section 4.2).
type BlobFeatures uint32

// Blob feature bits (section 4.2).
const (
	BlobAligned             BlobFeatures = 0x0000_0001 // uncompressed offsets are 4 KiB aligned
	BlobInlinedFSMeta       BlobFeatures = 0x0000_0002 // the bootstrap is inside this blob
	BlobChunkInfoV2         BlobFeatures = 0x0000_0004
	BlobZran                BlobFeatures = 0x0000_0008
	BlobSeparate            BlobFeatures = 0x0000_0010 // chunk data and blob.meta in different files
	BlobInlinedChunkDigest  BlobFeatures = 0x0000_0020 // has blob.digest
	BlobTarfs               BlobFeatures = 0x0000_0040
	BlobBatch               BlobFeatures = 0x0000_0080
	BlobEncrypted           BlobFeatures = 0x0000_0100
	BlobChunkDictGenerated  BlobFeatures = 0x0000_0200
	BlobSeparatedPrefetch   BlobFeatures = 0x0000_0400
	BlobExternal            BlobFeatures = 0x0000_0800
	BlobHasTarHeader        BlobFeatures = 0x1000_0000
	BlobHasTOC              BlobFeatures = 0x2000_0000
	BlobCapTarTOC           BlobFeatures = 0x4000_0000
	BlobNoExtTable          BlobFeatures = 0x8000_0000 // internal: v5 image without an extended blob table
	BlobIncompatMask        BlobFeatures = 0x0000_ffff
	BlobIncompatKnown       BlobFeatures = 0x0000_0fff
	BlobFeaturesKnown                    = BlobIncompatKnown | BlobHasTarHeader | BlobHasTOC | BlobCapTarTOC
	blobSpecialChunkSources              = BlobZran | BlobBatch | BlobEncrypted
)

// Has reports whether all bits of want are set.
func (f BlobFeatures) Has(want BlobFeatures) bool { return f&want == want }

// IsTarfs reports whether the blob is a plain tar file (section 4.2).
func (f BlobFeatures) IsTarfs() bool { return f.Has(BlobCapTarTOC | BlobTarfs) }

// String names the set bits, joined by "|"; unknown bits are in hex.
func (f BlobFeatures) String() string { return flagNames(uint64(f), blobFeatureNames) }

var blobFeatureNames = []flagName{
	{uint64(BlobAligned), "ALIGNED"},
	{uint64(BlobInlinedFSMeta), "INLINED_FS_META"},
	{uint64(BlobChunkInfoV2), "CHUNK_INFO_V2"},
	{uint64(BlobZran), "ZRAN"},
	{uint64(BlobSeparate), "SEPARATE"},
	{uint64(BlobInlinedChunkDigest), "INLINED_CHUNK_DIGEST"},
	{uint64(BlobTarfs), "TARFS"},
	{uint64(BlobBatch), "BATCH"},
	{uint64(BlobEncrypted), "ENCRYPTED"},
	{uint64(BlobChunkDictGenerated), "IS_CHUNKDICT_GENERATED"},
	{uint64(BlobSeparatedPrefetch), "IS_SEPARATED_WITH_PREFETCH_FILES"},
	{uint64(BlobExternal), "EXTERNAL"},
	{uint64(BlobHasTarHeader), "HAS_TAR_HEADER"},
	{uint64(BlobHasTOC), "HAS_TOC"},
	{uint64(BlobCapTarTOC), "CAP_TAR_TOC"},
	{uint64(BlobNoExtTable), "NO_EXTENDED_BLOB_TABLE"},
}

// Blob meta header (section 4.3), directly after the stored chunk info array.
const (
	BlobMetaMagic      = 0xB10BB10B
	BlobMetaHeaderSize = 4096

	BlobMetaMagicAt          = 0    // u32
	BlobMetaFeaturesAt       = 4    // u32
	BlobMetaCompressorAt     = 8    // u32
	BlobMetaEntriesAt        = 12   // u32
	BlobMetaOffsetAt         = 16   // u64
	BlobMetaCompressedAt     = 24   // u64
	BlobMetaUncompressedAt   = 32   // u64
	BlobMetaContextsAt       = 40   // u64: offset in the uncompressed array of the zran or batch table
	BlobMetaContextsSizeAt   = 48   // u64
	BlobMetaContextsCountAt  = 56   // u32
	BlobMetaReservedAt       = 60   //
	BlobMetaMagic2At         = 4092 // u32
	BlobMetaMaxV1            = 16 * MaxChunksPerBlob
	BlobMetaMaxV2            = 24 * MaxChunksPerBlob
	BlobMetaArrayCacheAligns = 4096 // the array is padded to it in a cache's .blob.meta file
)

// Chunk info array, version 1 (section 4.4): u64 uncompressed, u64 compressed.
const (
	ChunkInfoV1Size = 16

	chunkV1OffMask  = 0x0FFF_FFFF_F000 // bits 12..43 of the first word, in place
	chunkV1SizeHigh = 0xf00
	chunkV1COffMask = 0xff_ffff_ffff
	chunkV1CHigh    = 0xf00_0000_0000
)

// Chunk info array, version 2 (section 4.4): u64 uncompressed, u64 compressed, u64 data.
const (
	ChunkInfoV2Size = 24

	ChunkV2Compressed = 0x01
	ChunkV2Zran       = 0x02
	ChunkV2Batch      = 0x04
	ChunkV2Encrypted  = 0x08
	ChunkV2HasCRC     = 0x10
)

// PackChunkInfoV1 encodes c as a version 1 chunk info. Offsets must be in range
// and the uncompressed one a multiple of 4096.
func PackChunkInfoV1(c *Chunk) (uncomp, comp uint64) {
	us, cs := uint64(c.Size-1), uint64(c.CompressedSize-1)
	uncomp = us<<44 | c.Off&chunkV1OffMask | us>>12&chunkV1SizeHigh
	comp = cs<<44 | cs<<20&chunkV1CHigh | c.CompressedOff&chunkV1COffMask
	return uncomp, comp
}

// PackChunkInfoV2 encodes c as a version 2 chunk info. A batch chunk has its
// own CompressedSize written as 0, since the batch context carries it.
func PackChunkInfoV2(c *Chunk) (uncomp, comp, data uint64) {
	var flags uint64
	cs := uint64(c.CompressedSize)
	if c.Flags&ChunkCompressed != 0 {
		flags |= ChunkV2Compressed
	}
	if c.Flags&ChunkEncrypted != 0 {
		flags |= ChunkV2Encrypted
	}
	switch {
	case c.Flags&ChunkBatch != 0:
		flags |= ChunkV2Batch
		data, cs = uint64(c.Unit)<<32|uint64(c.UnitOff), 0
	case c.Flags&ChunkZran != 0:
		flags |= ChunkV2Zran
		data = uint64(c.Unit)<<32 | uint64(c.UnitOff)
	case c.Flags&ChunkHasCRC != 0:
		flags |= ChunkV2HasCRC
		data = uint64(c.CRC32)
	}
	uncomp = c.Off>>12&0xffff_ffff | uint64(c.Size-1)<<32 | flags<<56
	comp = c.CompressedOff&chunkV1COffMask | cs<<40
	return uncomp, comp, data
}

// Context tables appended to the chunk info array.
const (
	// Batch context (section 4.6).
	BatchContextSize         = 40
	BatchCompressedAt        = 0 // u32
	BatchUncompressedAt      = 4 // u32
	MaxUnitSize              = MaxChunkSize
	ZranContextSize          = 40 // zran context (section 4.7)
	ZranInOffAt              = 0  // u64
	ZranOutOffAt             = 8  // u64
	ZranDictOffAt            = 16 // u64
	ZranInLenAt              = 24 // u32
	ZranOutLenAt             = 28 // u32
	ZranDictSizeAt           = 32 // u32
	ZranCtxByteAt            = 36 // u8
	ZranCtxBitsAt            = 37 // u8
	ZranMaxDict              = 32768
	ZranContextReservedAfter = 38
)

// Table of contents (section 4.8).
const (
	TOCEntrySize = 128

	TOCFlagsAt          = 0  // u32, low 4 bits
	TOCNameAt           = 8  // [16]byte
	TOCNameSize         = 16 //
	TOCDigestAt         = 24 // [32]byte, SHA-256 of the uncompressed content
	TOCCompressedOffAt  = 56 // u64
	TOCCompressedSizeAt = 64 // u64
	TOCUncompressedAt   = 72 // u64

	TOCFlagMask = 0xf
	TOCFlagNone = 0x1
	TOCFlagZstd = 0x2
	TOCFlagLZ4  = 0x4

	TOCMinSize    = 512
	TOCMaxSize    = 65536
	TOCMaxEntries = 28   // when it was found by reading the tail
	TOCTailSize   = 4096 // bytes of the tail that are read to find it

	TarHeaderSize = 512
)

// Names of the sections of a data blob (section 4.1), in tar headers and ToC entries.
const (
	SectionBlob       = "image.blob"
	SectionMeta       = "blob.meta"
	SectionMetaHeader = "blob.meta.header"
	SectionDigest     = "blob.digest"
	SectionBootstrap  = "image.boot"
	SectionTOC        = "rafs.blob.toc"
)
