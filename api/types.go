package api

import "time"

// A Version describes the program. Strict clients require all five texts.
type Version struct {
	PackageVer string `json:"package_ver"`
	GitCommit  string `json:"git_commit"`
	BuildTime  string `json:"build_time"`
	Profile    string `json:"profile"`
	Rustc      string `json:"rustc"`
}

// Info is the answer to GET daemon.
type Info struct {
	Version           Version            `json:"version"`
	ID                *string            `json:"id"`
	Supervisor        *string            `json:"supervisor"`
	State             string             `json:"state"` // INIT RUNNING READY STOPPED UNKNOWN
	BackendCollection map[string]Backend `json:"backend_collection"`
}

// A Backend is one mounted file system in the answer to GET daemon.
type Backend struct {
	BackendType string      `json:"backend_type"` // "Rafs" or "PassthroughFs"
	Mountpoint  string      `json:"mountpoint"`
	MountedTime MountedTime `json:"mounted_time"`
	Config      any         `json:"config"` // without secrets; nil for passthrough
}

// MountedTime is year, day of year, hour, minute, second, nanosecond and the zone
// offset in hours, minutes and seconds, which is always zero.
type MountedTime [9]int

// NewMountedTime renders t in UTC.
func NewMountedTime(t time.Time) MountedTime {
	t = t.UTC()
	return MountedTime{t.Year(), t.YearDay(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond()}
}

// A BoundBlob is an image bound to a singleton daemon.
type BoundBlob struct {
	Type         string   `json:"type"` // "bootstrap"
	ID           string   `json:"id"`
	DomainID     string   `json:"domain_id"`
	MetadataPath string   `json:"metadata_path"`
	DataBlobs    []string `json:"data_blobs"` // their ids
	Config       any      `json:"config_v2"`  // without secrets
}

// A MountCmd is the body of a mount request. Config is a whole configuration text
// and may hold credentials.
type MountCmd struct {
	Source        string
	FSType        string // as sent, "" if absent
	Config        string
	PrefetchFiles []string // absolute paths; nil if none were given
}

// Events is the ring of recent error texts, oldest first.
type Events struct {
	MaxErrors   int      `json:"max_errors"`
	TotalErrors int      `json:"total_errors"`
	MaxSize     int      `json:"max_size"`
	TotalSize   int      `json:"total_size"`
	Errors      []string `json:"errors"`
}

// A Duration is a time span as clients decode it.
type Duration struct {
	Secs  uint64 `json:"secs"`
	Nanos uint32 `json:"nanos"`
}

// SuperBlock summarises an image's super block.
type SuperBlock struct {
	Magic                    uint32   `json:"magic"`
	Version                  uint32   `json:"version"` // 0x500 or 0x600
	SbSize                   uint32   `json:"sb_size"`
	RootInode                uint64   `json:"root_inode"`
	ChunkSize                uint32   `json:"chunk_size"`
	BatchSize                uint32   `json:"batch_size"`
	InodesCount              uint64   `json:"inodes_count"`
	Flags                    uint64   `json:"flags"`
	InodeTableEntries        uint32   `json:"inode_table_entries"`
	InodeTableOffset         uint64   `json:"inode_table_offset"`
	BlobTableSize            uint32   `json:"blob_table_size"`
	BlobTableOffset          uint64   `json:"blob_table_offset"`
	ExtendedBlobTableOffset  uint64   `json:"extended_blob_table_offset"`
	ExtendedBlobTableEntries uint32   `json:"extended_blob_table_entries"`
	BlobDeviceTableCount     uint32   `json:"blob_device_table_count"`
	BlobDeviceTableOffset    uint64   `json:"blob_device_table_offset"`
	PrefetchTableOffset      uint64   `json:"prefetch_table_offset"`
	PrefetchTableEntries     uint32   `json:"prefetch_table_entries"`
	AttrTimeout              Duration `json:"attr_timeout"`
	EntryTimeout             Duration `json:"entry_timeout"`
	IsChunkDict              bool     `json:"is_chunk_dict"`
	MetaBlkaddr              uint32   `json:"meta_blkaddr"`
	RootNid                  uint64   `json:"root_nid"`
	ChunkTableOffset         uint64   `json:"chunk_table_offset"`
	ChunkTableSize           uint64   `json:"chunk_table_size"`
}

// Indices of the operations in fop_hits and its kin.
const (
	OpGetattr = iota
	OpReadlink
	OpOpen
	OpRelease
	OpRead
	OpStatfs
	OpGetxattr
	OpListxattr
	OpOpendir
	OpLookup
	OpReaddir
	OpReaddirplus
	OpAccess
	OpForget
	OpBatchForget
	NumOps
)

// NumBuckets is the length of every distribution.
const NumBuckets = 8

// FSStats is a file system's totals. Read sizes fall into the buckets of SizeBucket.
type FSStats struct {
	FilesAccountEnabled       bool               `json:"files_account_enabled"`
	AccessPatternEnabled      bool               `json:"access_pattern_enabled"`
	RecordLatestReadFiles     bool               `json:"record_latest_read_files_enabled"`
	MeasureLatency            bool               `json:"measure_latency"`
	ID                        string             `json:"id"`
	NrOpens                   uint64             `json:"nr_opens"`
	DataRead                  uint64             `json:"data_read"`
	BlockCountRead            [NumBuckets]uint64 `json:"block_count_read"`
	FopHits                   [NumOps]uint64     `json:"fop_hits"`
	FopErrors                 [NumOps]uint64     `json:"fop_errors"`
	FopCumulativeLatencyTotal [NumOps]uint64     `json:"fop_cumulative_latency_total"` // µs
	ReadLatencyDist           [NumBuckets]uint64 `json:"read_latency_dist"`            // see ReadLatencyBucket
}

// FileStats is one file's totals.
type FileStats struct {
	TotalFops      uint64             `json:"total_fops"`
	DataRead       uint64             `json:"data_read"`
	BlockCountRead [NumBuckets]uint64 `json:"block_count_read"`
	FopHits        [NumOps]uint64     `json:"fop_hits"`
	FopErrors      [NumOps]uint64     `json:"fop_errors"`
}

// AccessPattern is the first access of one file.
type AccessPattern struct {
	Ino                  uint64 `json:"ino"`
	NrRead               uint64 `json:"nr_read"`
	FirstAccessTimeSecs  uint64 `json:"first_access_time_secs"`
	FirstAccessTimeNanos uint32 `json:"first_access_time_nanos"`
}

// BackendStats is a backend's totals. The first two distributions go by request
// size; ReadLatencySizesDist is [size][latency].
type BackendStats struct {
	BackendType                string                         `json:"backend_type"`
	ReadCount                  uint64                         `json:"read_count"`
	ReadErrors                 uint64                         `json:"read_errors"`
	ReadAmountTotal            uint64                         `json:"read_amount_total"`
	ReadCumulativeLatencyTotal uint64                         `json:"read_cumulative_latency_millis_total"`
	ReadCumulativeLatencyDist  [NumBuckets]uint64             `json:"read_cumulative_latency_millis_dist"`
	ReadCountBlockSizeDist     [NumBuckets]uint64             `json:"read_count_block_size_dist"`
	ReadLatencySizesDist       [NumBuckets][NumBuckets]uint64 `json:"read_latency_sizes_dist"`
}

// BlobcacheStats is a cache's totals.
type BlobcacheStats struct {
	UnderlyingFiles         []string `json:"underlying_files"`
	StorePath               string   `json:"store_path"`
	PartialHits             uint64   `json:"partial_hits"`
	WholeHits               uint64   `json:"whole_hits"`
	Total                   uint64   `json:"total"`
	EntriesCount            uint64   `json:"entries_count"`
	PrefetchDataAmount      uint64   `json:"prefetch_data_amount"`
	PrefetchRequestsCount   uint64   `json:"prefetch_requests_count"`
	PrefetchWorkers         uint64   `json:"prefetch_workers"`
	PrefetchUnmergedChunks  uint64   `json:"prefetch_unmerged_chunks"`
	PrefetchCumulativeTime  uint64   `json:"prefetch_cumulative_time_millis"`
	PrefetchBeginTimeSecs   uint64   `json:"prefetch_begin_time_secs"`
	PrefetchBeginTimeMillis uint64   `json:"prefetch_begin_time_millis"`
	PrefetchEndTimeSecs     uint64   `json:"prefetch_end_time_secs"`
	PrefetchEndTimeMillis   uint64   `json:"prefetch_end_time_millis"`
	BufferedBackendSize     uint64   `json:"buffered_backend_size"`
	DataAllReady            bool     `json:"data_all_ready"`
}

// Inflight is one request being served.
type Inflight struct {
	Inode          uint64 `json:"inode"`
	Opcode         uint32 `json:"opcode"`
	Unique         uint64 `json:"unique"`
	TimestampSecs  uint64 `json:"timestamp_secs"`
	TimestampNanos uint32 `json:"timestamp_nanos"`
}

// SizeBucket is the bucket of a request of n bytes: <1K, <4K, <16K, <64K, <128K,
// <512K, <1M, more.
func SizeBucket(n uint64) int {
	return bucket(n, &[...]uint64{1 << 10, 4 << 10, 16 << 10, 64 << 10, 128 << 10, 512 << 10, 1 << 20})
}

// ReadLatencyBucket is the bucket of a file-system read that took us microseconds:
// up to 200, 1000, 20000, 50000, 500000, 1000000, 2000000, more.
func ReadLatencyBucket(us uint64) int {
	return bucket(us, &[...]uint64{201, 1001, 20_001, 50_001, 500_001, 1_000_001, 2_000_001})
}

// BackendLatencyBucket is the bucket of a backend read that took ms milliseconds:
// up to 1, 20, 50, 100, 500, 1000, 2000, more.
func BackendLatencyBucket(ms uint64) int {
	return bucket(ms, &[...]uint64{2, 21, 51, 101, 501, 1001, 2001})
}

func bucket(n uint64, below *[NumBuckets - 1]uint64) int {
	for i, b := range below {
		if n < b {
			return i
		}
	}
	return NumBuckets - 1
}
