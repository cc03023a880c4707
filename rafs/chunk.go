package rafs

// A ChunkIndex is the number of a chunk inside its blob, from 0, dense.
type ChunkIndex uint32

// ChunkFlags are the flags of a chunk info record (RAFS, section 1.11), to
// which every other encoding of a chunk is translated.
type ChunkFlags uint32

// Chunk flags.
const (
	ChunkCompressed ChunkFlags = 0x1
	ChunkHole       ChunkFlags = 0x2 // legacy, never written
	ChunkEncrypted  ChunkFlags = 0x4
	ChunkBatch      ChunkFlags = 0x8
	ChunkHasCRC     ChunkFlags = 0x10
	ChunkZran       ChunkFlags = 0x100 // ours: the chunk is a slice of a zran stream
)

// A Chunk says where the bytes of one chunk lie, stored and uncompressed, and
// how to prove them. It is a plain value: no part of it points into the image.
type Chunk struct {
	Blob  uint16     // index into the image's blob table
	Index ChunkIndex // number inside the blob
	Flags ChunkFlags

	Off  uint64 // offset in the uncompressed blob, so also in the cache file
	Size uint32 // uncompressed bytes, 1 to the blob's chunk size

	CompressedOff  uint64 // offset in the blob file (of the unit, for batch and zran chunks)
	CompressedSize uint32 // stored bytes (of the unit, for batch and zran chunks)

	// Batch and zran chunks are a slice of a larger unit. UnitSize is the
	// uncompressed size of that unit and UnitOff this chunk's place in it; Unit is
	// the index of its context. All are 0 for ordinary chunks.
	Unit     uint32
	UnitOff  uint32
	UnitSize uint32

	CRC32     uint32 // CRC-32C of the uncompressed bytes, if ChunkHasCRC is set
	Digest    Digest // digest of the uncompressed bytes, if HasDigest
	HasDigest bool
}

// A Span is a piece of one chunk that a range of a file maps to. Spans of one
// read are in file order; their lengths add up to the range.
type Span struct {
	Blob  uint16     // index into the image's blob table
	Len   uint32     // bytes
	Index ChunkIndex // the chunk that holds the bytes
	Off   uint64     // offset of the first byte in the uncompressed blob (the cache file)
	Ref   uint64     // v5: offset of the chunk info in the bootstrap; v6: 0
}
