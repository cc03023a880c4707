package rafs_test

import (
	"errors"
	"strings"
	"testing"

	"vrafs/rafs"
)

// chunkArray packs chunks and appends context tables.
func chunkArray(v2 bool, chunks []rafs.Chunk, tables ...[]byte) []byte {
	var b []byte
	for i := range chunks {
		if !v2 {
			u, c := rafs.PackChunkInfoV1(&chunks[i])
			b = le.AppendUint64(le.AppendUint64(b, u), c)
			continue
		}
		u, c, d := rafs.PackChunkInfoV2(&chunks[i])
		b = le.AppendUint64(le.AppendUint64(le.AppendUint64(b, u), c), d)
	}
	for _, t := range tables {
		b = append(b, t...)
	}
	return b
}

// blobFor makes a blob whose table entry fits an array.
func blobFor(features rafs.BlobFeatures, count int, array []byte) *rafs.Blob {
	return &rafs.Blob{
		ChunkCount: uint32(count), ChunkSize: 1 << 20, Features: features, Compressor: rafs.CompressorZstd,
		CompressedSize: 1 << 30, UncompressedSize: 1 << 32,
		MetaOff: 1 << 29, MetaCompressedSize: uint64(len(array)), MetaUncompressedSize: uint64(len(array)),
	}
}

func parseMeta(t *testing.T, b *rafs.Blob, array []byte, contexts uint32) *rafs.BlobMeta {
	t.Helper()
	infos := uint64(b.ChunkCount) * b.ChunkInfoSize()
	m, err := rafs.ParseBlobMeta(b, metaHeader(b, infos, uint64(len(array))-infos, contexts), array)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestChunkInfoArrays reads both versions at the ends of their ranges (section 4.4).
func TestChunkInfoArrays(t *testing.T) {
	chunks := []rafs.Chunk{
		{Index: 0, Off: 0, Size: 1, CompressedOff: 0, CompressedSize: 1},
		{Index: 1, Off: 4096, Size: 1 << 20, CompressedOff: 1, CompressedSize: 1<<20 - 1, Flags: rafs.ChunkCompressed},
		{Index: 2, Off: 2 << 20, Size: 4097, CompressedOff: 1<<29 - 5000, CompressedSize: 4096, Flags: rafs.ChunkCompressed},
		{Index: 3, Off: 1<<32 - 4096, Size: 4096, CompressedOff: 77777, CompressedSize: 4096},
	}
	for _, v2 := range []bool{false, true} {
		features := rafs.BlobAligned | rafs.BlobCapTarTOC
		want := append([]rafs.Chunk(nil), chunks...)
		if v2 {
			features |= rafs.BlobChunkInfoV2
			want[3].Flags, want[3].CRC32 = rafs.ChunkHasCRC, 0xdeadbeef
		}
		array := chunkArray(v2, want)
		m := parseMeta(t, blobFor(features, len(want), array), array, 0)
		for i, w := range want {
			if got, err := m.Chunk(rafs.ChunkIndex(i)); err != nil || got != w {
				t.Errorf("v2 %v: chunk %d = %+v, %v, want %+v", v2, i, got, err, w)
			}
			for _, off := range []uint64{w.Off, w.Off + uint64(w.Size) - 1} {
				if got, ok := m.Find(off); !ok || int(got) != i {
					t.Errorf("v2 %v: offset %#x is in chunk %d, %v; want %d", v2, off, got, ok, i)
				}
			}
			if got, ok := m.Find(w.Off + uint64(w.Size)); ok && int(got) == i {
				t.Errorf("v2 %v: chunk %d holds the byte after its end", v2, i)
			}
		}
		if _, err := m.Chunk(4); !errors.Is(err, rafs.ErrCorrupt) {
			t.Errorf("chunk past the end: %v", err)
		}
	}
}

// TestBatchChunks resolves members of a batch: place and size of the unit come
// from the context table (section 4.6).
func TestBatchChunks(t *testing.T) {
	batch := func(compressed, size uint32) []byte {
		b := make([]byte, rafs.BatchContextSize)
		le.PutUint32(b[rafs.BatchCompressedAt:], compressed)
		le.PutUint32(b[rafs.BatchUncompressedAt:], size)
		return b
	}
	const member = rafs.ChunkBatch | rafs.ChunkCompressed
	chunks := []rafs.Chunk{
		{Index: 0, Off: 0, Size: 100, CompressedOff: 500, Flags: member, Unit: 0, UnitOff: 0},
		{Index: 1, Off: 4096, Size: 200, CompressedOff: 500, Flags: member, Unit: 0, UnitOff: 100},
		{Index: 2, Off: 8192, Size: 50, CompressedOff: 700, Flags: member, Unit: 1, UnitOff: 0},
		{Index: 3, Off: 12288, Size: 201, CompressedOff: 500, Flags: member, Unit: 0, UnitOff: 100},
		{Index: 4, Off: 16384, Size: 10, CompressedOff: 500, Flags: member, Unit: 2, UnitOff: 0},
	}
	array := chunkArray(true, chunks, batch(120, 300), batch(50, 50))
	features := rafs.BlobAligned | rafs.BlobCapTarTOC | rafs.BlobChunkInfoV2 | rafs.BlobBatch
	m := parseMeta(t, blobFor(features, len(chunks), array), array, 2)
	want := []rafs.Chunk{chunks[0], chunks[1], chunks[2]}
	want[0].UnitSize, want[0].CompressedSize = 300, 120
	want[1].UnitSize, want[1].CompressedSize = 300, 120
	want[2].UnitSize, want[2].CompressedSize, want[2].Flags = 50, 50, rafs.ChunkBatch // stored as it is
	for i, w := range want {
		if got, err := m.Chunk(rafs.ChunkIndex(i)); err != nil || got != w {
			t.Errorf("chunk %d = %+v, %v, want %+v", i, got, err, w)
		}
	}
	for i, text := range map[rafs.ChunkIndex]string{3: "of a unit of 300", 4: "context 2 of 2"} {
		if _, err := m.Chunk(i); !errors.Is(err, rafs.ErrCorrupt) || !strings.Contains(err.Error(), text) {
			t.Errorf("chunk %d: %v", i, err)
		}
	}
	if m.ZranCount() != 0 {
		t.Error("batch contexts are no zran contexts")
	}
}

// TestNoContextsNeedNoPlace reads the header of a blob of large files only.
func TestNoContextsNeedNoPlace(t *testing.T) {
	array := chunkArray(true, []rafs.Chunk{{Size: 1 << 20, CompressedSize: 77, Flags: rafs.ChunkCompressed}})
	b := blobFor(rafs.BlobAligned|rafs.BlobChunkInfoV2|rafs.BlobBatch, 1, array)
	for _, at := range []uint64{0, b.ChunkInfoSize()} {
		m, err := rafs.ParseBlobMeta(b, metaHeader(b, at, 0, 0), array)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := m.Chunk(0); err != nil || c.CompressedSize != 77 {
			t.Errorf("chunk %+v, %v", c, err)
		}
	}
	if _, err := rafs.ParseBlobMeta(b, metaHeader(b, 0, 1, 0), array); !errors.Is(err, rafs.ErrCorrupt) {
		t.Errorf("a table at 0: %v", err)
	}
}

// TestZranChunks resolves slices of a gzip file (section 4.7).
func TestZranChunks(t *testing.T) {
	context := func(in, out uint64, inLen, outLen uint32, dict, dictSize uint64, bits uint8) []byte {
		b := make([]byte, rafs.ZranContextSize)
		le.PutUint64(b[rafs.ZranInOffAt:], in)
		le.PutUint64(b[rafs.ZranOutOffAt:], out)
		le.PutUint64(b[rafs.ZranDictOffAt:], dict)
		le.PutUint32(b[rafs.ZranInLenAt:], inLen)
		le.PutUint32(b[rafs.ZranOutLenAt:], outLen)
		le.PutUint32(b[rafs.ZranDictSizeAt:], uint32(dictSize))
		b[rafs.ZranCtxByteAt], b[rafs.ZranCtxBitsAt] = 0xa5, bits
		return b
	}
	const slice = rafs.ChunkZran | rafs.ChunkCompressed
	chunks := []rafs.Chunk{
		{Index: 0, Off: 0, Size: 1000, CompressedOff: 10, CompressedSize: 600, Flags: slice, Unit: 0, UnitOff: 512},
		{Index: 1, Off: 8192, Size: 2000, CompressedOff: 700, CompressedSize: 900, Flags: slice, Unit: 1, UnitOff: 0},
		{Index: 2, Off: 12288, Size: 2001, CompressedOff: 700, CompressedSize: 900, Flags: slice, Unit: 1, UnitOff: 0},
	}
	dicts := []byte("first windowsecond")
	array := chunkArray(true, chunks, context(10, 0, 650, 4096, 0, 0, 0), context(660, 4096, 1000, 2000, 12, 6, 3), dicts)
	features := rafs.BlobAligned | rafs.BlobCapTarTOC | rafs.BlobChunkInfoV2 | rafs.BlobZran | rafs.BlobSeparate
	m := parseMeta(t, blobFor(features, len(chunks), array), array, 2)
	if m.ZranCount() != 2 {
		t.Fatalf("%d contexts", m.ZranCount())
	}
	z, err := m.Zran(1)
	if err != nil || z.InOff != 660 || z.OutOff != 4096 || z.InLen != 1000 || z.OutLen != 2000 || z.CtxByte != 0xa5 || z.CtxBits != 3 || string(z.Dict) != "second" {
		t.Errorf("got %+v, %v", z, err)
	}
	c, err := m.Chunk(0)
	if err != nil || c.Unit != 0 || c.UnitOff != 512 || c.UnitSize != 4096 || c.CompressedOff != 10 || c.CompressedSize != 650 || c.Flags&rafs.ChunkZran == 0 {
		t.Errorf("got %+v, %v", c, err)
	}
	if _, err := m.Chunk(2); !errors.Is(err, rafs.ErrCorrupt) {
		t.Errorf("a chunk past its slice: %v", err)
	}
	bad := chunkArray(true, chunks[:1], context(10, 0, 650, 17<<20, 0, 0, 0))
	if _, err := parseMeta(t, blobFor(features, 1, bad), bad, 1).Zran(0); !errors.Is(err, rafs.ErrCorrupt) {
		t.Errorf("a slice above 16 MiB: %v", err)
	}
	for _, bits := range []uint8{8, 255} {
		bad := chunkArray(true, chunks[:1], context(10, 0, 650, 4096, 0, 0, bits))
		if _, err := parseMeta(t, blobFor(features, 1, bad), bad, 1).Zran(0); !errors.Is(err, rafs.ErrCorrupt) {
			t.Errorf("%d pending bits: %v", bits, err)
		}
	}
}

// TestBlobMetaHeadersBelongToTheirBlob compares each field (section 4.3).
func TestBlobMetaHeadersBelongToTheirBlob(t *testing.T) {
	array := chunkArray(false, []rafs.Chunk{{Size: 4096, CompressedSize: 4096}})
	b := blobFor(rafs.BlobAligned|rafs.BlobCapTarTOC, 1, array)
	for _, tt := range []struct {
		name string
		at   int
		want string
	}{
		{"magic", rafs.BlobMetaMagicAt, "blob_meta.magic"},
		{"magic_at_the_end", rafs.BlobMetaMagic2At, "blob_meta.magic"},
		{"compressor", rafs.BlobMetaCompressorAt, "ci_compressor"},
		{"entries", rafs.BlobMetaEntriesAt, "ci_entries"},
		{"offset", rafs.BlobMetaOffsetAt, "ci_offset"},
		{"compressed", rafs.BlobMetaCompressedAt, "ci_compressed_size"},
		{"uncompressed", rafs.BlobMetaUncompressedAt, "ci_uncompressed_size"},
		{"features_do_not_count", rafs.BlobMetaFeaturesAt, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := metaHeader(b, 16, 0, 0)
			h[tt.at] ^= 1
			_, err := rafs.ParseBlobMeta(b, h, array)
			if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, rafs.ErrCorrupt) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := rafs.ParseBlobMeta(b, metaHeader(b, 16, 0, 0), array[:15]); !errors.Is(err, rafs.ErrCorrupt) {
		t.Errorf("short array: %v", err)
	}
	if err := rafs.ParseBlobMetaHeader(b, make([]byte, 4095)); !errors.Is(err, rafs.ErrCorrupt) {
		t.Errorf("short header: %v", err)
	}
}
