package build

import (
	"fmt"
	"runtime"

	"vrafs/rafs"
)

// normalize fills in defaults and refuses what contradicts itself or the source
// (rafs.md 6.1, nydusd.md 6.2).
func (o *Options) normalize(src *Source, sink *Sink) error {
	if o.Version == 0 {
		o.Version = rafs.V6
	}
	if o.ChunkSize == 0 {
		o.ChunkSize = DefaultChunkSize
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if src.foreign() {
		if err := o.normalizeForeign(src, sink); err != nil {
			return err
		}
	}
	checks := []objection{
		{o.Version != rafs.V5 && o.Version != rafs.V6, fmt.Sprintf("version %d", o.Version)},
		{!rafs.ValidChunkSize(o.ChunkSize), fmt.Sprintf("chunk size %#x is not a power of two from %#x to %#x", o.ChunkSize, rafs.MinChunkSize, rafs.MaxChunkSize)},
		{!o.Digester.Valid(), fmt.Sprintf("digester %d", o.Digester)},
		{!o.Compressor.Valid() || o.Compressor == rafs.CompressorGzip && !src.foreign(), fmt.Sprintf("compressor %v cannot be chosen for new data", o.Compressor)},
		{!validBatchSize(o.BatchSize, o.ChunkSize), fmt.Sprintf("batch size %#x is not a power of two from 0x1000 to the chunk size %#x", o.BatchSize, o.ChunkSize)},
		{o.BatchSize != 0 && o.Version == rafs.V5, "batches need version 6"},
		{o.BlobTOC && o.Version == rafs.V5, "blob-toc needs version 6"},
		{o.Encrypt && o.Version == rafs.V5, "encryption needs version 6"},
		{o.InlineMeta && o.BlobID != "", "a blob with an inlined bootstrap cannot be given an id"},
		{o.InlineMeta && sink.Bootstrap != "", "an inlined bootstrap has no file of its own"},
		{len(o.BlobID) > rafs.MaxBlobIDLen, fmt.Sprintf("blob id of %d bytes, at most %d can be stored", len(o.BlobID), rafs.MaxBlobIDLen)},
		{len(o.Attributes) > 0, "external attributes are not supported"},
		{sink.CacheDir != "" && (o.InlineMeta || sink.Blob != "" || sink.BlobDir != ""), "a cache directory takes the place of a blob"},
		{sink.CacheDir != "" && (o.Version == rafs.V5 || o.Encrypt || o.BatchSize != 0), "a cache directory needs version 6, without encryption and batches"},
		{sink.CacheDir != "" && o.Compressor != rafs.CompressorNone, "a cache directory needs compressor none"},
		{src.typ != TypeDirectory && src.r == nil, "no stream to read from"},
		{src.typ == TypeDirectory && src.path == "", "no directory to read from"},
	}
	return refuse(checks)
}

// An objection is a condition that options must not meet.
type objection struct {
	bad bool
	msg string
}

func refuse(list []objection) error {
	for _, c := range list {
		if c.bad {
			return fmt.Errorf("%w: %s", ErrOptions, c.msg)
		}
	}
	return nil
}

// foreign reports whether the data stays in a format that is not ours.
func (s *Source) foreign() bool { return s.ref() || s.typ == TypeTarfs }

// ref reports whether the data stays in the source.
func (s *Source) ref() bool {
	return s.typ == TypeTarRef || s.typ == TypeEStargzRef || s.typ == TypeEStargzIndex
}

// normalizeForeign sets what such a type fixes: the algorithms, and that whiteouts
// stay, since only merge can put such a layer on another.
func (o *Options) normalizeForeign(src *Source, sink *Sink) error {
	o.Digester, o.Compressor = rafs.DigesterSHA256, rafs.CompressorGzip
	o.Whiteout = WhiteoutNone
	tarfs, index := src.typ == TypeTarfs, src.typ == TypeEStargzIndex
	if tarfs {
		o.Compressor = rafs.CompressorNone
	}
	return refuse([]objection{
		{o.Version == rafs.V5 && !index, "data that stays as it is needs version 6"},
		{o.BatchSize != 0 || o.Encrypt || sink.CacheDir != "", "data that stays as it is cannot be put in batches, encrypted or cached"},
		{o.Parent != nil || o.ChunkDict != nil, "data that stays as it is cannot be built on a parent or a chunk dictionary"},
		{o.Prefetch.Policy == PrefetchBlob, "data that stays as it is cannot be ordered for prefetch"},
		{!tarfs && !index && o.BlobID != "", "the id of data that stays in its archive is the archive's digest"},
		{index && o.BlobID == "", "a table of contents doesn't say which blob it belongs to: its id is needed"},
		{index && (o.InlineMeta || o.BlobTOC), "an image made of a table of contents alone has no blob to put anything into"},
		{tarfs && (o.InlineMeta || o.BlobTOC), "a tarfs blob is the tar and nothing else"},
		{o.BlobOffset != 0, "data that stays as it is has no blob offset"},
	})
}

func validBatchSize(n, chunkSize uint32) bool {
	return n == 0 || n >= rafs.MinChunkSize && n <= chunkSize && n&(n-1) == 0
}

// flags are the super block flags that the options decide.
func (o *Options) flags() rafs.SuperFlags {
	f := rafs.CompressorFlag(o.Compressor) | rafs.DigesterFlag(o.Digester)
	if o.Encrypt {
		f |= rafs.FlagEncryptionXTS
	} else {
		f |= rafs.FlagEncryptionNone
	}
	if !o.Repeatable {
		f |= rafs.FlagExplicitUIDGID
	}
	return f
}

// features are the features of the blob that the options decide; those of a
// foreign source come on top.
func (o *Options) features() rafs.BlobFeatures {
	f := rafs.BlobCapTarTOC
	if o.Version == rafs.V6 {
		f |= rafs.BlobAligned
	}
	if o.InlineMeta {
		f |= rafs.BlobInlinedFSMeta | rafs.BlobHasTarHeader
	}
	if o.BlobTOC {
		f |= rafs.BlobHasTOC | rafs.BlobHasTarHeader | rafs.BlobInlinedChunkDigest
	}
	if o.BatchSize != 0 {
		f |= rafs.BlobBatch | rafs.BlobChunkInfoV2
	}
	if o.Encrypt {
		f |= rafs.BlobEncrypted | rafs.BlobChunkInfoV2
	}
	return f
}

// tarHeaders reports whether sections of the blob are followed by tar headers.
func (o *Options) tarHeaders() bool { return o.InlineMeta || o.BlobTOC }

// compatible refuses a parent or dictionary that cannot share an image with
// what the options make (rafs.md 6.5).
func (o *Options) compatible(m *image, name string) error {
	explicit := m.flags&rafs.FlagExplicitUIDGID != 0
	var why string
	switch {
	case m.version != o.Version:
		why = fmt.Sprintf("version %d, this build makes %d", m.version, o.Version)
	case m.chunkSize != o.ChunkSize:
		why = fmt.Sprintf("chunk size %#x, this build has %#x", m.chunkSize, o.ChunkSize)
	case explicit == o.Repeatable:
		why = "one has explicit owners, the other has not"
	case m.tarfs():
		why = "a tarfs image"
	case m.version == rafs.V5 && m.digester != o.Digester:
		why = fmt.Sprintf("digester %v, this build has %v", m.digester, o.Digester)
	case m.version == rafs.V5 && m.flags.Compressor() != o.Compressor && len(m.blobs) > 0:
		why = fmt.Sprintf("compressor %v, this build has %v", m.flags.Compressor(), o.Compressor)
	default:
		return nil
	}
	return fmt.Errorf("%w: %s: %s", ErrInconsistent, name, why)
}
