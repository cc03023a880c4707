package rafs

// Names ending in At are byte offsets of fields inside their structure; names
// ending in Size are the structure's bytes. All integers are little-endian.

// RAFS v5 super block (section 1.2), at offset 0.
const (
	V5Magic     = 0x52414653 // bytes 53 46 41 52
	V5FSVersion = 0x500

	V5SuperSize = 8192

	V5SuperMagicAt           = 0  // u32
	V5SuperVersionAt         = 4  // u32
	V5SuperSizeAt            = 8  // u32, V5SuperSize
	V5SuperBlockSizeAt       = 12 // u32, the chunk size
	V5SuperFlagsAt           = 16 // u64, SuperFlags
	V5SuperInodesCountAt     = 24 // u64, unique inodes
	V5SuperInodeTableAt      = 32 // u64, offset
	V5SuperPrefetchTableAt   = 40 // u64, offset
	V5SuperBlobTableAt       = 48 // u64, offset
	V5SuperInodeEntriesAt    = 56 // u32, names in the tree
	V5SuperPrefetchEntriesAt = 60 // u32
	V5SuperBlobTableSizeAt   = 64 // u32, bytes
	V5SuperExtEntriesAt      = 68 // u32, entries of the extended blob table
	V5SuperExtTableAt        = 72 // u64, offset
	V5SuperReservedAt        = 80
)

// Tables of RAFS v5 (sections 1.3 to 1.5).
const (
	V5Align              = 8 // every region starts at a multiple of it
	V5MaxSize            = 0x80000000
	V5InodeEntrySize     = 4       // u32: inode offset >> V5InodeShift
	V5InodeShift         = 3       //
	V5MaxInodeEntry      = 1 << 29 // exclusive
	V5PrefetchEntrySize  = 4       // u32 i_ino
	V5BlobEntryFixedSize = 8       // u32 prefetch offset, u32 prefetch size; the id follows
	V5MaxBlobs           = 1024    // ours; the format sets no limit

	V5ExtSize           = 64
	V5ExtChunkCountAt   = 0  // u32
	V5ExtFeaturesAt     = 4  // u32, BlobFeatures
	V5ExtUncompressedAt = 8  // u64
	V5ExtCompressedAt   = 16 // u64
	V5ExtReservedAt     = 24
)

// RAFS v5 inode (section 1.6). Name, symlink target, xattrs and chunk infos
// follow, each padded to V5Align.
const (
	V5InodeSize = 128

	V5InodeDigestAt      = 0   // [32]byte
	V5InodeParentAt      = 32  // u64
	V5InodeInoAt         = 40  // u64
	V5InodeUIDAt         = 48  // u32
	V5InodeGIDAt         = 52  // u32
	V5InodeProjIDAt      = 56  // u32
	V5InodeModeAt        = 60  // u32
	V5InodeSizeAt        = 64  // u64
	V5InodeBlocksAt      = 72  // u64, 512-byte units
	V5InodeFlagsAt       = 80  // u64
	V5InodeNlinkAt       = 88  // u32
	V5InodeChildIndexAt  = 92  // u32
	V5InodeChildCountAt  = 96  // u32: children, or chunk infos of a regular file
	V5InodeNameSizeAt    = 100 // u16
	V5InodeSymlinkSizeAt = 102 // u16
	V5InodeRdevAt        = 104 // u32
	V5InodeMtimeNsecAt   = 108 // u32
	V5InodeMtimeAt       = 112 // u64, seconds
	V5InodeReservedAt    = 120

	V5RootIno = 1

	V5MaxNameSize = 256 // what readers tolerate in i_name_size

	V5XattrHeaderSize = 8 // u64 bytes of all pairs
	V5XattrPairSize   = 4 // u32 bytes of name, NUL and value
)

// Flags of a v5 inode (section 1.6).
const (
	V5InodeSymlink  uint64 = 0x1
	V5InodeHardlink uint64 = 0x2
	V5InodeXattr    uint64 = 0x4
	V5InodeHasHole  uint64 = 0x8
)

// Chunk info (section 1.11), used by v5 inodes and by the v6 chunk table. Its
// flags are the low ChunkFlags.
const (
	ChunkInfoSize = 80

	ChunkInfoDigestAt          = 0  // [32]byte
	ChunkInfoBlobAt            = 32 // u32
	ChunkInfoFlagsAt           = 36 // u32
	ChunkInfoCompressedSizeAt  = 40 // u32
	ChunkInfoSizeAt            = 44 // u32
	ChunkInfoCompressedOffAt   = 48 // u64
	ChunkInfoUncompressedOffAt = 56 // u64
	ChunkInfoFileOffAt         = 64 // u64
	ChunkInfoIndexAt           = 72 // u32
	ChunkInfoCRCAt             = 76 // u32
)
