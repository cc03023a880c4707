package blobcache

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"vrafs/backend/backendtest"
	"vrafs/internal/codec"
	"vrafs/rafs"
)

var le = binary.LittleEndian

// A blobSpec says what blob to make.
type blobSpec struct {
	id       string
	sizes    []uint32 // of the chunks
	comp     rafs.Compressor
	digester rafs.Digester
	features rafs.BlobFeatures
	batch    int // chunks per batch, 0: none
	zran     int // chunks per slice of a gzip stream, 0: none; blob.meta is in a file of its own
	crc      bool
	naked    bool // no digests in the chunk table
}

// A sample is an image made for a test: a bootstrap without files, blobs, and
// what its chunks hold.
type sample struct {
	im    *rafs.Image
	boot  []byte
	blobs backendtest.Memory
	data  [][][]byte // of blob, of chunk
	spans [][]rafs.Span
}

// sizes gives n equal chunks.
func sizes(n int, size uint32) []uint32 { return slices.Repeat([]uint32{size}, n) }

const sampleChunkBits = 20

// makeSample writes a v6 image with the given blobs. The same specs give the same
// bytes.
func makeSample(t testing.TB, specs ...blobSpec) *sample {
	t.Helper()
	s := &sample{blobs: backendtest.Memory{}}
	var entries []byte
	var table []rafs.Chunk
	for i, spec := range specs {
		w := &blobWriter{spec: spec, index: i, rand: rand.New(rand.NewPCG(uint64(i), 7)), t: t}
		entry, chunks := w.write()
		entries = append(entries, entry...)
		table = append(table, chunks...)
		s.blobs[spec.id] = w.file
		if spec.zran > 0 {
			s.blobs[w.metaID] = w.metaFile
		}
		s.data = append(s.data, w.data)
		var spans []rafs.Span
		for _, c := range w.chunks {
			spans = append(spans, *spanOf(&c))
		}
		s.spans = append(s.spans, spans)
	}
	s.boot = bootstrap(specs, entries, table)
	im, err := rafs.Open(s.boot, rafs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.im = im
	return s
}

// bytes gives what spans stand for.
func (s *sample) bytes(spans []rafs.Span) []byte {
	var out []byte
	for _, sp := range spans {
		whole := s.spans[sp.Blob][sp.Index]
		out = append(out, s.data[sp.Blob][sp.Index][sp.Off-whole.Off:][:sp.Len]...)
	}
	return out
}

// all gives the spans of every chunk.
func (s *sample) all() []rafs.Span { return slices.Concat(s.spans...) }

// A blobWriter makes one data blob: chunks, chunk info array, header, digests,
// ToC.
type blobWriter struct {
	t      testing.TB
	spec   blobSpec
	index  int
	rand   *rand.Rand
	file   []byte
	data   [][]byte
	chunks []rafs.Chunk
	ctx    []byte // batch or zran contexts
	words  []byte

	metaFile []byte // zran: the file that holds blob.meta
	metaID   string
	enc      codec.Encoder
	key      [32]byte
	iv       [16]byte
}

func (w *blobWriter) write() (entry []byte, table []rafs.Chunk) {
	if w.spec.features.Has(rafs.BlobEncrypted) {
		for i := range w.key {
			w.key[i] = byte(i)
		}
	}
	off := uint64(0)
	for i, size := range w.spec.sizes {
		p := w.text(size)
		if size >= 4 {
			le.PutUint32(p, uint32(i)^0x5a5a5a5a)
		}
		c := rafs.Chunk{Blob: uint16(w.index), Index: rafs.ChunkIndex(i), Off: off, Size: size, HasDigest: true}
		c.Digest = codec.Sum(w.spec.digester, p)
		if w.spec.crc {
			c.Flags, c.CRC32 = rafs.ChunkHasCRC, codec.CRC32C(p)
		}
		w.data, w.chunks = append(w.data, p), append(w.chunks, c)
		off += (uint64(size) + 4095) &^ 4095
	}
	w.store()
	meta := w.meta(off)
	table = slices.Clone(w.chunks)
	for i := range table {
		if w.spec.naked {
			table[i].Digest, table[i].HasDigest = rafs.Digest{}, false
		}
	}
	return meta, table
}

// text makes bytes that compress as programs do: words from a small vocabulary,
// with a quarter of noise.
func (w *blobWriter) text(size uint32) []byte {
	if w.words == nil {
		w.words = make([]byte, 4096)
		for i := range w.words {
			w.words[i] = byte(w.rand.Uint32())
		}
	}
	p := make([]byte, 0, size+16)
	for uint32(len(p)) < size {
		at := w.rand.Uint32N(uint32(len(w.words) - 16))
		p = append(p, w.words[at:at+12]...)
		p = le.AppendUint32(p, w.rand.Uint32())
	}
	return p[:size:size]
}

// gzipHeader is the size of a gzip header without optional fields.
const gzipHeader = 10

// store writes the stored bytes of all chunks.
func (w *blobWriter) store() {
	group := max(1, w.spec.batch, w.spec.zran)
	for first := 0; first < len(w.chunks); first += group {
		members := w.chunks[first:min(first+group, len(w.chunks))]
		var unit []byte
		for i := range members {
			if group > 1 {
				members[i].Flags |= rafs.ChunkBatch
				if w.spec.zran > 0 {
					members[i].Flags ^= rafs.ChunkBatch | rafs.ChunkZran
				}
				members[i].Unit, members[i].UnitOff = uint32(first/group), uint32(len(unit))
			}
			unit = append(unit, w.data[first+i]...)
		}
		stored, compressed, err := w.enc.Compress(nil, unit, w.spec.comp)
		if err != nil {
			w.t.Fatal(err)
		}
		if w.spec.zran > 0 {
			stored, compressed = gzipped(unit), true
		}
		stored = w.encrypt(stored)
		for i := range members {
			if compressed {
				members[i].Flags |= rafs.ChunkCompressed
			}
			if w.spec.features.Has(rafs.BlobEncrypted) {
				members[i].Flags |= rafs.ChunkEncrypted
			}
			members[i].CompressedOff, members[i].CompressedSize = uint64(len(w.file)), uint32(len(stored))
		}
		if w.spec.zran > 0 { // raw deflate data begin after the member's header
			for i := range members {
				members[i].CompressedOff += gzipHeader
				members[i].CompressedSize -= gzipHeader
			}
			c := make([]byte, rafs.ZranContextSize)
			le.PutUint64(c[rafs.ZranInOffAt:], members[0].CompressedOff)
			le.PutUint32(c[rafs.ZranInLenAt:], members[0].CompressedSize)
			le.PutUint32(c[rafs.ZranOutLenAt:], uint32(len(unit)))
			w.ctx = append(w.ctx, c...)
		}
		if w.spec.batch > 0 {
			c := make([]byte, rafs.BatchContextSize)
			le.PutUint32(c[rafs.BatchCompressedAt:], uint32(len(stored)))
			le.PutUint32(c[rafs.BatchUncompressedAt:], uint32(len(unit)))
			w.ctx = append(w.ctx, c...)
		}
		w.file = append(w.file, stored...)
	}
}

// gzipped gives one gzip member, framed also where it doesn't shrink.
func gzipped(p []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(p)
	_ = z.Close()
	return b.Bytes()
}

func (w *blobWriter) encrypt(p []byte) []byte {
	if !w.spec.features.Has(rafs.BlobEncrypted) {
		return p
	}
	x, err := codec.NewXTS(w.key, w.iv)
	if err != nil {
		w.t.Fatal(err)
	}
	return x.Encrypt(p)
}

// meta appends array, header, digests and ToC, and gives the blob table entry.
func (w *blobWriter) meta(size uint64) []byte {
	features := w.spec.features | rafs.BlobAligned | rafs.BlobCapTarTOC
	if w.spec.batch > 0 {
		features |= rafs.BlobBatch | rafs.BlobChunkInfoV2
	}
	if w.spec.zran > 0 {
		features |= rafs.BlobZran | rafs.BlobSeparate | rafs.BlobChunkInfoV2
	}
	if w.spec.features.Has(rafs.BlobEncrypted) {
		features |= rafs.BlobChunkInfoV2
	}
	var array []byte
	for i := range w.chunks {
		if features.Has(rafs.BlobChunkInfoV2) {
			u, c, d := rafs.PackChunkInfoV2(&w.chunks[i])
			array = le.AppendUint64(le.AppendUint64(le.AppendUint64(array, u), c), d)
		} else {
			u, c := rafs.PackChunkInfoV1(&w.chunks[i])
			array = le.AppendUint64(le.AppendUint64(array, u), c)
		}
	}
	contexts := uint64(len(array))
	array = append(array, w.ctx...)
	stored, compressed, err := w.enc.Compress(nil, array, rafs.CompressorZstd)
	if err != nil {
		w.t.Fatal(err)
	}
	comp := rafs.CompressorNone
	if compressed {
		comp = rafs.CompressorZstd
	}
	at := uint64(len(w.file))
	if w.spec.zran > 0 {
		at = 0
	}
	h := make([]byte, rafs.BlobMetaHeaderSize)
	le.PutUint32(h[rafs.BlobMetaMagicAt:], rafs.BlobMetaMagic)
	le.PutUint32(h[rafs.BlobMetaMagic2At:], rafs.BlobMetaMagic)
	le.PutUint32(h[rafs.BlobMetaCompressorAt:], uint32(comp))
	le.PutUint32(h[rafs.BlobMetaEntriesAt:], uint32(len(w.chunks)))
	le.PutUint64(h[rafs.BlobMetaOffsetAt:], at)
	le.PutUint64(h[rafs.BlobMetaCompressedAt:], uint64(len(stored)))
	le.PutUint64(h[rafs.BlobMetaUncompressedAt:], uint64(len(array)))
	le.PutUint64(h[rafs.BlobMetaContextsAt:], contexts)
	le.PutUint64(h[rafs.BlobMetaContextsSizeAt:], uint64(len(w.ctx)))
	le.PutUint32(h[rafs.BlobMetaContextsCountAt:], uint32(len(w.ctx)/rafs.BatchContextSize)) // of zran contexts as well
	e := make([]byte, rafs.V6BlobSize)
	copy(e, w.spec.id)
	le.PutUint32(e[rafs.V6BlobIndexAt:], uint32(w.index))
	le.PutUint32(e[rafs.V6BlobChunkSizeAt:], 1<<sampleChunkBits)
	le.PutUint32(e[rafs.V6BlobChunkCountAt:], uint32(len(w.chunks)))
	le.PutUint32(e[rafs.V6BlobCompressorAt:], uint32(w.spec.comp))
	le.PutUint32(e[rafs.V6BlobDigesterAt:], uint32(w.spec.digester))
	le.PutUint32(e[rafs.V6BlobCICompressorAt:], uint32(comp))
	le.PutUint64(e[rafs.V6BlobUncompressedAt:], size)
	le.PutUint64(e[rafs.V6BlobCIOffsetAt:], at)
	le.PutUint64(e[rafs.V6BlobCICompressedAt:], uint64(len(stored)))
	le.PutUint64(e[rafs.V6BlobCIUncompressedAt:], uint64(len(array)))
	meta := append(w.encrypt(stored), w.encrypt(h)...)
	if w.spec.zran > 0 {
		w.metaFile = meta
		sum := codec.Sum(rafs.DigesterSHA256, meta)
		w.metaID = sum.String()
		copy(e[rafs.V6BlobMetaDigestAt:], sum[:])
		le.PutUint64(e[rafs.V6BlobMetaSizeAt:], uint64(len(meta)))
	} else {
		w.file = append(w.file, meta...)
	}
	if w.spec.features.Has(rafs.BlobInlinedChunkDigest) {
		w.digests(e)
	}
	le.PutUint32(e[rafs.V6BlobFeaturesAt:], uint32(features))
	le.PutUint64(e[rafs.V6BlobCompressedAt:], uint64(len(w.file)))
	if w.spec.features.Has(rafs.BlobEncrypted) {
		copy(e[rafs.V6BlobKeyAt:], w.key[:])
		copy(e[rafs.V6BlobIVAt:], w.iv[:])
		le.PutUint32(e[rafs.V6BlobCipherAt:], uint32(rafs.CipherAES128XTS))
	}
	return e
}

// digests appends blob.digest and a ToC that names it.
func (w *blobWriter) digests(e []byte) {
	var digests []byte
	for i := range w.chunks {
		digests = append(digests, w.chunks[i].Digest[:]...)
	}
	toc := make([]byte, rafs.TOCEntrySize)
	sum := codec.Sum(rafs.DigesterSHA256, digests)
	le.PutUint32(toc, rafs.TOCFlagNone)
	copy(toc[rafs.TOCNameAt:], rafs.SectionDigest)
	copy(toc[rafs.TOCDigestAt:], sum[:])
	le.PutUint64(toc[rafs.TOCCompressedOffAt:], uint64(len(w.file)))
	le.PutUint64(toc[rafs.TOCCompressedSizeAt:], uint64(len(digests)))
	le.PutUint64(toc[rafs.TOCUncompressedAt:], uint64(len(digests)))
	w.file = append(append(w.file, digests...), tarHeader(rafs.SectionDigest, len(digests))...)
	tail := append(toc, tarHeader(rafs.SectionTOC, len(toc))...)
	w.file = append(w.file, tail...)
	sum = codec.Sum(rafs.DigesterSHA256, tail)
	le.PutUint32(e[rafs.V6BlobTOCSizeAt:], uint32(len(tail)))
	copy(e[rafs.V6BlobTOCDigestAt:], sum[:])
}

func tarHeader(name string, size int) []byte {
	h := make([]byte, rafs.TarHeaderSize)
	copy(h, name)
	copy(h[124:], fmt.Sprintf("%011o", size))
	copy(h[148:], "        ")
	h[156] = '0'
	copy(h[257:], "ustar  \x00")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

// bootstrap writes a v6 bootstrap with an empty root directory.
func bootstrap(specs []blobSpec, entries []byte, table []rafs.Chunk) []byte {
	up := func(n int) int { return (n + 4095) &^ 4095 }
	btable := up(rafs.V6DeviceOff + rafs.V6DeviceSize*len(specs))
	meta := up(btable + len(entries))
	root := meta + rafs.V6RootOff
	ctable := up(root + rafs.V6CompactSize + 4096)
	b := make([]byte, up(ctable+len(table)*rafs.ChunkInfoSize))
	sb := b[rafs.V6SuperOff:]
	le.PutUint32(sb, rafs.V6Magic)
	le.PutUint32(sb[rafs.V6SuperCompatAt:], rafs.V6CompatRAFS)
	sb[rafs.V6SuperBlkSzBitsAt] = rafs.V6BlkSzBits
	le.PutUint16(sb[rafs.V6SuperRootNidAt:], rafs.V6RootOff/rafs.V6SlotSize)
	le.PutUint64(sb[rafs.V6SuperInosAt:], 1)
	le.PutUint32(sb[rafs.V6SuperMetaBlkaddrAt:], uint32(meta>>rafs.V6BlkSzBits))
	le.PutUint32(sb[rafs.V6SuperIncompatAt:], rafs.V6IncompatWanted)
	le.PutUint16(sb[rafs.V6SuperExtraDevicesAt:], uint16(len(specs)))
	le.PutUint16(sb[rafs.V6SuperDevtSlotOffAt:], rafs.V6DevtSlotOff)
	ext := b[rafs.V6ExtOff:]
	flags := rafs.FlagCompressionLZ4 | rafs.FlagHashSHA256 | rafs.FlagExplicitUIDGID
	le.PutUint64(ext[rafs.V6ExtFlagsAt:], uint64(flags))
	le.PutUint64(ext[rafs.V6ExtBlobTableAt:], uint64(btable))
	le.PutUint32(ext[rafs.V6ExtBlobTableSizeAt:], uint32(len(entries)))
	le.PutUint32(ext[rafs.V6ExtChunkSizeAt:], 1<<sampleChunkBits)
	le.PutUint64(ext[rafs.V6ExtChunkTableAt:], uint64(ctable))
	le.PutUint64(ext[rafs.V6ExtChunkTableSizeAt:], uint64(len(table)*rafs.ChunkInfoSize))
	for i, spec := range specs {
		d := b[rafs.V6DeviceOff+i*rafs.V6DeviceSize:]
		copy(d, spec.id)
		le.PutUint32(d[rafs.V6DeviceBlocksAt:], 1)
	}
	copy(b[btable:], entries)
	le.PutUint16(b[root+rafs.V6InodeModeAt:], rafs.ModeDir|0o755)
	le.PutUint16(b[root+rafs.V6CompactNlinkAt:], 2)
	slices.SortFunc(table, func(a, b rafs.Chunk) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
	for i := range table {
		putChunk(b[ctable+i*rafs.ChunkInfoSize:], &table[i])
	}
	return b
}

func putChunk(b []byte, c *rafs.Chunk) {
	copy(b[rafs.ChunkInfoDigestAt:], c.Digest[:])
	le.PutUint32(b[rafs.ChunkInfoBlobAt:], uint32(c.Blob))
	le.PutUint32(b[rafs.ChunkInfoFlagsAt:], uint32(c.Flags&^rafs.ChunkZran))
	le.PutUint32(b[rafs.ChunkInfoCompressedSizeAt:], c.CompressedSize)
	le.PutUint32(b[rafs.ChunkInfoSizeAt:], c.Size)
	le.PutUint64(b[rafs.ChunkInfoCompressedOffAt:], c.CompressedOff)
	le.PutUint64(b[rafs.ChunkInfoUncompressedOffAt:], c.Off)
	le.PutUint32(b[rafs.ChunkInfoIndexAt:], uint32(c.Index))
	le.PutUint32(b[rafs.ChunkInfoCRCAt:], c.CRC32)
}

// readAll reads spans the way a server does: try, fetch, read.
func readAll(ctx context.Context, c *Cache, r *Reader, spans []rafs.Span) ([]byte, error) {
	size := 0
	for i := range spans {
		size += int(spans[i].Len)
	}
	out := make([]byte, size)
	n, err := c.TryRead(r, spans, uneven(out))
	var h Held
	defer h.Release()
	for round := 0; err == ErrMiss && round < 5; round++ {
		if err := c.Fetch(ctx, spans, &h); err != nil {
			return nil, err
		}
		n, err = c.Read(r, spans, n, uneven(out), &h)
	}
	if err == nil && n != size {
		err = fmt.Errorf("read %d bytes of %d", n, size)
	}
	return out, err
}

// uneven cuts p into uneven buffers.
func uneven(p []byte) (list [][]byte) {
	for n := 1; len(p) > 0; n = n*3 + 1 {
		k := min(n, len(p))
		list = append(list, p[:k])
		p = p[k:]
		if n > 100_000 {
			n = 5
		}
	}
	return list
}
