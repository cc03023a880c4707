package build

import (
	"crypto/sha256"
	"fmt"

	"vrafs/internal/codec"
	"vrafs/rafs"
)

// sections writes what follows the chunk data in a blob, in this order, and
// makes the bootstrap (rafs.md 4.1):
//
//	| chunk data | chunk info array, header | digests | bootstrap | ToC |
//
// Each part but the first is there only if the options ask for it; with tar
// headers each is followed by one.
type sections struct {
	b         *builder
	m         *image
	bootstrap []byte
	array     []byte // uncompressed chunk info array with its tables
	header    []byte
	enc       codec.Encoder
}

func (s *sections) write() error {
	b := s.b
	if b.own.table >= 0 {
		if err := s.data(); err != nil {
			return err
		}
	}
	if b.o.InlineMeta {
		id := rafs.PlaceholderBlobID
		if b.src.ref() {
			id = b.archive.id()
		}
		if err := s.encode(id); err != nil {
			return err
		}
		if err := s.inline(); err != nil {
			return err
		}
		return s.toc()
	}
	if err := s.toc(); err != nil {
		return err
	}
	id := b.blobID()
	if b.own.table >= 0 {
		e := &b.blobs[b.own.table]
		if b.src.ref() {
			id, e.MetaDigest, e.MetaFileSize = b.archive.id(), b.blob.digest(), b.blob.size
		} else {
			e.CompressedSize = b.o.BlobOffset + b.blob.size
		}
	}
	return s.encode(id)
}

// data ends the chunk data and describes it.
func (s *sections) data() error {
	b := s.b
	e := &b.blobs[b.own.table]
	e.ChunkCount = uint32(len(b.own.chunks))
	e.UncompressedSize = b.own.uoff
	if b.own.align {
		e.UncompressedSize = alignUp(b.own.uoff, rafs.V6BlobUncompressedAligns)
	}
	if b.o.Encrypt {
		e.Cipher, e.Key, e.IV = rafs.CipherAES128XTS, b.o.Key, b.o.IV
	}
	if b.o.tarHeaders() && !b.src.ref() {
		size := b.blob.size
		if err := b.blob.section(rafs.SectionBlob, nil, size, true); err != nil {
			return err
		}
		b.blob.toc = append(b.blob.toc, tocEntry{name: rafs.SectionBlob, flags: rafs.TOCFlagNone,
			digest: b.blob.digest(), stored: size, plain: size})
	}
	if b.src.typ == TypeTarfs {
		e.CompressedSize, e.UncompressedSize = b.archive.size, b.archive.size
		return nil
	}
	if b.o.Version == rafs.V6 {
		if err := s.meta(e); err != nil {
			return err
		}
		if b.o.BlobTOC {
			if err := s.digests(); err != nil {
				return err
			}
		}
	}
	e.CompressedSize = b.o.BlobOffset + b.blob.size
	if b.src.ref() {
		e.CompressedSize = b.archive.size
	}
	return nil
}

// meta writes the chunk info array and its header (rafs.md 4.3, 4.4).
func (s *sections) meta(e *rafs.Blob) error {
	b := s.b
	if x := b.archive.index; x != nil {
		x.prune(b.set, b.own.chunks)
	}
	contexts, tables := b.contexts()
	s.array = append(b.chunkInfos(e.Features), tables...)
	if len(s.array) > rafs.BlobMetaMaxV2 {
		return fmt.Errorf("%w: chunk info array of %d bytes, limit %d", ErrSource, len(s.array), rafs.BlobMetaMaxV2)
	}
	compressor := b.o.Compressor
	if b.src.ref() {
		compressor = rafs.CompressorZstd
	}
	stored, compressor, err := s.compress(s.array, compressor)
	if err != nil {
		return err
	}
	e.MetaOff = b.o.BlobOffset + b.blob.size
	e.MetaUncompressedSize, e.MetaCompressor = uint64(len(s.array)), compressor
	e.MetaCompressedSize = uint64(len(stored))
	s.header = encodeMetaHeader(e, contexts, len(tables))
	header := s.header
	if b.xts != nil {
		stored = b.xts.Encrypt(append([]byte(nil), stored...))
		header = b.xts.Encrypt(append([]byte(nil), header...))
	}
	b.blob.toc = append(b.blob.toc,
		tocEntry{name: rafs.SectionMeta, flags: tocFlag(compressor), digest: sha256.Sum256(s.array),
			off: e.MetaOff, stored: uint64(len(stored)), plain: uint64(len(s.array))},
		tocEntry{name: rafs.SectionMetaHeader, flags: rafs.TOCFlagNone, digest: sha256.Sum256(s.header),
			off: e.MetaOff + uint64(len(stored)), stored: rafs.BlobMetaHeaderSize, plain: rafs.BlobMetaHeaderSize})
	if err := b.blob.write(stored); err != nil {
		return err
	}
	return b.blob.section(rafs.SectionMeta, header, uint64(len(stored)+len(header)), b.o.tarHeaders())
}

// compress is p as it is stored: compressed if that is shorter.
func (s *sections) compress(p []byte, c rafs.Compressor) ([]byte, rafs.Compressor, error) {
	out, ok, err := s.enc.Compress(nil, p, c)
	if err != nil {
		return nil, 0, err
	}
	if !ok {
		c = rafs.CompressorNone
	}
	return out, c, nil
}

func tocFlag(c rafs.Compressor) uint32 {
	switch c {
	case rafs.CompressorZstd:
		return rafs.TOCFlagZstd
	case rafs.CompressorLZ4:
		return rafs.TOCFlagLZ4
	default:
		return rafs.TOCFlagNone
	}
}

// digests writes the digest array, whose bytes do not count for the blob's id.
func (s *sections) digests() error {
	b := s.b
	p := make([]byte, 0, rafs.DigestSize*len(b.own.chunks))
	for _, id := range b.own.chunks {
		p = append(p, b.set.list[id].Digest[:]...)
	}
	size := uint64(len(p))
	b.blob.toc = append(b.blob.toc, tocEntry{name: rafs.SectionDigest, flags: rafs.TOCFlagNone, digest: sha256.Sum256(p),
		off: b.o.BlobOffset + b.blob.size, stored: size, plain: size})
	if err := b.blob.writePlain(p); err != nil {
		return err
	}
	return b.blob.section(rafs.SectionDigest, nil, size, true)
}

// encode makes the bootstrap, in which the new blob is called id.
func (s *sections) encode(id string) error {
	b := s.b
	if b.own.table >= 0 {
		b.blobs[b.own.table].ID = id
	}
	s.m.blobs = b.blobs
	var err error
	s.bootstrap, err = s.m.encode()
	return err
}

// inline appends the bootstrap to the blob.
func (s *sections) inline() error {
	b := s.b
	stored, compressor := s.bootstrap, rafs.CompressorNone
	if b.o.BlobTOC {
		var err error
		if stored, compressor, err = s.compress(s.bootstrap, rafs.CompressorZstd); err != nil {
			return err
		}
	}
	b.blob.toc = append(b.blob.toc, tocEntry{name: rafs.SectionBootstrap, flags: tocFlag(compressor),
		digest: sha256.Sum256(s.bootstrap), off: b.o.BlobOffset + b.blob.size, stored: uint64(len(stored)), plain: uint64(len(s.bootstrap))})
	return b.blob.section(rafs.SectionBootstrap, stored, uint64(len(stored)), true)
}

// toc ends the blob with its table of contents and, if the bootstrap is still to
// be made, notes in the blob table how to check it.
func (s *sections) toc() error {
	b := s.b
	if !b.o.BlobTOC || len(b.blob.toc) == 0 {
		return nil
	}
	p := encodeTOC(b.blob.toc)
	b.res.TOCDigest = sha256.Sum256(p)
	all := append(p, sectionHeader(rafs.SectionTOC, uint64(len(p)))...)
	if !b.o.InlineMeta && b.own.table >= 0 {
		e := &b.blobs[b.own.table]
		e.TOCSize, e.TOCDigest = uint32(len(all)), sha256.Sum256(all)
	}
	return b.blob.write(all)
}

// chunkInfos is the uncompressed chunk info array without the tables behind it.
func (b *builder) chunkInfos(f rafs.BlobFeatures) []byte {
	v2 := f.Has(rafs.BlobChunkInfoV2)
	var p []byte
	for _, id := range b.own.chunks {
		c := &b.set.list[id].Chunk
		if v2 {
			u, z, d := rafs.PackChunkInfoV2(c)
			p = le.AppendUint64(le.AppendUint64(le.AppendUint64(p, u), z), d)
		} else {
			u, z := rafs.PackChunkInfoV1(c)
			p = le.AppendUint64(le.AppendUint64(p, u), z)
		}
	}
	return p
}

// contexts is what follows the chunk infos: batch contexts, or zran contexts with
// their dictionaries. It gives their number and bytes.
func (b *builder) contexts() (n int, tables []byte) {
	if x := b.archive.index; x != nil {
		table, dicts := x.encode()
		return len(x.slices), append(table, dicts...)
	}
	for _, c := range b.own.batches {
		var e [rafs.BatchContextSize]byte
		le.PutUint32(e[rafs.BatchCompressedAt:], c.compressed)
		le.PutUint32(e[rafs.BatchUncompressedAt:], c.uncompressed)
		tables = append(tables, e[:]...)
	}
	return len(b.own.batches), tables
}

// encodeMetaHeader is the header of a chunk info array with so many contexts in
// tables of the given size.
func encodeMetaHeader(e *rafs.Blob, contexts, tables int) []byte {
	h := make([]byte, rafs.BlobMetaHeaderSize)
	le.PutUint32(h[rafs.BlobMetaMagicAt:], rafs.BlobMetaMagic)
	le.PutUint32(h[rafs.BlobMetaFeaturesAt:], uint32(e.Features))
	le.PutUint32(h[rafs.BlobMetaCompressorAt:], uint32(e.MetaCompressor))
	le.PutUint32(h[rafs.BlobMetaEntriesAt:], e.ChunkCount)
	le.PutUint64(h[rafs.BlobMetaOffsetAt:], e.MetaOff)
	le.PutUint64(h[rafs.BlobMetaCompressedAt:], e.MetaCompressedSize)
	le.PutUint64(h[rafs.BlobMetaUncompressedAt:], e.MetaUncompressedSize)
	if e.Features&(rafs.BlobZran|rafs.BlobBatch) != 0 {
		// Of no contexts too, which is what large files alone have.
		le.PutUint64(h[rafs.BlobMetaContextsAt:], e.ChunkInfoSize()*uint64(e.ChunkCount))
		le.PutUint64(h[rafs.BlobMetaContextsSizeAt:], uint64(tables))
		le.PutUint32(h[rafs.BlobMetaContextsCountAt:], uint32(contexts))
	}
	le.PutUint32(h[rafs.BlobMetaMagic2At:], rafs.BlobMetaMagic)
	return h
}
