package rafs

// EROFS super block as RAFS v6 uses it (section 2.2).
const (
	V6SuperOff  = 1024
	V6SuperSize = 128
	V6Magic     = 0xE0F5E1E2

	V6SuperMagicAt           = 0  // u32
	V6SuperChecksumAt        = 4  // u32, 0
	V6SuperCompatAt          = 8  // u32, contains V6CompatRAFS
	V6SuperBlkSzBitsAt       = 12 // u8
	V6SuperExtSlotsAt        = 13 // u8, 0
	V6SuperRootNidAt         = 14 // u16
	V6SuperInosAt            = 16 // u64, names in the tree
	V6SuperBuildTimeAt       = 24 // u64
	V6SuperBuildNsecAt       = 32 // u32
	V6SuperBlocksAt          = 36 // u32
	V6SuperMetaBlkaddrAt     = 40 // u32
	V6SuperXattrBlkaddrAt    = 44 // u32, 0 as written
	V6SuperUUIDAt            = 48 // [16]byte
	V6SuperVolumeAt          = 64 // [16]byte
	V6SuperIncompatAt        = 80 // u32, V6IncompatWanted
	V6SuperCompressionAt     = 84 // u16, 0
	V6SuperExtraDevicesAt    = 86 // u16, number of blobs
	V6SuperDevtSlotOffAt     = 88 // u16, V6DevtSlotOff
	V6SuperDirBlkBitsAt      = 90 // u8, 0
	V6SuperXattrPrefixesAt   = 91 // u8, 0
	V6SuperXattrPrefixAddrAt = 92 // u32, 0
	V6SuperPackedNidAt       = 96 // u64, 0

	V6CompatChecksum uint32 = 0x1 // never set: there is no checksum
	V6CompatRAFS     uint32 = 0x4000_0000

	V6IncompatChunkedFile uint32 = 0x4
	V6IncompatDeviceTable uint32 = 0x8
	V6IncompatWanted             = V6IncompatChunkedFile | V6IncompatDeviceTable

	V6DevtSlotOff = 11 // the device table starts at slot 11 of 128 bytes

	V6BlkSzBits      = 12
	V6BlkSzBitsTarfs = 9
	V6Align          = 4096 // of tables, in both block sizes

	V6RootOff  = 4096 // the root inode's place in the metadata area, so that nid 0 is free
	V6MaxBlobs = 254
	V6MaxNid   = 1 << 39 // exclusive; decides the width of node ids

	V6MaxUncompressed = 1 << 44 // bytes of a blob
	V6MaxCompressed   = 1 << 40

	V6MappedAlign = 0x80000 // mapped_blkaddr alignment as written; readers take what is stored
)

// incompatNames are EROFS feature_incompat bits, none of which but the two
// above occur in RAFS.
var incompatNames = []flagName{
	{0x1, "ZERO_PADDING"},
	{0x2, "COMPR_CFGS"},
	{0x4, "CHUNKED_FILE"},
	{0x8, "DEVICE_TABLE"},
	{0x10, "ZTAILPACKING"},
	{0x20, "FRAGMENTS"},
	{0x40, "XATTR_PREFIXES"},
	{0x80, "48BIT"},
	{0x100, "METABOX"},
}

// RAFS v6 extended super block (section 2.3).
const (
	V6ExtOff  = 1152
	V6ExtSize = 256

	V6ExtFlagsAt             = 0  // u64, SuperFlags
	V6ExtBlobTableAt         = 8  // u64, offset
	V6ExtBlobTableSizeAt     = 16 // u32, bytes
	V6ExtChunkSizeAt         = 20 // u32
	V6ExtChunkTableAt        = 24 // u64, offset
	V6ExtChunkTableSizeAt    = 32 // u64, bytes
	V6ExtPrefetchTableAt     = 40 // u64, offset
	V6ExtPrefetchTableSizeAt = 48 // u32, bytes
	V6ExtReservedAt          = 52

	V6PrefetchEntrySize = 4 // u32 nid
)

// Device slot (section 2.4).
const (
	V6DeviceOff  = 1408 // V6DevtSlotOff * V6DeviceSize
	V6DeviceSize = 128

	V6DeviceTagAt           = 0  // [64]byte, blob id
	V6DeviceBlocksAt        = 64 // u32
	V6DeviceMappedBlkaddrAt = 68 // u32
	V6DeviceReservedAt      = 72
)

// Blob table entry (section 2.5).
const (
	V6BlobSize = 256

	V6BlobIDAt               = 0   // [64]byte
	V6BlobIndexAt            = 64  // u32
	V6BlobChunkSizeAt        = 68  // u32
	V6BlobChunkCountAt       = 72  // u32
	V6BlobCompressorAt       = 76  // u32
	V6BlobDigesterAt         = 80  // u32
	V6BlobFeaturesAt         = 84  // u32
	V6BlobCompressedAt       = 88  // u64
	V6BlobUncompressedAt     = 96  // u64
	V6BlobTOCSizeAt          = 104 // u32
	V6BlobCICompressorAt     = 108 // u32
	V6BlobCIOffsetAt         = 112 // u64
	V6BlobCICompressedAt     = 120 // u64
	V6BlobCIUncompressedAt   = 128 // u64
	V6BlobTOCDigestAt        = 136 // [32]byte
	V6BlobMetaDigestAt       = 168 // [32]byte: digest of the meta file, or the key
	V6BlobMetaSizeAt         = 200 // u64: size of the meta file, or the first half of the IV
	V6BlobCipherIVAt         = 208 // [8]byte, second half of the IV
	V6BlobCipherAt           = 216 // u32
	V6BlobReservedAt         = 220
	V6BlobIDSize             = 64
	V6BlobKeyAt              = V6BlobMetaDigestAt // [32]byte, if encrypted
	V6BlobIVAt               = V6BlobMetaSizeAt   // [16]byte, if encrypted
	V6BlobUncompressedAligns = 4096               // uncompressed sizes are multiples, unless tarfs or external
)

// Inodes (section 2.8). Bit 0 of i_format selects the extended form, bits 1 to 3
// the data layout.
const (
	V6SlotSize     = 32 // nids count slots of this size
	V6CompactSize  = 32
	V6ExtendedSize = 64

	V6InodeFormatAt      = 0 // u16
	V6InodeXattrICountAt = 2 // u16
	V6InodeModeAt        = 4 // u16

	V6CompactNlinkAt     = 6  // u16
	V6CompactSizeAt      = 8  // u32
	V6CompactReservedAt  = 12 // u32, 0
	V6CompactUAt         = 16 // u32
	V6CompactInoAt       = 20 // u32
	V6CompactUIDAt       = 24 // u16
	V6CompactGIDAt       = 26 // u16
	V6CompactReserved2At = 28 // u32, to the end

	V6ExtendedReservedAt  = 6  // u16, 0
	V6ExtendedSizeAt      = 8  // u64
	V6ExtendedUAt         = 16 // u32
	V6ExtendedInoAt       = 20 // u32
	V6ExtendedUIDAt       = 24 // u32
	V6ExtendedGIDAt       = 28 // u32
	V6ExtendedMtimeAt     = 32 // u64
	V6ExtendedNsecAt      = 40 // u32
	V6ExtendedNlinkAt     = 44 // u32
	V6ExtendedReserved2At = 48 // [16]byte, 0

	V6FormatExtended = 0x1

	V6LayoutFlatPlain  = 0
	V6LayoutFlatInline = 2
	V6LayoutChunkBased = 4

	V6MaxSymlink = 4096
)

// Chunk-based files (section 2.9).
const (
	V6ChunkBitsMask     = 0x1f // log2(chunk size) - blkszbits
	V6ChunkIndexes      = 0x20
	V6ChunkFormatKnown  = V6ChunkBitsMask | V6ChunkIndexes
	V6ChunkAddrSize     = 8
	V6ChunkAddrIndexAt  = 0 // u16, chunk index bits 0 to 15
	V6ChunkAddrDeviceAt = 2 // u8, blob index + 1
	V6ChunkAddrHighAt   = 3 // u8, chunk index bits 16 to 23
	V6ChunkAddrBlkAt    = 4 // u32, block address on the device
)

// Directory entries (section 2.10).
const (
	V6DirentSize = 12

	V6DirentNidAt      = 0  // u64
	V6DirentNameOffAt  = 8  // u16
	V6DirentTypeAt     = 10 // u8
	V6DirentReservedAt = 11 // u8, 0

	V6FTUnknown = 0
	V6FTRegular = 1
	V6FTDir     = 2
	V6FTChar    = 3
	V6FTBlock   = 4
	V6FTFIFO    = 5
	V6FTSocket  = 6
	V6FTSymlink = 7
)

// Inline xattrs (section 2.12).
const (
	V6XattrHeaderSize    = 12 // u32 name filter, u8 shared count, 7 reserved
	V6XattrSharedCountAt = 4
	V6XattrReservedAt    = 5
	V6XattrEntrySize     = 4 // u8 name length, u8 name index, u16 value size
	V6XattrNameLenAt     = 0
	V6XattrNameIndexAt   = 1
	V6XattrValueSizeAt   = 2
	V6XattrAlign         = 4
	V6MaxXattrValue      = 65535

	V6XattrUser         = 1 // user.
	V6XattrACLAccess    = 2 // system.posix_acl_access, no suffix
	V6XattrACLDefault   = 3 // system.posix_acl_default, no suffix
	V6XattrTrusted      = 4 // trusted.
	V6XattrSecurity     = 6 // security.
	V6XattrLongPrefixed = 0x80
)

// xattrPrefixes gives the prefix that each name index stands for; an empty
// string marks an index that RAFS does not use.
var xattrPrefixes = [...]string{
	V6XattrUser:       "user.",
	V6XattrACLAccess:  "system.posix_acl_access",
	V6XattrACLDefault: "system.posix_acl_default",
	V6XattrTrusted:    "trusted.",
	V6XattrSecurity:   "security.",
}
