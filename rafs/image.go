package rafs

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Version is the major version of the format: V5 or V6.
type Version uint8

// The versions that can be read.
const (
	V5 Version = 5
	V6 Version = 6
)

// Ino names an inode of an image: i_ino in v5 (the root is 1), the nid in v6.
// Hard links share it.
type Ino uint64

// Options are the circumstances of an Open.
type Options struct {
	// Name is the bootstrap's file name. When the bootstrap was taken out of a
	// data blob the name is that blob's id, extensions aside, and replaces the
	// placeholder in the blob table (section 4.10). Empty: ids stay as stored.
	Name string
}

// An Image is an opened bootstrap. It is immutable and safe for concurrent use.
type Image struct {
	data       []byte
	version    Version
	flags      SuperFlags
	chunkBits  uint8
	blockBits  uint8
	root       Ino
	inodes     uint64
	names      uint64
	blobs      []Blob
	prefetch   region // entries of 4 bytes
	inodeTable region // v5: entries of 4 bytes
	meta       uint64 // v6: where nid 0 is
	chunkTable region // v6
	xattrs     uint64 // v6: start of shared xattrs, 0 if there are none
}

// A region is a table in the bootstrap, inside it by construction.
type region struct{ off, size uint64 }

func (r region) end() uint64 { return r.off + r.size }

func (r region) overlaps(o region) bool {
	return r.size > 0 && o.size > 0 && r.off < o.end() && o.off < r.end()
}

// Detect tells which version a bootstrap has by its magic numbers, 0 if neither
// (section 0.5). 2 KiB from the start of the file are enough.
func Detect(data []byte) Version {
	if len(data) >= 8 && le32(data) == V5Magic && le32(data[V5SuperVersionAt:]) == V5FSVersion {
		return V5
	}
	if len(data) >= V6SuperOff+4 && le32(data[V6SuperOff:]) == V6Magic {
		return V6
	}
	return 0
}

// Open reads the super block and the tables of a bootstrap. The Image keeps
// data, which must not change as long as the Image is used. The cost is
// proportional to the number of blobs. Errors are *FormatError.
func Open(data []byte, o Options) (*Image, error) {
	im := &Image{data: data, version: Detect(data)}
	var err error
	switch im.version {
	case V5:
		err = im.openV5()
	case V6:
		err = im.openV6()
	default:
		return nil, &FormatError{Field: "magic", Why: "neither a RAFS v5 nor a v6 bootstrap", Class: ErrUnsupported}
	}
	if err != nil {
		return nil, err
	}
	im.fixIDs(o.Name)
	root, err := im.Inode(im.root)
	if err != nil {
		return nil, err
	}
	if !root.IsDir() {
		return nil, corrupt(root.off, "root.mode", "%#o is not a directory", root.mode)
	}
	return im, nil
}

// Version gives the image's version.
func (im *Image) Version() Version { return im.version }

// Flags gives the super block flags.
func (im *Image) Flags() SuperFlags { return im.flags }

// ChunkSize gives the size in bytes of the pieces files are cut into.
func (im *Image) ChunkSize() uint32 { return 1 << im.chunkBits }

// BlockSize gives the EROFS block size in bytes: 4096, or 512 in tarfs mode. v5
// has no blocks; 4096 is reported.
func (im *Image) BlockSize() uint32 { return 1 << im.blockBits }

// Compressor gives the compressor of the super block flags. Each v6 blob has its own.
func (im *Image) Compressor() Compressor { return im.flags.Compressor() }

// Digester gives the digester of the super block flags. Each v6 blob has its own.
func (im *Image) Digester() Digester { return im.flags.Digester() }

// Tarfs reports whether the blobs are plain tar files without chunk digests.
func (im *Image) Tarfs() bool { return im.version == V6 && im.flags&FlagTarfs != 0 }

// Root gives the root directory.
func (im *Image) Root() Ino { return im.root }

// InodeCount gives the number of inodes as the super block has it: v5 counts a
// set of hard links once, v6 counts names.
func (im *Image) InodeCount() uint64 { return im.inodes }

// NameCount gives the number of names in the tree, the root included.
func (im *Image) NameCount() uint64 { return im.names }

// Size gives the bytes of the bootstrap.
func (im *Image) Size() uint64 { return uint64(len(im.data)) }

// Blobs gives the blob table. The slice must not be changed.
func (im *Image) Blobs() []Blob { return im.blobs }

// maxPrefetch bounds what Prefetch returns: lists are hints, and longer ones
// have no meaning for a reader.
const maxPrefetch = 1 << 20

// Prefetch gives the inodes to prefetch: files, or directories with all that is
// below. The root stands for everything. Entries are not checked to exist. At
// most 2^20 are returned.
func (im *Image) Prefetch() []Ino {
	n := min(im.prefetch.size/4, maxPrefetch)
	table := im.data[im.prefetch.off:][:n*4]
	var list []Ino
	for ; len(table) >= 4; table = table[4:] {
		ino := le32(table)
		if ino == 0 {
			break
		}
		list = append(list, Ino(ino))
	}
	return list
}

// bytesAt gives data[off:off+n].
func (im *Image) bytesAt(off, n uint64, field string) ([]byte, error) {
	if size := uint64(len(im.data)); off > size || n > size-off {
		return nil, corrupt(off, field, "%d bytes run past the end at %#x", n, size)
	}
	return im.data[off:][:n:n], nil
}

// holds reports whether data has n bytes at off.
func (im *Image) holds(off, n uint64) bool {
	size := uint64(len(im.data))
	return off <= size && n <= size-off
}

func corrupt(off uint64, field, format string, args ...any) error {
	return &FormatError{Off: off, Field: field, Why: fmt.Sprintf(format, args...)}
}

func unsupported(off uint64, field, format string, args ...any) error {
	return &FormatError{Off: off, Field: field, Why: fmt.Sprintf(format, args...), Class: ErrUnsupported}
}

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

func log2(n uint32) uint8 { return uint8(bits.TrailingZeros32(n)) }

// ceilShift is n / 2^s rounded up.
func ceilShift(n uint64, s uint8) uint64 {
	if n == 0 {
		return 0
	}
	return (n-1)>>s + 1
}
