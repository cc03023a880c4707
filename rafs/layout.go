package rafs

import (
	"fmt"
	"math/bits"
	"strings"
)

// Sizes and limits used by every version (RAFS, section 0.3).
const (
	DefaultChunkSize = 0x100000  // 1 MiB
	MinChunkSize     = 0x1000    // 4 KiB
	MaxChunkSize     = 0x1000000 // 16 MiB; chunk sizes are powers of two

	MaxChunksPerBlob = 1 << 24  // what a reader accepts
	MaxChunkNumber   = 0xfffffe // the highest chunk index a builder hands out

	MaxNameLen      = 255     // bytes of a file name
	MaxBlobIDLen    = 64      // bytes of a blob id as v6 stores it
	MaxXattrNameLen = 255     // bytes of a full xattr name
	MaxXattrValue   = 65536   // bytes of an xattr value in v5
	MaxXattrArea    = 8 << 20 // bytes of all xattrs of one inode that we are willing to search (ours)

	DigestSize = 32
)

// PlaceholderBlobID stands in a blob table for the blob that the bootstrap
// itself is part of, whose id is not known while it is written (section 4.10).
var PlaceholderBlobID = strings.Repeat("x", MaxBlobIDLen)

// SuperFlags are the feature flags of the v5 super block and of the v6 extended
// super block (section 0.4).
type SuperFlags uint64

// Super block flags (section 0.4). Any bit outside FlagsKnown makes a bootstrap invalid.
const (
	FlagCompressionNone    SuperFlags = 0x0000_0001
	FlagCompressionLZ4     SuperFlags = 0x0000_0002
	FlagHashBLAKE3         SuperFlags = 0x0000_0004
	FlagHashSHA256         SuperFlags = 0x0000_0008
	FlagExplicitUIDGID     SuperFlags = 0x0000_0010 // clear: present the server's own uid and gid
	FlagHasXattr           SuperFlags = 0x0000_0020
	FlagCompressionGzip    SuperFlags = 0x0000_0040
	FlagCompressionZstd    SuperFlags = 0x0000_0080
	FlagInlinedChunkDigest SuperFlags = 0x0000_0100 // v6: every blob has a digest array
	FlagTarfs              SuperFlags = 0x0000_0200 // v6: blobs are plain tar files
	FlagEncryptionNone     SuperFlags = 0x0100_0000
	FlagEncryptionXTS      SuperFlags = 0x0200_0000
	FlagsReserved          SuperFlags = 0xfc00_0000 // six compatible bits, accepted and ignored

	FlagsCompression = FlagCompressionNone | FlagCompressionLZ4 | FlagCompressionGzip | FlagCompressionZstd
	FlagsHash        = FlagHashBLAKE3 | FlagHashSHA256
	FlagsKnown       = FlagsCompression | FlagsHash | FlagExplicitUIDGID | FlagHasXattr |
		FlagInlinedChunkDigest | FlagTarfs | FlagEncryptionNone | FlagEncryptionXTS | FlagsReserved
)

// Compressor decodes the compressor bits in the order of section 0.4.
func (f SuperFlags) Compressor() Compressor {
	switch {
	case f&FlagCompressionNone != 0:
		return CompressorNone
	case f&FlagCompressionLZ4 != 0:
		return CompressorLZ4
	case f&FlagCompressionGzip != 0:
		return CompressorGzip
	case f&FlagCompressionZstd != 0:
		return CompressorZstd
	}
	return CompressorLZ4
}

// Digester decodes the hash bits in the order of section 0.4.
func (f SuperFlags) Digester() Digester {
	if f&FlagsHash == FlagHashSHA256 {
		return DigesterSHA256
	}
	return DigesterBLAKE3
}

// CompressorFlag gives the super block flag of a compressor, or 0.
func CompressorFlag(c Compressor) SuperFlags {
	switch c {
	case CompressorNone:
		return FlagCompressionNone
	case CompressorLZ4:
		return FlagCompressionLZ4
	case CompressorGzip:
		return FlagCompressionGzip
	case CompressorZstd:
		return FlagCompressionZstd
	}
	return 0
}

// DigesterFlag gives the super block flag of a digester, or 0.
func DigesterFlag(d Digester) SuperFlags {
	switch d {
	case DigesterBLAKE3:
		return FlagHashBLAKE3
	case DigesterSHA256:
		return FlagHashSHA256
	}
	return 0
}

// String names the set flags, joined by "|"; unknown bits are in hex.
func (f SuperFlags) String() string { return flagNames(uint64(f), superFlagNames) }

var superFlagNames = []flagName{
	{uint64(FlagCompressionNone), "COMPRESSION_NONE"},
	{uint64(FlagCompressionLZ4), "COMPRESSION_LZ4"},
	{uint64(FlagHashBLAKE3), "HASH_BLAKE3"},
	{uint64(FlagHashSHA256), "HASH_SHA256"},
	{uint64(FlagExplicitUIDGID), "EXPLICIT_UID_GID"},
	{uint64(FlagHasXattr), "HAS_XATTR"},
	{uint64(FlagCompressionGzip), "COMPRESSION_GZIP"},
	{uint64(FlagCompressionZstd), "COMPRESSION_ZSTD"},
	{uint64(FlagInlinedChunkDigest), "INLINED_CHUNK_DIGEST"},
	{uint64(FlagTarfs), "TARFS_MODE"},
	{uint64(FlagEncryptionNone), "ENCRYPTION_NONE"},
	{uint64(FlagEncryptionXTS), "ENCRYPTION_AES_128_XTS"},
}

type flagName struct {
	bit  uint64
	name string
}

// flagNames renders the bits of v, lowest first, with the names of a table.
func flagNames(v uint64, names []flagName) string {
	if v == 0 {
		return "0"
	}
	var parts []string
	for v != 0 {
		bit := uint64(1) << bits.TrailingZeros64(v)
		v &^= bit
		name := fmt.Sprintf("%#x", bit)
		for _, n := range names {
			if n.bit == bit {
				name = n.name
			}
		}
		parts = append(parts, name)
	}
	return strings.Join(parts, "|")
}

// ValidChunkSize reports whether n is a power of two in [MinChunkSize, MaxChunkSize].
func ValidChunkSize(n uint32) bool {
	return n >= MinChunkSize && n <= MaxChunkSize && n&(n-1) == 0
}

// File type bits of an inode's mode, as stat(2) has them.
const (
	ModeType    = 0o170000
	ModeSocket  = 0o140000
	ModeSymlink = 0o120000
	ModeRegular = 0o100000
	ModeBlock   = 0o060000
	ModeDir     = 0o040000
	ModeChar    = 0o020000
	ModeFIFO    = 0o010000
)

// Directory entry types, the DT_ values of readdir(3).
const (
	DTUnknown = 0
	DTFIFO    = 1
	DTChar    = 2
	DTDir     = 4
	DTBlock   = 6
	DTRegular = 8
	DTSymlink = 10
	DTSocket  = 12
)

// modeDT gives the DT_ value of a mode.
func modeDT(mode uint32) uint8 { return uint8(mode & ModeType >> 12) }

// validType reports whether the type bits of mode are one of the seven types.
func validType(mode uint32) bool {
	switch mode & ModeType {
	case ModeSocket, ModeSymlink, ModeRegular, ModeBlock, ModeDir, ModeChar, ModeFIFO:
		return true
	}
	return false
}
