package rafs_test

import (
	"slices"
	"strings"
	"testing"

	"vrafs/rafs"
)

func open(t *testing.T, data []byte, name string) *rafs.Image {
	t.Helper()
	im, err := rafs.Open(data, rafs.Options{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// at reads the inode at a path of names.
func at(t *testing.T, im *rafs.Image, names ...string) rafs.Inode {
	t.Helper()
	ino := im.Root()
	for _, name := range names {
		n, err := im.Inode(ino)
		if err != nil {
			t.Fatal(err)
		}
		if ino, err = n.Lookup([]byte(name)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	n, err := im.Inode(ino)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestPrefetchTables reads lists of v5 inode numbers and v6 nids (sections 1.4, 2.6).
func TestPrefetchTables(t *testing.T) {
	list := func(ino ...uint64) []byte {
		var b []byte
		for _, i := range ino {
			b = le.AppendUint32(b, uint32(i))
		}
		return append(b, make([]byte, up(uint64(len(b)), 8)-uint64(len(b)))...)
	}
	m := newSample()
	v5 := m.v5()
	at5 := uint64(len(v5))
	v5 = append(v5, list(m.a.index, m.f.index, 0, 99)...)
	le.PutUint64(v5[rafs.V5SuperPrefetchTableAt:], at5)
	le.PutUint32(v5[rafs.V5SuperPrefetchEntriesAt:], 4)
	im := open(t, v5, "")
	if got, want := im.Prefetch(), []rafs.Ino{rafs.Ino(m.a.index), rafs.Ino(m.f.index)}; !slices.Equal(got, want) {
		t.Errorf("v5: got %v, want %v", got, want)
	}
	if got := problems(t, v5); got != "" {
		t.Error(got)
	}

	v6 := m.v6()
	const at6 = 2048 // between the device table and the blob table
	copy(v6[at6:], list(m.file.nid, m.root.nid, 1<<20))
	le.PutUint64(v6[rafs.V6ExtOff+rafs.V6ExtPrefetchTableAt:], at6)
	le.PutUint32(v6[rafs.V6ExtOff+rafs.V6ExtPrefetchTableSizeAt:], 12)
	im = open(t, v6, "")
	if got, want := im.Prefetch(), []rafs.Ino{rafs.Ino(m.file.nid), im.Root(), 1 << 20}; !slices.Equal(got, want) {
		t.Errorf("v6: got %v, want %v", got, want)
	}
	if got := problems(t, v6); !strings.Contains(got, "prefetch table entry 2") {
		t.Errorf("an entry for no inode: %q", got)
	}

	// Legacy empty images have a size and no place (section 2.3).
	le.PutUint64(v6[rafs.V6ExtOff+rafs.V6ExtPrefetchTableAt:], 0)
	if got := open(t, v6, "").Prefetch(); len(got) != 0 {
		t.Errorf("a table without a place gives %v", got)
	}
}

// TestOldV5Images have no extended blob table, no algorithm bits, unknown blob
// features, and symlinks without a size.
func TestOldV5Images(t *testing.T) {
	m := newSample()
	data := m.v5()
	le.PutUint32(data[rafs.V5SuperExtEntriesAt:], 0)
	le.PutUint64(data[rafs.V5SuperExtTableAt:], 0)
	le.PutUint64(data[rafs.V5SuperFlagsAt:], 0)
	le.PutUint64(data[m.s.off+rafs.V5InodeSizeAt:], 0)
	im := open(t, data, "")
	for _, b := range im.Blobs() {
		if !b.Features.Has(rafs.BlobNoExtTable) || b.ChunkCount != 0 || b.Compressor != rafs.CompressorLZ4 || b.Digester != rafs.DigesterBLAKE3 {
			t.Errorf("blob %+v", b)
		}
	}
	file := at(t, im, "a", "file")
	checkSpans(t, &file, m.file, m.chunkBits, 0, m.file.size)
	link := at(t, im, "s")
	if target, err := link.Symlink(); err != nil || string(target) != "target" || link.Attr().Size != 6 {
		t.Errorf("target %q of size %d, %v", target, link.Attr().Size, err)
	}

	data = m.v5()
	ext := le.Uint64(data[rafs.V5SuperExtTableAt:])
	le.PutUint32(data[ext+rafs.V5ExtFeaturesAt:], uint32(rafs.BlobCapTarTOC)|0x00f0_9000)
	if b := open(t, data, "").Blobs()[0]; b.Features != rafs.BlobCapTarTOC {
		t.Errorf("unknown features are kept: %v", b.Features)
	}
}

// TestFilesWithHolesAreSearched reads a legacy file whose chunks do not stand at
// their number times the chunk size (section 1.6).
func TestFilesWithHolesAreSearched(t *testing.T) {
	m := newSample()
	data := m.v5()
	chunks := m.file.off + rafs.V5InodeSize + 8
	le.PutUint64(data[m.file.off+rafs.V5InodeFlagsAt:], rafs.V5InodeHasHole)
	// 0..4095, 4096..6095 and 6096..8191 instead of 4096, 4096 and 1808 bytes.
	le.PutUint32(data[chunks+rafs.ChunkInfoSize+rafs.ChunkInfoSizeAt:], 2000)
	le.PutUint32(data[chunks+rafs.ChunkInfoSize+rafs.ChunkInfoCompressedSizeAt:], 2000)
	le.PutUint64(data[chunks+2*rafs.ChunkInfoSize+rafs.ChunkInfoFileOffAt:], 6096)
	le.PutUint64(data[m.file.off+rafs.V5InodeSizeAt:], 6096+1808)
	n := at(t, open(t, data, ""), "a", "file")
	spans, err := n.AppendSpans(nil, 4000, 3000)
	if err != nil {
		t.Fatal(err)
	}
	var got []uint32
	for _, s := range spans {
		got = append(got, s.Len)
	}
	if !slices.Equal(got, []uint32{96, 2000, 904}) || spans[2].Off != m.file.chunks[2].Off {
		t.Errorf("got %+v", spans)
	}
	// A real hole is refused: nothing says what it holds.
	le.PutUint64(data[chunks+2*rafs.ChunkInfoSize+rafs.ChunkInfoFileOffAt:], 7000)
	if _, err := n.AppendSpans(nil, 6096, 10); err == nil {
		t.Error("a hole was read")
	}
}

// TestV6Addresses reads chunk numbers above 16 bits beside the device id, and
// ignores chunk bits that speak of the kernel's extents (section 2.9).
func TestV6Addresses(t *testing.T) {
	m := newSample()
	data := m.v6()
	const big = 0x12345
	blob := data[4096:]
	le.PutUint32(blob[rafs.V6BlobChunkCountAt:], big+1)
	le.PutUint64(blob[rafs.V6BlobCIUncompressedAt:], (big+1)*16)
	a := addr(m, data, m.file)
	le.PutUint16(a, big&0xffff)
	a[rafs.V6ChunkAddrHighAt] = big >> 16
	le.PutUint32(data[m.file.off+rafs.V6ExtendedUAt:], rafs.V6ChunkIndexes|9)
	n := at(t, open(t, data, ""), "a", "file")
	spans, err := n.AppendSpans(nil, 0, n.Size())
	if err != nil || len(spans) != 3 || spans[0].Index != big || spans[0].Blob != 0 || spans[0].Len != 4096 {
		t.Errorf("got %+v, %v", spans, err)
	}
}

// TestBlobIDs replaces placeholders by the file's name where section 4.10 says so.
func TestBlobIDs(t *testing.T) {
	digest, placeholder, own := strings.Repeat("ab", 32), rafs.PlaceholderBlobID, strings.Repeat("1", 64)
	const v2, native = rafs.BlobAligned, rafs.BlobAligned | rafs.BlobCapTarTOC
	for _, tt := range []struct {
		name     string
		features rafs.BlobFeatures
		stored   string
		file     string
		id, meta string
	}{
		{"own_file", native, own, digest + ".boot", own, own},
		{"inlined", native | rafs.BlobInlinedFSMeta, placeholder, digest, digest, digest},
		{"inlined_with_extensions", native | rafs.BlobInlinedFSMeta, placeholder, "/d/" + digest + ".boot.tmp", digest, digest},
		{"inlined_given_id", native | rafs.BlobInlinedFSMeta, own, "name", "name", "name"},
		{"inlined_no_name", native | rafs.BlobInlinedFSMeta, placeholder, "", placeholder, placeholder},
		{"before_2.2", v2, placeholder, digest + ".boot", digest, digest},
		{"before_2.2_no_digest", v2, own, "image.boot", own, own},
		{"separate", native | rafs.BlobSeparate, own, digest, own, strings.Repeat("0", 64)},
		{"separate_inlined", native | rafs.BlobSeparate | rafs.BlobInlinedFSMeta, own, digest + ".boot", own, digest},
		{"external", native | rafs.BlobExternal, own, digest, own, own},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newSample()
			m.blobs[1].id = tt.stored
			if tt.stored == own {
				m.blobs[0].id = strings.Repeat("3", 64)
			}
			data := m.v6()
			le.PutUint32(data[4096+rafs.V6BlobSize+rafs.V6BlobFeaturesAt:], uint32(tt.features))
			b := open(t, data, tt.file).Blobs()[1]
			if b.ID != tt.id || b.MetaID != tt.meta || b.RawID != tt.stored {
				t.Errorf("got %s, meta %s, stored %s", b.ID, b.MetaID, b.RawID)
			}
		})
	}
}

// TestEncryptedBlobsCarryTheirKey reads key and IV from where other blobs have the
// digest and size of their meta file (section 2.5).
func TestEncryptedBlobsCarryTheirKey(t *testing.T) {
	m := newSample()
	data := m.v6()
	e := data[4096:]
	le.PutUint32(e[rafs.V6BlobFeaturesAt:], uint32(rafs.BlobAligned|rafs.BlobCapTarTOC|rafs.BlobEncrypted|rafs.BlobChunkInfoV2))
	le.PutUint64(e[rafs.V6BlobCIUncompressedAt:], uint64(m.blobs[0].chunks)*rafs.ChunkInfoV2Size)
	le.PutUint32(e[rafs.V6BlobCipherAt:], uint32(rafs.CipherAES128XTS))
	key, iv := []byte("0123456789abcdefFEDCBA9876543210"), []byte("initial vector!!")
	copy(e[rafs.V6BlobKeyAt:], key)
	copy(e[rafs.V6BlobIVAt:], iv)
	b := open(t, data, "").Blobs()[0]
	if !b.Encrypted() || string(b.Key[:]) != string(key) || string(b.IV[:]) != string(iv) || !b.MetaDigest.IsZero() || b.MetaFileSize != 0 {
		t.Errorf("got %+v", b)
	}
	copy(e[rafs.V6BlobKeyAt:], key[16:])
	refused(t, data, rafs.ErrCorrupt, "halves are equal")
}

// TestCompressedDataSizes holds the three meanings of section 4.10 apart.
func TestCompressedDataSizes(t *testing.T) {
	const native = rafs.BlobCapTarTOC
	for _, tt := range []struct {
		name     string
		features rafs.BlobFeatures
		meta     uint64
		want     uint64
	}{
		{"before_2.2", 0, 9000, 10000},
		{"separate", native | rafs.BlobSeparate, 9000, 10000},
		{"with_meta", native, 9000, 9000},
		{"with_meta_and_tar_headers", native | rafs.BlobHasTarHeader, 9000, 9000 - 512},
		{"v5", native, 0, 10000},
		{"v5_inlined", native | rafs.BlobHasTarHeader, 0, 10000 - 512},
	} {
		b := rafs.Blob{Features: tt.features, CompressedSize: 10000, MetaOff: tt.meta}
		if got := b.CompressedDataSize(); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
}
