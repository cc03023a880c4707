// Package build makes RAFS images: from a directory, a tar or a layer, and from
// other images (merge, compact, unpack, block export, chunk dictionaries).
//
//	Source            tree              chunk pipeline               Sink
//	directory --walk--> nodes --files--> read+digest (n workers)
//	tar --------parse--> nodes --data--> dedup, number (in order)
//	parent ----load----> nodes           compress (n workers)
//	                       |             write (in order) ---------> data blob
//	                       +-- number, lay out, encode ------------> bootstrap
//
// The order of data, chunk numbers and every byte written depend on the input
// and the options only, never on the number of workers.
//
// Trust: sources are untrusted. A hostile tar or bootstrap ends in an error that
// names its place; memory is bounded by the number of entries and by a fixed
// number of chunks in flight. Nothing is ever written outside the Sink.
//
// Concurrency: each call is independent; it starts its own workers and waits for
// them before it returns.
//
// Source: RAFS formats (rafs.md sections 1, 2, 4 and 6) and the behaviour of the
// nydus-image command (nydusd.md section 6).
package build

import (
	"errors"
	"io"
	"time"

	"vrafs/backend"
	"vrafs/rafs"
)

var (
	// ErrInconsistent is the class of images that cannot be combined: another
	// version, chunk size, digest or mode. nydus-image merge exits with 2 for it.
	ErrInconsistent = errors.New("inconsistent RAFS filesystems")
	// ErrOptions is the class of options that contradict each other or the source.
	ErrOptions = errors.New("invalid build options")
	// ErrSource is the class of malformed or refused input.
	ErrSource = errors.New("invalid source")
)

// A SourceType says what a Source holds (create --type).
type SourceType uint8

// Source types, in the order of nydus-image's help.
const (
	TypeDirectory    SourceType = iota // dir-rafs, directory
	TypeTar                            // tar-rafs, targz-rafs: plain, gzip or zstd
	TypeEStargz                        // estargz-rafs: as tar, without the TOC and landmark entries
	TypeTarRef                         // targz-ref: the data stays in the original tar.gz or tar
	TypeEStargzRef                     // estargz-ref
	TypeEStargzIndex                   // estargztoc-ref, stargz_index: the JSON of an eStargz layer's TOC
	TypeTarfs                          // tar-tarfs: the plain tar is the blob
)

// A Source is the tree to build from. Make one with Dir or Stream.
type Source struct {
	typ  SourceType
	path string
	r    io.Reader
}

// Dir is a directory on the file system. The directory itself becomes the root.
func Dir(path string) Source { return Source{typ: TypeDirectory, path: path} }

// Stream is a tar (or a TOC) read once, strictly from beginning to end. name is
// used in errors only. r may be a FIFO; it is not closed.
func Stream(t SourceType, r io.Reader, name string) Source {
	return Source{typ: t, path: name, r: r}
}

// Type is the type given to Dir or Stream.
func (s Source) Type() SourceType { return s.typ }

// A Sink says where the output goes. Any place may be left empty; a build that
// needs it then fails, unless the output is needed nowhere.
type Sink struct {
	// Bootstrap is the file for the metadata. Empty with InlineMeta, or with BlobDir:
	// then it is stored as BlobDir/<digest of the bootstrap>.
	Bootstrap string
	// BootstrapWriter receives the metadata if Bootstrap is empty; with InlineMeta a copy
	// of what is in the blob.
	BootstrapWriter io.Writer
	// Blob is the file for the data blob. It may be a FIFO: it is opened for writing,
	// not truncated unless regular, and never sought.
	Blob string
	// BlobWriter receives the data blob if Blob and BlobDir are empty.
	BlobWriter io.Writer
	// BlobDir stores the data blob as BlobDir/<blob id>.
	BlobDir string
	// CacheDir receives <id>.blob.data and <id>.blob.meta as a filled cache.
	CacheDir string
}

// A WhiteoutSpec says how an upper layer deletes what is below.
type WhiteoutSpec uint8

// Whiteout specifications (create --whiteout-spec).
const (
	WhiteoutOCI       WhiteoutSpec = iota // .wh. files
	WhiteoutOverlayfs                     // character device 0:0, opaque xattr
	WhiteoutNone                          // whiteouts are ordinary files
)

// A PrefetchPolicy says what happens to files that match the prefetch patterns.
type PrefetchPolicy uint8

// Prefetch policies (create --prefetch-policy).
const (
	PrefetchNone PrefetchPolicy = iota
	PrefetchFS                  // prefetch table, data first
	PrefetchBlob                // data first, prefetch range in the blob table (v5)
)

// Prefetch is a policy with its patterns.
type Prefetch struct {
	Policy   PrefetchPolicy
	Patterns []string // absolute paths, one per line of standard input
}

// An Image is a bootstrap with the place of its blobs, as input of an operation.
type Image struct {
	// Name is the file name of the bootstrap, without directories. Placeholder ids of
	// blobs with an inlined bootstrap become this name without its extensions.
	Name string
	// Data is the whole bootstrap, unchanged until the operation returns.
	Data []byte
	// Blobs finds the data blobs; nil if the operation needs metadata only.
	Blobs backend.Opener
}

// A Progress is told how far a long operation is. It is called from one goroutine
// at a time, at most every few MiB.
type Progress func(done, total uint64, what string)

// Options are the options of Build (nydus-image create).
type Options struct {
	Version    rafs.Version    // 0: 6
	Compressor rafs.Compressor // none, lz4_block or zstd
	Digester   rafs.Digester
	ChunkSize  uint32 // 0: 1 MiB
	BatchSize  uint32 // 0: no batches; v6 only

	InlineMeta   bool // bootstrap and blob meta go into the blob
	BlobTOC      bool // --features blob-toc; v6 only
	AlignedChunk bool // 4 KiB aligned chunks in v5; v6 always aligns
	Repeatable   bool // uid and gid 0, EXPLICIT_UID_GID clear
	Encrypt      bool // AES-128-XTS; v6 only
	// Key and IV replace the random ones of Encrypt, for tests. Zero: random.
	Key [32]byte
	IV  [16]byte

	BlobID       string // --blob-id; empty: the digest
	BlobDataSize uint64 // --blob-data-size: of the layer for TypeEStargzIndex, 0 if unknown
	BlobOffset   uint64 // --blob-offset: added to every compressed offset

	Whiteout   WhiteoutSpec
	Prefetch   Prefetch
	Attributes []Attribute // --attributes: files whose data is external
	// ExternalBootstrap is the file for the second bootstrap of external files.
	ExternalBootstrap string

	Parent    *Image // --parent-bootstrap
	ChunkDict *Image // --chunk-dict

	SkipCheck bool     // do not read the result back
	Workers   int      // 0: GOMAXPROCS
	Progress  Progress // may be nil
}

// DefaultChunkSize is the chunk size of builds that name none.
const DefaultChunkSize = rafs.DefaultChunkSize

// An Attribute marks a file whose data lies in an external blob (rafs.md 4.11).
type Attribute struct {
	Path             string
	FileSize         uint64
	BlobIndex        uint32
	BlobID           string
	ChunkSize        uint32
	CompressedOffset uint64 // of chunk 0
	CompressedSize   uint64
	CRCs             []uint32
}

// A Result is what an operation produced; --output-json prints it.
type Result struct {
	Version           rafs.Version
	Compressor        rafs.Compressor
	Bootstrap         string   // path, empty if inlined or written to a writer
	Blobs             []string // ids in blob-table order
	ExternalBootstrap string
	ExternalBlobs     []string

	BlobID   string // id of the blob this build wrote, empty if it has no data
	BlobPath string // where it lies, if in a file
	BlobSize uint64 // bytes written to the blob
	// BlobDigest is SHA-256 of them, by which a registry knows the blob. It differs from
	// the id where the blob has an array of digests (rafs.md 4.10). Zero without a blob,
	// or if its id was given.
	BlobDigest rafs.Digest
	// TOCDigest is SHA-256 of the entries of the blob's table of contents, zero without one.
	TOCDigest  rafs.Digest
	DataSize   uint64 // bytes of chunk data before compression, without duplicates
	DedupSize  uint64 // bytes of chunk data not stored again
	DedupCount uint64 // chunks not stored again
	Inodes     uint64 // names in the tree

	Stages []Stage
}

// A Stage is the time one part of the work took (trace.consumed_time).
type Stage struct {
	Name string // build_tree, dump_blob, ...
	Took time.Duration
}
