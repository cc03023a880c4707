package rafs_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"vrafs/rafs"
)

// refused opens a damaged image and compares class and text of the error.
func refused(t *testing.T, data []byte, class error, want string) {
	t.Helper()
	_, err := rafs.Open(data, rafs.Options{})
	var fe *rafs.FormatError
	if !errors.As(err, &fe) || !errors.Is(err, class) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %v with %q", err, class, want)
	}
}

func TestOpenRefusesV5(t *testing.T) {
	u32 := func(at, v int) func([]byte) []byte {
		return func(b []byte) []byte { le.PutUint32(b[at:], uint32(v)); return b }
	}
	u64 := func(at int, v uint64) func([]byte) []byte {
		return func(b []byte) []byte { le.PutUint64(b[at:], v); return b }
	}
	for _, tt := range []struct {
		name   string
		damage func([]byte) []byte
		class  error
		want   string
	}{
		{"empty", func([]byte) []byte { return nil }, rafs.ErrUnsupported, "neither a RAFS v5 nor a v6"},
		{"other_magic", u32(0, 0x12345678), rafs.ErrUnsupported, "neither"},
		{"version_4", u32(rafs.V5SuperVersionAt, 0x400), rafs.ErrUnsupported, "neither"},
		{"super_block_alone", func(b []byte) []byte { return b[:rafs.V5SuperSize] }, rafs.ErrCorrupt, "bootstrap.size"},
		{"cut_in_a_word", func(b []byte) []byte { return b[:len(b)-4] }, rafs.ErrCorrupt, "bootstrap.size"},
		{"super_block_size", u32(rafs.V5SuperSizeAt, 4096), rafs.ErrCorrupt, "super.sb_size"},
		{"chunk_size_odd", u32(rafs.V5SuperBlockSizeAt, 5000), rafs.ErrCorrupt, "super.block_size"},
		{"chunk_size_small", u32(rafs.V5SuperBlockSizeAt, 2048), rafs.ErrCorrupt, "super.block_size"},
		{"chunk_size_large", u32(rafs.V5SuperBlockSizeAt, 32<<20), rafs.ErrCorrupt, "super.block_size"},
		{"unknown_flags", u64(rafs.V5SuperFlagsAt, 1<<40|0x800), rafs.ErrUnsupported, "0x800|0x10000000000"},
		{"more_inodes_than_names", u64(rafs.V5SuperInodesCountAt, 1<<32), rafs.ErrCorrupt, "super.inodes_count"},
		{"no_names", u32(rafs.V5SuperInodeEntriesAt, 0), rafs.ErrCorrupt, "super.inode"},
		{"inode_table_outside", u64(rafs.V5SuperInodeTableAt, 1<<63), rafs.ErrCorrupt, "super.inode_table"},
		{"inode_table_in_the_super_block", u64(rafs.V5SuperInodeTableAt, 4096), rafs.ErrCorrupt, "super.inode_table"},
		{"inode_table_unaligned", u64(rafs.V5SuperInodeTableAt, rafs.V5SuperSize+4), rafs.ErrCorrupt, "super.inode_table"},
		{"names_past_the_end", u32(rafs.V5SuperInodeEntriesAt, 1<<30), rafs.ErrCorrupt, "super.inode_table"},
		{"tables_overlap", u64(rafs.V5SuperBlobTableAt, rafs.V5SuperSize), rafs.ErrCorrupt, "overlaps super.inode_table"},
		{"prefetch_outside", u32(rafs.V5SuperPrefetchEntriesAt, 1<<31-1), rafs.ErrCorrupt, "super.prefetch_table"},
		{"blob_table_outside", u32(rafs.V5SuperBlobTableSizeAt, 1<<31), rafs.ErrCorrupt, "super.blob_table"},
		{"too_few_extended_entries", u32(rafs.V5SuperExtEntriesAt, 1), rafs.ErrCorrupt, "extended_blob_table"},
		{"blob_id_is_a_path", func(b []byte) []byte { rename(b, "111111", "../../"); return b }, rafs.ErrCorrupt, "blob_table.id"},
		{"root_is_no_directory", func(b []byte) []byte {
			root := uint64(le.Uint32(b[rafs.V5SuperSize:])) << rafs.V5InodeShift
			le.PutUint32(b[root+rafs.V5InodeModeAt:], rafs.ModeFIFO)
			return b
		}, rafs.ErrCorrupt, "root.mode"},
	} {
		t.Run(tt.name, func(t *testing.T) { refused(t, tt.damage(newSample().v5()), tt.class, tt.want) })
	}
}

func TestOpenRefusesV6(t *testing.T) {
	type change struct {
		at    int
		width int
		v     uint64
	}
	super := func(at, width int, v uint64) change { return change{rafs.V6SuperOff + at, width, v} }
	ext := func(at, width int, v uint64) change { return change{rafs.V6ExtOff + at, width, v} }
	blob := func(at, width int, v uint64) change { return change{4096 + at, width, v} }
	device := func(at, width int, v uint64) change { return change{rafs.V6DeviceOff + at, width, v} }
	const aligned = uint64(rafs.BlobAligned | rafs.BlobCapTarTOC)
	for _, tt := range []struct {
		name  string
		c     change
		class error
		want  string
	}{
		{"plain_erofs", super(rafs.V6SuperCompatAt, 4, 3), rafs.ErrUnsupported, "lacks the RAFS bit"},
		{"incompatible_features", super(rafs.V6SuperIncompatAt, 4, 0x8000006c), rafs.ErrUnsupported, "FRAGMENTS|XATTR_PREFIXES|0x80000000"},
		{"features_missing", super(rafs.V6SuperIncompatAt, 4, 0x4), rafs.ErrCorrupt, "missing DEVICE_TABLE"},
		{"checksum", super(rafs.V6SuperChecksumAt, 4, 1), rafs.ErrCorrupt, "super.checksum"},
		{"extra_slots", super(rafs.V6SuperExtSlotsAt, 1, 1), rafs.ErrCorrupt, "super.sb_extslots"},
		{"block_size", super(rafs.V6SuperBlkSzBitsAt, 1, 16), rafs.ErrCorrupt, "super.blkszbits"},
		{"block_size_of_tarfs", super(rafs.V6SuperBlkSzBitsAt, 1, 9), rafs.ErrCorrupt, "super.blkszbits"},
		{"compression", super(rafs.V6SuperCompressionAt, 2, 1), rafs.ErrCorrupt, "super.compression"},
		{"device_slot", super(rafs.V6SuperDevtSlotOffAt, 2, 12), rafs.ErrCorrupt, "super.devt_slotoff"},
		{"no_names", super(rafs.V6SuperInosAt, 8, 0), rafs.ErrCorrupt, "super.inos"},
		{"metadata_outside", super(rafs.V6SuperMetaBlkaddrAt, 4, 1<<32-1), rafs.ErrCorrupt, "super.meta_blkaddr"},
		{"xattrs_outside", super(rafs.V6SuperXattrBlkaddrAt, 4, 1<<32-1), rafs.ErrCorrupt, "super.xattr_blkaddr"},
		{"devices_and_blobs_differ", super(rafs.V6SuperExtraDevicesAt, 2, 1), rafs.ErrCorrupt, "super.extra_devices"},
		{"root_outside", super(rafs.V6SuperRootNidAt, 2, 65535), rafs.ErrCorrupt, "inode"},
		{"unknown_flags", ext(rafs.V6ExtFlagsAt, 8, 1<<50|0x400|0x5), rafs.ErrUnsupported, "0x400|0x4000000000000"},
		{"no_compressor", ext(rafs.V6ExtFlagsAt, 8, uint64(rafs.FlagHashSHA256)), rafs.ErrCorrupt, "not one compressor"},
		{"two_digesters", ext(rafs.V6ExtFlagsAt, 8, uint64(rafs.FlagHashSHA256|rafs.FlagHashBLAKE3|rafs.FlagCompressionZstd)), rafs.ErrCorrupt, "one digester"},
		{"chunk_size", ext(rafs.V6ExtChunkSizeAt, 4, 4097), rafs.ErrCorrupt, "ext_super.chunk_size"},
		{"blob_table_unaligned", ext(rafs.V6ExtBlobTableAt, 8, 4097), rafs.ErrCorrupt, "ext_super.blob_table"},
		{"blob_table_size", ext(rafs.V6ExtBlobTableSizeAt, 4, 257), rafs.ErrCorrupt, "ext_super.blob_table"},
		{"chunk_table_outside", ext(rafs.V6ExtChunkTableSizeAt, 8, 80<<40), rafs.ErrCorrupt, "ext_super.chunk_table"},
		{"chunk_table_over_blobs", ext(rafs.V6ExtChunkTableAt, 8, 4096), rafs.ErrCorrupt, "overlaps the blob_table"},
		{"blob_id_empty", blob(rafs.V6BlobIDAt, 1, 0), rafs.ErrCorrupt, "blob.blob_id"},
		{"blob_position", blob(rafs.V6BlobIndexAt, 4, 1), rafs.ErrCorrupt, "blob.blob_index"},
		{"blob_chunk_size", blob(rafs.V6BlobChunkSizeAt, 4, 8192), rafs.ErrCorrupt, "blob.chunk_size"},
		{"blob_chunk_count", blob(rafs.V6BlobChunkCountAt, 4, 1<<24+1), rafs.ErrCorrupt, "blob.chunk_count"},
		{"blob_compressor", blob(rafs.V6BlobCompressorAt, 4, 4), rafs.ErrCorrupt, "blob.compression_algo"},
		{"blob_compressor_wide", blob(rafs.V6BlobCompressorAt, 4, 256), rafs.ErrCorrupt, "blob.compression_algo"},
		{"blob_digester", blob(rafs.V6BlobDigesterAt, 4, 2), rafs.ErrCorrupt, "blob.digest_algo"},
		{"blob_cipher", blob(rafs.V6BlobCipherAt, 4, 2), rafs.ErrCorrupt, "blob.cipher_algo"},
		{"blob_features_unknown", blob(rafs.V6BlobFeaturesAt, 4, aligned|0x9000), rafs.ErrUnsupported, "0x1000|0x8000"},
		{"blob_features_internal", blob(rafs.V6BlobFeaturesAt, 4, aligned|1<<31), rafs.ErrCorrupt, "internal bit"},
		{"blob_not_aligned", blob(rafs.V6BlobFeaturesAt, 4, uint64(rafs.BlobCapTarTOC)), rafs.ErrCorrupt, "ALIGNED"},
		{"batch_without_v2", blob(rafs.V6BlobFeaturesAt, 4, aligned|uint64(rafs.BlobBatch)), rafs.ErrCorrupt, "need CHUNK_INFO_V2"},
		{"encrypted_without_cipher", blob(rafs.V6BlobFeaturesAt, 4, aligned|uint64(rafs.BlobEncrypted|rafs.BlobChunkInfoV2)), rafs.ErrCorrupt, "blob.cipher_algo"},
		{"blob_compressed_size", blob(rafs.V6BlobCompressedAt, 8, 1<<41), rafs.ErrCorrupt, "blob.compressed_size"},
		{"blob_size_unaligned", blob(rafs.V6BlobUncompressedAt, 8, 4097), rafs.ErrCorrupt, "blob.uncompressed_size"},
		{"blob_size", blob(rafs.V6BlobUncompressedAt, 8, 1<<45), rafs.ErrCorrupt, "blob.uncompressed_size"},
		{"toc_size", blob(rafs.V6BlobTOCSizeAt, 4, 513), rafs.ErrCorrupt, "blob.blob_toc_size"},
		{"chunk_infos_compressed", blob(rafs.V6BlobCICompressedAt, 8, 1<<20), rafs.ErrCorrupt, "blob.ci_compressed_size"},
		{"chunk_infos_missing", blob(rafs.V6BlobCIUncompressedAt, 8, 64), rafs.ErrCorrupt, "blob.ci_uncompressed_size"},
		{"device_empty", device(rafs.V6DeviceBlocksAt, 4, 0), rafs.ErrCorrupt, "device.blocks"},
		{"device_of_another_blob", device(rafs.V6DeviceTagAt, 1, '7'), rafs.ErrCorrupt, "device.tag"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			data := newSample().v6()
			copy(data[tt.c.at:], le.AppendUint64(nil, tt.c.v)[:tt.c.width])
			refused(t, data, tt.class, tt.want)
		})
	}
	t.Run("cut", func(t *testing.T) {
		data := newSample().v6()
		refused(t, data[:4095], rafs.ErrCorrupt, "bootstrap.size")
		refused(t, data[:len(data)-1], rafs.ErrCorrupt, "not a multiple of the block size")
	})
	t.Run("prefetch_size", func(t *testing.T) {
		data := newSample().v6()
		le.PutUint64(data[rafs.V6ExtOff+rafs.V6ExtPrefetchTableAt:], 2048)
		le.PutUint32(data[rafs.V6ExtOff+rafs.V6ExtPrefetchTableSizeAt:], 6)
		refused(t, data, rafs.ErrCorrupt, "ext_super.prefetch_table")
	})
	t.Run("blob_twice", func(t *testing.T) {
		m := newSample()
		m.blobs[1].id = m.blobs[0].id
		refused(t, m.v6(), rafs.ErrCorrupt, "repeats the id")
	})
}

// TestMergedImages opens images of up to 254 blobs, and no more.
func TestMergedImages(t *testing.T) {
	merged := func(n int) *model {
		m := &model{root: &node{mode: rafs.ModeDir | 0o755}, chunkBits: 12, blockBits: 12}
		for i := range n {
			m.blobs = append(m.blobs, modelBlob{id: fmt.Sprintf("%064x", i)})
			f := &node{name: fmt.Sprintf("layer%03d", i), mode: rafs.ModeRegular | 0o644}
			m.addFile(f, i, uint64(4000+100*i))
			m.root.children = append(m.root.children, f)
		}
		m.finish()
		return m
	}
	for _, n := range []int{0, 1, 254} {
		m := merged(n)
		for _, data := range [][]byte{m.v5(), m.v6()} {
			im, err := rafs.Open(data, rafs.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(im.Blobs()) != n {
				t.Errorf("%d blobs, want %d", len(im.Blobs()), n)
			}
			for i, f := range m.root.children {
				root, err := im.Inode(im.Root())
				if err != nil {
					t.Fatal(err)
				}
				ino, err := root.Lookup([]byte(f.name))
				if err != nil {
					t.Fatal(err)
				}
				inode, err := im.Inode(ino)
				if err != nil {
					t.Fatal(err)
				}
				checkSpans(t, &inode, f, m.chunkBits, 0, f.size)
				if im.Blobs()[i].ID != m.blobs[i].id {
					t.Errorf("blob %d is %s", i, im.Blobs()[i].ID)
				}
			}
			checkClean(t, im, uint64(n+1))
		}
	}
	refused(t, merged(255).v6(), rafs.ErrUnsupported, "255 blobs, at most 254")
}

// TestOpeningCostsBlobsNotFiles counts allocations for ten files and for ten
// thousand. BenchmarkOpen has the times, up to a million.
func TestOpeningCostsBlobsNotFiles(t *testing.T) {
	for _, write := range []func(*model) []byte{(*model).v5, (*model).v6} {
		var allocs []float64
		for _, files := range []int{10, 10000} {
			data := write(bigDir(files))
			allocs = append(allocs, testing.AllocsPerRun(10, func() {
				if _, err := rafs.Open(data, rafs.Options{}); err != nil {
					t.Fatal(err)
				}
			}))
		}
		if allocs[0] != allocs[1] || allocs[0] > 10 {
			t.Errorf("%v allocations for 10 and for 10,000 files", allocs)
		}
	}
}
