package build

import (
	"context"
	"errors"
	"io"

	"vrafs/backend"
	"vrafs/rafs"
)

// A Layer is one source of Merge, with what the registry says about its blob.
type Layer struct {
	Image
	BlobDigest     string // --blob-digests
	OriginalBlobID string // --original-blob-ids
	BlobSize       uint64 // --blob-sizes, 0 if unknown
	TOCDigest      string // --blob-toc-digests
	TOCSize        uint32 // --blob-toc-sizes
}

// MergeOptions are the options of Merge.
type MergeOptions struct {
	Whiteout  WhiteoutSpec
	Prefetch  Prefetch
	Parent    *Image
	ChunkDict *Image
	// HaveBackend says that a storage back end is configured, so that blob ids in
	// the sources are true ids and not placeholders (rafs.md 6.6).
	HaveBackend bool
}

// Merge overlays layers, lowest first, into one bootstrap in sink.Bootstrap (or
// its writer). Layers that do not fit together give ErrInconsistent.
func Merge(ctx context.Context, layers []Layer, sink Sink, o MergeOptions) (*Result, error) {
	return nil, errors.ErrUnsupported
}

// UnpackOptions are the options of Unpack.
type UnpackOptions struct {
	// KeepOverlay writes overlayfs whiteouts as OCI .wh. files.
	KeepOverlay bool
	Workers     int
	Progress    Progress
}

// Unpack writes the image as a tar to w, which may be a FIFO. An image without
// file data needs no blobs.
func Unpack(ctx context.Context, im Image, w io.Writer, o UnpackOptions) error {
	return errors.ErrUnsupported
}

// ExportOptions are the options of ExportBlock.
type ExportOptions struct {
	Threads  int // 0: 4
	Verity   bool
	Progress Progress
}

// An ExportResult describes a written disk.
type ExportResult struct {
	Size          uint64 // bytes of the disk without the hash tree
	DataBlockSize uint32
	DataBlocks    uint64
	HashOffset    uint64   // with Verity
	RootHash      [32]byte // with Verity
}

// A Disk is where ExportBlock writes; *os.File is one. Unwritten ranges read as
// zero. Reads happen only with Verity.
type Disk interface {
	io.WriterAt
	io.ReaderAt
	Truncate(size int64) error
}

// ExportBlock writes a v6 image as one raw disk that Linux EROFS mounts.
func ExportBlock(ctx context.Context, im Image, disk Disk, o ExportOptions) (*ExportResult, error) {
	return nil, errors.ErrUnsupported
}

// CompactOptions are the options of Compact.
type CompactOptions struct {
	MinUsedRatio    int    // percent, 0 to 99: blobs below are rebuilt
	CompactBlobSize uint64 // blobs smaller than this are merged
	MaxCompactSize  uint64 // no merged blob grows beyond this
	LayersToCompact int    // do nothing for images of fewer blobs; 0: always
	ChunkDict       *Image // its blobs are left alone
	Progress        Progress
}

// Compact rewrites blobs with a low share of used chunks, merges small ones and
// drops unused ones. New blobs go to sink.BlobDir, the bootstrap to sink.Bootstrap.
func Compact(ctx context.Context, im Image, sink Sink, o CompactOptions) (*Result, error) {
	return nil, errors.ErrUnsupported
}

// A PrefetchFile names a file, or ranges of it, that Optimize copies.
type PrefetchFile struct {
	Path   string
	Ranges [][2]uint64 // offset, size; nil: the whole file
}

// Optimize copies the data of files into one more blob in sink.BlobDir and
// writes a bootstrap that refers to it.
func Optimize(ctx context.Context, im Image, files []PrefetchFile, sink Sink) (*Result, error) {
	return nil, errors.ErrUnsupported
}

// StatOptions are the options of Stat.
type StatOptions struct {
	Digester rafs.Digester // for images without digests
}

// A StatReport is the output of Stat, with the JSON names of nydus-image.
type StatReport struct {
	DedupEnabled  bool      `json:"dedup_enabled"`
	TargetEnabled bool      `json:"target_enabled"`
	Base          ImageStat `json:"base_image"`
	Target        ImageStat `json:"target_image"`
}

// An ImageStat counts the contents of one or more images. Sizes are in bytes;
// chunk_sizes and file_sizes are histograms by powers of two.
type ImageStat struct {
	Dirs             uint64     `json:"dirs"`
	Files            uint64     `json:"files"`
	Symlinks         uint64     `json:"symlinks"`
	Chunks           uint64     `json:"chunks"`
	FileSize         uint64     `json:"file_size"`
	CompSize         uint64     `json:"comp_size"`
	UncompSize       uint64     `json:"uncomp_size"`
	PaddingSize      uint64     `json:"padding_size"`
	ChunkSizes       [9]uint64  `json:"chunk_sizes"`
	FileSizes        [45]uint64 `json:"file_sizes"`
	DedupChunks      uint64     `json:"dedup_chunks"`
	DedupCompSize    uint64     `json:"dedup_comp_size"`
	DedupUncompSize  uint64     `json:"dedup_uncomp_size"`
	OwnChunks        uint64     `json:"own_chunks"`
	OwnCompSize      uint64     `json:"own_comp_size"`
	OwnUncompSize    uint64     `json:"own_uncomp_size"`
	RefChunks        uint64     `json:"ref_chunks"`
	RefCompSize      uint64     `json:"ref_comp_size"`
	RefUncompSize    uint64     `json:"ref_uncomp_size"`
	DedupPaddingSize uint64     `json:"dedup_padding_size"`
}

// Stat counts the given images together and, if target is not nil, what target
// would share with them.
func Stat(ctx context.Context, base []Image, target *Image, o StatOptions) (*StatReport, error) {
	return nil, errors.ErrUnsupported
}

// A ChunkRecord is one chunk of one image, as ChunkDict sees it.
type ChunkRecord struct {
	Image string // Image.Name
	Blob  *rafs.Blob
	Chunk rafs.Chunk
}

// ChunkDictOptions are the options of ChunkDict.
type ChunkDictOptions struct {
	Prefetch Prefetch
	// Record, if set, is called once for each distinct chunk of each image, in a
	// fixed order: the caller stores it in a database.
	Record   func(ChunkRecord) error
	Progress Progress
}

// ChunkDict makes a bootstrap with one file that holds the chunks worth sharing
// between the images (rafs.md 6.8).
func ChunkDict(ctx context.Context, images []Image, sink Sink, o ChunkDictOptions) (*Result, error) {
	return nil, errors.ErrUnsupported
}

// ReadBootstrap extracts the bootstrap from b, which is either a bare bootstrap
// or a blob with an inlined one (found by its ToC or its last tar header).
func ReadBootstrap(ctx context.Context, b backend.Blob) ([]byte, error) {
	return nil, errors.ErrUnsupported
}
