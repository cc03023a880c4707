package rafs

import (
	"bytes"
	"crypto/sha256"
)

// A Section is one part of a data blob file, named by the tar header after it.
type Section struct {
	Name string
	Off  uint64 // in the file
	Size uint64
}

// Fields of a tar header, as the sections of a data blob use it (section 4.1).
const (
	tarNameSize   = 100
	tarSizeAt     = 124
	tarSizeLen    = 12
	tarChecksumAt = 148
	tarChecksum   = 8
	tarTypeAt     = 156
	tarMagicAt    = 257
	tarMagic      = "ustar"
)

// ParseTailHeader reads the tar header that ends at offset end of a data blob
// file; b holds its 512 bytes. It gives the section before the header; the next
// header, if any, ends at Section.Off. Walking a file this way ends, since each
// section starts below the one after it.
func ParseTailHeader(b []byte, end uint64) (Section, error) {
	if len(b) != TarHeaderSize || end < TarHeaderSize {
		return Section{}, corrupt(end, "tar.header", "%d bytes before offset %d", len(b), end)
	}
	at := end - TarHeaderSize
	if string(b[tarMagicAt:][:len(tarMagic)]) != tarMagic {
		return Section{}, corrupt(at+tarMagicAt, "tar.magic", "%q", b[tarMagicAt:][:len(tarMagic)])
	}
	if t := b[tarTypeAt]; t != '0' && t != 0 {
		return Section{}, corrupt(at+tarTypeAt, "tar.typeflag", "%q", t)
	}
	sum := uint64(' ' * tarChecksum)
	for i, c := range b {
		if i < tarChecksumAt || i >= tarChecksumAt+tarChecksum {
			sum += uint64(c)
		}
	}
	if want, ok := octal(b[tarChecksumAt:][:tarChecksum]); !ok || want != sum {
		return Section{}, corrupt(at+tarChecksumAt, "tar.checksum", "%#o, computed %#o", want, sum)
	}
	size, ok := octal(b[tarSizeAt:][:tarSizeLen])
	if !ok || size > at {
		return Section{}, corrupt(at+tarSizeAt, "tar.size", "%d of the %d bytes before", size, at)
	}
	name, _, _ := bytes.Cut(b[:tarNameSize], []byte{0})
	return Section{Name: string(name), Off: at - size, Size: size}, nil
}

// octal reads a number field of a tar header, padded by spaces and NUL. Large
// sizes are in the GNU base-256 form.
func octal(b []byte) (uint64, bool) {
	var v uint64
	if b[0]&0x80 != 0 {
		for i, c := range b {
			if i == 0 {
				c &= 0x7f
			}
			if v>>55 != 0 {
				return 0, false
			}
			v = v<<8 | uint64(c)
		}
		return v, true
	}
	b = bytes.Trim(b, " \x00")
	if len(b) == 0 || len(b) > 21 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '7' {
			return 0, false
		}
		v = v<<3 | uint64(c-'0')
	}
	return v, true
}

// A TOC is the table of contents at the end of a data blob file (section 4.8).
type TOC struct {
	entries []TOCEntry
	digest  Digest
	size    uint64
}

// A TOCEntry describes one section of a data blob.
type TOCEntry struct {
	Name             string
	Compressor       Compressor
	Digest           Digest // SHA-256 of the uncompressed, unencrypted content
	Off              uint64 // in the blob file; not reliable for SectionBlob
	CompressedSize   uint64
	UncompressedSize uint64
}

// Range gives the entry's place as a Section.
func (e *TOCEntry) Range() Section { return Section{e.Name, e.Off, e.CompressedSize} }

// ParseTOC finds the ToC at the end of a blob file of fileSize bytes. tail holds
// the last bytes of it: TOCTailSize, or all if the file is shorter, or exactly
// Blob.TOCSize. A blob without a ToC is an ErrUnsupported error; its last
// section may still be read with ParseTailHeader.
func ParseTOC(tail []byte, fileSize uint64) (*TOC, error) {
	n := uint64(len(tail))
	if n < TarHeaderSize || n > fileSize || n > TOCMaxSize {
		return nil, corrupt(fileSize, "toc", "tail of %d bytes of a file of %d", n, fileSize)
	}
	s, err := ParseTailHeader(tail[n-TarHeaderSize:], fileSize)
	if err != nil {
		return nil, err
	}
	if s.Name != SectionTOC {
		return nil, unsupported(fileSize-TarHeaderSize, "toc", "the last section is %q", s.Name)
	}
	if s.Size%TOCEntrySize != 0 || s.Size > n-TarHeaderSize {
		return nil, corrupt(s.Off, "toc.size", "%d in a tail of %d bytes", s.Size, n)
	}
	t := &TOC{size: s.Size + TarHeaderSize}
	b := tail[n-t.size:]
	t.digest = sha256.Sum256(b)
	for at := s.Off; len(b) > TarHeaderSize; at += TOCEntrySize {
		e, err := parseTOCEntry(b[:TOCEntrySize], at, s.Off)
		if err != nil {
			return nil, err
		}
		if _, again := t.Entry(e.Name); again {
			return nil, corrupt(at+TOCNameAt, "toc.name", "%q twice", e.Name)
		}
		t.entries = append(t.entries, e)
		b = b[TOCEntrySize:]
	}
	return t, nil
}

// parseTOCEntry reads one entry at offset at; sections end below limit.
func parseTOCEntry(b []byte, at, limit uint64) (TOCEntry, error) {
	name, _, _ := bytes.Cut(b[TOCNameAt:][:TOCNameSize], []byte{0})
	e := TOCEntry{
		Name:             string(name),
		Digest:           Digest(b[TOCDigestAt:]),
		Off:              le64(b[TOCCompressedOffAt:]),
		CompressedSize:   le64(b[TOCCompressedSizeAt:]),
		UncompressedSize: le64(b[TOCUncompressedAt:]),
	}
	switch flags := le32(b[TOCFlagsAt:]); flags & TOCFlagMask {
	case TOCFlagNone:
		e.Compressor = CompressorNone
	case TOCFlagZstd:
		e.Compressor = CompressorZstd
	case TOCFlagLZ4:
		e.Compressor = CompressorLZ4
	default:
		return e, unsupported(at+TOCFlagsAt, "toc.flags", "%#x", flags)
	}
	if e.Name == "" {
		return e, corrupt(at+TOCNameAt, "toc.name", "empty")
	}
	// The place of the chunk data is wrong in images of builder 2.2; nobody uses it.
	if e.Name != SectionBlob && (e.Off > limit || e.CompressedSize > limit-e.Off) {
		return e, corrupt(at+TOCCompressedOffAt, "toc.compressed_offset", "%q: %d bytes at %#x", e.Name, e.CompressedSize, e.Off)
	}
	return e, nil
}

// Entry gives the entry of a section by name (the Section constants).
func (t *TOC) Entry(name string) (TOCEntry, bool) {
	for _, e := range t.entries {
		if e.Name == name {
			return e, true
		}
	}
	return TOCEntry{}, false
}

// Entries gives all entries in file order. The slice must not be changed.
func (t *TOC) Entries() []TOCEntry { return t.entries }

// Size gives the bytes of the entries and their tar header (Blob.TOCSize).
func (t *TOC) Size() uint64 { return t.size }

// Digest gives SHA-256 of the entries and their tar header (Blob.TOCDigest).
func (t *TOC) Digest() Digest { return t.digest }

// Verify compares the ToC with what the blob table says of it, if it does.
func (t *TOC) Verify(b *Blob) error {
	if b.TOCSize == 0 || b.TOCDigest.IsZero() {
		return nil
	}
	if t.size != uint64(b.TOCSize) || t.digest != b.TOCDigest {
		return corrupt(0, "toc.digest", "%v of %d bytes, the blob table says %v of %d", t.digest, t.size, b.TOCDigest, b.TOCSize)
	}
	return nil
}
