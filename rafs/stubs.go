package rafs

import "context"

var errPending = ErrUnsupported

func (im *Image) openV5() error                    { return errPending }
func (im *Image) openV6() error                    { return errPending }
func (im *Image) inodeV5(ino Ino) (Inode, error)   { return Inode{}, errPending }
func (im *Image) inodeV6(ino Ino) (Inode, error)   { return Inode{}, errPending }
func (n *Inode) attrV5() Attr                      { return Attr{} }
func (n *Inode) attrV6() Attr                      { return Attr{} }
func (n *Inode) lookupV5(name []byte) (Ino, error) { return 0, errPending }
func (n *Inode) lookupV6(name []byte) (Ino, error) { return 0, errPending }
func (n *Inode) parentV5() (Ino, error)            { return 0, errPending }
func (n *Inode) parentV6() (Ino, error)            { return 0, errPending }
func (n *Inode) symlinkV6() ([]byte, error)        { return nil, errPending }

// A Dirent is one entry of a directory.
type Dirent struct {
	Name   []byte // view of the bootstrap
	Ino    Ino
	Type   uint8  // DT...
	Cursor uint64 // hand it to Dir to go on after this entry
}

// A DirCursor walks a directory. It is a value and holds no memory of its own.
type DirCursor struct{ n Inode }

// Dir starts a walk at the beginning (cursor 0) or after the entry whose Cursor
// is given. "." and ".." come first, then the children sorted by name.
func (n *Inode) Dir(cursor uint64) (DirCursor, error) { return DirCursor{}, errPending }

// Next stores the next entry in d. It returns false at the end.
func (c *DirCursor) Next(d *Dirent) (bool, error) { return false, errPending }

// Xattr gives the value of an extended attribute by its full name, as a view.
func (n *Inode) Xattr(name []byte) ([]byte, bool, error) { return nil, false, errPending }

// AppendXattrNames appends the full names, each ended by NUL, as listxattr(2) does.
func (n *Inode) AppendXattrNames(dst []byte) ([]byte, error) { return dst, errPending }

// AppendSpans appends the pieces of chunks that hold size bytes at off, clamped
// to the file's size. It allocates only if dst is too short.
func (n *Inode) AppendSpans(dst []Span, off, size uint64) ([]Span, error) { return dst, errPending }

// Chunk gives chunk k of a regular file. In v5 it is complete; in v6 only Blob,
// Index, Off and Size are known.
func (n *Inode) Chunk(k uint64) (Chunk, error) { return Chunk{}, errPending }

// ChunkAt gives the chunk info at a bootstrap offset (v5, Span.Ref).
func (im *Image) ChunkAt(ref uint64) (Chunk, error) { return Chunk{}, errPending }

// ChunkTableLen gives the number of entries of the v6 chunk table.
func (im *Image) ChunkTableLen() uint64 { return 0 }

// ChunkTableEntry gives entry i of the v6 chunk table.
func (im *Image) ChunkTableEntry(i uint64) (Chunk, error) { return Chunk{}, errPending }

// A ChunkIndexTable finds the chunks of one blob by number: 4 bytes per chunk in
// memory that the caller gives.
type ChunkIndexTable struct{}

// IndexBytes gives the memory that BuildIndex needs for a blob.
func (im *Image) IndexBytes(blob int) uint64 { return 0 }

// BuildIndex fills mem, which must be zero and IndexBytes long, with the places
// of the blob's chunks: v5 walks the chunk infos of all inodes, v6 the chunk table.
func (im *Image) BuildIndex(blob int, mem []byte) (*ChunkIndexTable, error) { return nil, errPending }

// Chunk gives chunk i with digest, CRC and flags; false if the image doesn't have it.
func (t *ChunkIndexTable) Chunk(i ChunkIndex) (Chunk, bool) { return Chunk{}, false }

// BlobMeta is the chunk info array of one v6 blob, parsed in place.
type BlobMeta struct{}

// ParseBlobMeta checks header (4096 bytes, plain) against the blob and gives
// access to array, the uncompressed chunk info array with its appended tables.
// Bytes of array after MetaUncompressedSize are ignored.
func ParseBlobMeta(b *Blob, header, array []byte) (*BlobMeta, error) { return nil, errPending }

// Len gives the number of chunks.
func (m *BlobMeta) Len() uint32 { return 0 }

// Chunk gives chunk i; digests are not stored here.
func (m *BlobMeta) Chunk(i ChunkIndex) (Chunk, error) { return Chunk{}, errPending }

// Find gives the chunk that holds an offset of the uncompressed blob.
func (m *BlobMeta) Find(off uint64) (ChunkIndex, bool) { return 0, false }

// A ZranContext is a point where a gzip stream can be entered (section 4.7).
type ZranContext struct {
	InOff, OutOff uint64
	InLen, OutLen uint32
	CtxByte       byte // the byte before InOff, if CtxBits is not 0
	CtxBits       uint8
	Dict          []byte // view of the array
}

// Zran gives zran context i (Chunk.Unit).
func (m *BlobMeta) Zran(i uint32) (ZranContext, error) { return ZranContext{}, errPending }

// A Section is one part of a data blob file.
type Section struct {
	Name string
	Off  uint64
	Size uint64
}

// ParseTailHeader reads the tar header that ends at offset end of a data blob
// file; b holds its 512 bytes. The section before it is returned; the next
// header, if any, ends at Section.Off.
func ParseTailHeader(b []byte, end uint64) (Section, error) { return Section{}, errPending }

// A TOC is the table of contents of a data blob.
type TOC struct{}

// A TOCEntry describes one section.
type TOCEntry struct {
	Name             string
	Compressor       Compressor
	Digest           Digest // SHA-256 of the uncompressed content
	Off              uint64 // in the blob file
	CompressedSize   uint64
	UncompressedSize uint64
}

// ParseTOC finds the ToC at the end of a blob file. tail holds the last bytes of
// the file: TOCTailSize of them, or all, or exactly Blob.TOCSize.
func ParseTOC(tail []byte, fileSize uint64) (*TOC, error) { return nil, errPending }

// Entry gives the entry of a section by name (Section... constants).
func (t *TOC) Entry(name string) (TOCEntry, bool) { return TOCEntry{}, false }

// Entries gives all entries in file order.
func (t *TOC) Entries() []TOCEntry { return nil }

// Digest gives SHA-256 of the entries and their tar header, to compare with Blob.TOCDigest.
func (t *TOC) Digest() Digest { return Digest{} }

// VerifyInode recomputes the digest of a v5 inode from its direct inputs; for a
// directory the children that are files or symlinks are checked as well.
// v6 has no such digests: ErrUnsupported.
func (im *Image) VerifyInode(ino Ino) error { return errPending }

// CheckOptions choose what Check does.
type CheckOptions struct {
	SkipDigests bool // do not recompute v5 inode digests
	MaxProblems int  // stop after so many; 0 means 100
}

// A Problem is one finding of Check.
type Problem struct {
	Path string
	Ino  Ino
	Err  error // usually a *FormatError
}

// A CheckReport says what Check has seen.
type CheckReport struct {
	Inodes, Names                                  uint64
	Dirs, Files, Symlinks, Devices, FIFOs, Sockets uint64
	Xattrs, Chunks, Digests                        uint64
	Problems                                       []Problem
}

// Err gives nil if no problem was found, else an error that wraps the first.
func (r *CheckReport) Err() error { return nil }

// Check walks the whole image. The error is the context's, or the report's Err.
func (im *Image) Check(ctx context.Context, o CheckOptions) (*CheckReport, error) {
	return nil, errPending
}
