package rafs

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A Blob describes one data blob of an image, decoded once when it is opened.
type Blob struct {
	Index int    // position in the blob table
	ID    string // effective id: placeholders are replaced (section 4.10)
	RawID string // id as stored in the table

	// MetaID names the file that holds blob.meta: ID itself, or for SEPARATE blobs
	// the id of the other file.
	MetaID string

	ChunkCount uint32
	ChunkSize  uint32 // upper limit of a chunk's uncompressed size
	Compressor Compressor
	Digester   Digester
	Features   BlobFeatures

	Cipher Cipher
	Key    [32]byte // if Features has BlobEncrypted
	IV     [16]byte // the same for every unit of the blob

	CompressedSize   uint64 // see CompressedDataSize
	UncompressedSize uint64 // size of the cache file

	// The stored chunk info array (v6). All are 0 if there is none.
	MetaOff              uint64 // in the file named MetaID
	MetaCompressedSize   uint64 // without the 4 KiB header that follows it
	MetaUncompressedSize uint64 // with the appended zran or batch tables
	MetaCompressor       Compressor
	MetaDigest           Digest // SEPARATE: digest of the file named MetaID
	MetaFileSize         uint64 // SEPARATE: its size

	TOCSize   uint32 // bytes of ToC entries and their tar header; 0 if unknown
	TOCDigest Digest // SHA-256 of them; zero if unknown

	MappedBlk uint32 // v6: block address in the flat view; 0 if there is none
	Blocks    uint32 // v6: blocks in the flat view

	PrefetchOff  uint32 // v5: range of the compressed blob to prefetch
	PrefetchSize uint32 // 0: none
}

// HasMeta reports whether a chunk info array is stored for the blob.
func (b *Blob) HasMeta() bool { return b.MetaUncompressedSize != 0 && !b.Features.IsTarfs() }

// Encrypted reports whether chunks and blob.meta are stored encrypted.
func (b *Blob) Encrypted() bool { return b.Features.Has(BlobEncrypted) }

// LegacyStargz reports whether the blob is an eStargz layer indexed without
// exact sizes, whose chunks can't be validated (sections 4.13 and 9.24).
func (b *Blob) LegacyStargz() bool {
	return b.Compressor == CompressorGzip && !b.Features.Has(BlobChunkInfoV2)
}

// ChunkInfoSize is the size of one record of the chunk info array.
func (b *Blob) ChunkInfoSize() uint64 {
	if b.Features.Has(BlobChunkInfoV2) {
		return ChunkInfoV2Size
	}
	return ChunkInfoV1Size
}

// CompressedDataSize is the end of the chunk data in the blob file, the limit of
// compressed offsets (section 4.10). It is 0 if the image doesn't say.
func (b *Blob) CompressedDataSize() uint64 {
	size := b.CompressedSize
	if b.Features.Has(BlobSeparate) || !b.Features.Has(BlobCapTarTOC) {
		return size
	}
	if b.MetaOff != 0 {
		size = b.MetaOff
	}
	if b.Features.Has(BlobHasTarHeader) && size >= TarHeaderSize {
		size -= TarHeaderSize
	}
	return size
}

// dataLimit is the end of the uncompressed blob, the limit of Chunk.Off+Size;
// false if the image doesn't say.
func (b *Blob) dataLimit() (uint64, bool) {
	if b.Features.Has(BlobNoExtTable) {
		return 0, false
	}
	return alignUp(b.UncompressedSize, V6Align), true
}

// checkBlobID reports what is wrong with a blob id, or "". Ids become file names
// and parts of URLs, so anything that could leave a directory is refused.
func checkBlobID(id string) string {
	switch {
	case id == "":
		return "empty"
	case len(id) > 255:
		return fmt.Sprintf("%d bytes long", len(id))
	case id == "." || id == "..":
		return "not a file name"
	case !utf8.ValidString(id):
		return "not UTF-8"
	}
	for _, r := range id {
		if r < 0x20 || r == 0x7f || r == '/' || r == '\\' {
			return fmt.Sprintf("contains %q", r)
		}
	}
	return ""
}

// idFromName is the blob id that the name of a bootstrap file stands for: its
// last element without any extension (section 4.10).
func idFromName(name string) string {
	name = name[strings.LastIndexByte(name, '/')+1:]
	name, _, _ = strings.Cut(name, ".")
	return name
}

func isHexID(id string) bool {
	if len(id) != MaxBlobIDLen {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// fixIDs replaces ids that were unknown when the bootstrap was written by the
// one its file name gives (section 4.10). Blobs with an inlined bootstrap always
// have such an id. Images of builders before 2.2 do not mark them; there only
// the last blob can be the bootstrap's own, and only a digest is believed to be
// its name.
func (im *Image) fixIDs(name string) {
	id := idFromName(name)
	usable := checkBlobID(id) == ""
	for i := range im.blobs {
		b := &im.blobs[i]
		f := b.Features
		switch {
		case f.Has(BlobInlinedFSMeta | BlobSeparate):
			b.MetaID = b.MetaDigest.String()
			if usable {
				b.MetaID = id
			}
			continue
		case f.Has(BlobSeparate):
			b.MetaID = b.MetaDigest.String()
			continue
		case f.Has(BlobExternal):
		case f.Has(BlobInlinedFSMeta) && usable:
			b.ID = id
		case !f.Has(BlobCapTarTOC) && isHexID(id) && (b.RawID == PlaceholderBlobID || i == len(im.blobs)-1):
			b.ID = id
		}
		b.MetaID = b.ID
	}
}

func alignUp(n, a uint64) uint64 { return (n + a - 1) &^ (a - 1) }
