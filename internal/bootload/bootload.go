// Package bootload opens the bootstrap of an image, wherever it is: a file of its
// own, or the last part of a data blob.
//
//	bare bootstrap          blob with a ToC                    blob of an older builder
//	[super block ...]       [data]..[image.boot][hdr][ToC][hdr] [data]..[image.boot][hdr]
//	 mapped in place                 `-- decompressed, compared    `-- copied
//	                                     with the ToC's digest
//
// A bootstrap that comes out of a blob lies in a sealed memory file, not on the
// Go heap, and its blob is named after the file (RAFS, section 4.10).
//
// Nothing in the file is trusted: sizes are compared with the file before memory
// is taken for them, and no more than MaxInlined bytes are unpacked. The Bootstrap
// is immutable; Close only after the last use of its Image.
//
// Source: RAFS, sections 0.5 (version detection) and 4.8 (ToC).
package bootload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"vrafs/internal/codec"
	"vrafs/internal/opener"
	"vrafs/rafs"
)

// ErrNotImage is the class of files that hold no bootstrap at all.
var ErrNotImage = errors.New("no RAFS bootstrap")

// MaxInlined bounds the size in bytes of a bootstrap inside a blob.
const MaxInlined = 1 << 30

// maxSections bounds the walk over the parts of a blob from its end; no builder
// writes more than five.
const maxSections = 16

// A Bootstrap is an opened image with the memory it lives in.
type Bootstrap struct {
	Image *rafs.Image
	// Name is the base name of the file, which names the blob it was taken from.
	Name string
	// Inlined says that the file is a data blob with the bootstrap inside.
	Inlined bool

	mem *opener.Mapping
}

// Bytes is the whole bootstrap. It must not be used after Close.
func (b *Bootstrap) Bytes() []byte { return b.mem.Bytes() }

// Close releases the memory. The Image must no longer be used.
func (b *Bootstrap) Close() error { return b.mem.Close() }

// Open opens the bootstrap in the regular file at path. Errors name the path;
// malformed ones are of class ErrNotImage, rafs.ErrCorrupt or
// rafs.ErrUnsupported.
func Open(o opener.Opener, path string) (*Bootstrap, error) {
	f, fi, err := opener.Regular(o, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	name := filepath.Base(path)
	head := make([]byte, min(int64(headSize), fi.Size()))
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// The end of the file decides first: the data of a blob may begin with a file
	// that is a bootstrap itself, but no bootstrap ends as such a blob does.
	part, err := find(f, uint64(fi.Size()))
	if err == nil || rafs.Detect(head) == 0 {
		var b *Bootstrap
		if err == nil {
			b, err = extract(f, part, name)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return b, nil
	}
	mem, err := opener.MapBootstrap(o, path)
	if err != nil {
		return nil, err
	}
	b, err := open(mem, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// headSize is what rafs.Detect wants to see.
const headSize = 2048

// open parses the tables; it closes mem if it fails.
func open(mem *opener.Mapping, name string) (*Bootstrap, error) {
	im, err := rafs.Open(mem.Bytes(), rafs.Options{Name: name})
	if err != nil {
		mem.Close()
		return nil, err
	}
	return &Bootstrap{Image: im, Name: name, mem: mem}, nil
}

// Extract opens the bootstrap inside the data blob r of size bytes. name is the
// blob's id.
func Extract(r io.ReaderAt, size uint64, name string) (*Bootstrap, error) {
	p, err := find(r, size)
	if err != nil {
		return nil, err
	}
	return extract(r, p, name)
}

func extract(r io.ReaderAt, p rafs.TOCEntry, name string) (*Bootstrap, error) {
	mem, err := unpack(r, p)
	if err != nil {
		return nil, fmt.Errorf("inlined bootstrap at %#x: %w", p.Off, err)
	}
	b, err := open(mem, name)
	if err != nil {
		return nil, fmt.Errorf("inlined bootstrap at %#x: %w", p.Off, err)
	}
	b.Inlined = true
	return b, nil
}

// find looks for the section image.boot: in the ToC, if the blob has one, else
// from tar header to tar header. An entry found by its header only has no digest.
func find(r io.ReaderAt, size uint64) (rafs.TOCEntry, error) {
	n := min(rafs.TOCTailSize, size&^(rafs.TOCEntrySize-1))
	if n < rafs.TarHeaderSize {
		return rafs.TOCEntry{}, fmt.Errorf("%w: only %d bytes", ErrNotImage, size)
	}
	tail := make([]byte, n)
	if err := readFull(r, tail, size-n); err != nil {
		return rafs.TOCEntry{}, err
	}
	last, err := rafs.ParseTailHeader(tail[n-rafs.TarHeaderSize:], size)
	if err != nil {
		return rafs.TOCEntry{}, fmt.Errorf("%w: neither a bootstrap nor the end of a data blob (%w)", ErrNotImage, err)
	}
	if last.Name == rafs.SectionTOC {
		toc, err := rafs.ParseTOC(tail, size)
		if err != nil {
			return rafs.TOCEntry{}, err
		}
		if e, ok := toc.Entry(rafs.SectionBootstrap); ok {
			return e, nil
		}
		return rafs.TOCEntry{}, fmt.Errorf("%w: this data blob's bootstrap is in another file", ErrNotImage)
	}
	return walk(r, last)
}

// walk follows the tar headers towards the beginning of the file.
func walk(r io.ReaderAt, s rafs.Section) (rafs.TOCEntry, error) {
	header := make([]byte, rafs.TarHeaderSize)
	for range maxSections {
		if s.Name == rafs.SectionBootstrap {
			return rafs.TOCEntry{Name: s.Name, Off: s.Off, CompressedSize: s.Size, UncompressedSize: s.Size}, nil
		}
		if s.Off < rafs.TarHeaderSize {
			break
		}
		if err := readFull(r, header, s.Off-rafs.TarHeaderSize); err != nil {
			return rafs.TOCEntry{}, err
		}
		var err error
		if s, err = rafs.ParseTailHeader(header, s.Off); err != nil {
			break
		}
	}
	return rafs.TOCEntry{}, fmt.Errorf("%w: this data blob's bootstrap is in another file", ErrNotImage)
}

// unpack reads the section, which find has shown to lie in the file.
func unpack(r io.ReaderAt, e rafs.TOCEntry) (*opener.Mapping, error) {
	if e.CompressedSize > MaxInlined || e.UncompressedSize > MaxInlined || e.UncompressedSize == 0 {
		return nil, &rafs.FormatError{Off: e.Off, Field: "toc.size", Why: fmt.Sprintf("%d bytes, %d unpacked", e.CompressedSize, e.UncompressedSize)}
	}
	section := io.NewSectionReader(r, int64(e.Off), int64(e.CompressedSize))
	if e.Compressor == rafs.CompressorNone {
		if e.CompressedSize != e.UncompressedSize {
			return nil, &rafs.FormatError{Off: e.Off, Field: "toc.uncompressed_size", Why: fmt.Sprintf("%d of %d stored bytes", e.UncompressedSize, e.CompressedSize)}
		}
		mem, err := opener.Seal(section, int64(e.UncompressedSize))
		if err != nil {
			return nil, err
		}
		return verify(mem, e)
	}
	packed, err := io.ReadAll(section)
	if err != nil {
		return nil, err
	}
	var d codec.Decoder
	plain, err := d.DecompressLimit(packed, e.Compressor, int(e.UncompressedSize))
	if err != nil {
		return nil, err
	}
	if uint64(len(plain)) != e.UncompressedSize {
		return nil, &rafs.FormatError{Off: e.Off, Field: "toc.uncompressed_size", Why: fmt.Sprintf("%d, unpacked are %d", e.UncompressedSize, len(plain))}
	}
	mem, err := opener.Seal(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		return nil, err
	}
	return verify(mem, e)
}

// verify compares the sealed copy with the ToC's digest, if there is one.
func verify(mem *opener.Mapping, e rafs.TOCEntry) (*opener.Mapping, error) {
	if e.Digest.IsZero() {
		return mem, nil
	}
	if got := codec.Sum(rafs.DigesterSHA256, mem.Bytes()); got != e.Digest {
		mem.Close()
		return nil, &rafs.FormatError{Off: e.Off, Field: "toc.digest", Why: fmt.Sprintf("the ToC says %v, the bytes are %v", e.Digest, got)}
	}
	return mem, nil
}

func readFull(r io.ReaderAt, p []byte, off uint64) error {
	n, err := r.ReadAt(p, int64(off))
	switch {
	case n == len(p):
		return nil
	case err == nil || err == io.EOF:
		return io.ErrUnexpectedEOF
	}
	return err
}
