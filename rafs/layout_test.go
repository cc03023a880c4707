package rafs_test

import (
	"testing"

	"vrafs/rafs"
)

// TestLayoutsMatchTheDescription lists every structure's fields as the format's
// description has them (sections 1.2, 1.5, 1.6, 1.11, 2.2 to 2.5, 2.8, 4.3, 4.7,
// 4.8): each begins where the one before ends, and the last ends the structure.
func TestLayoutsMatchTheDescription(t *testing.T) {
	type field struct{ at, width int }
	for _, s := range []struct {
		name   string
		size   int
		fields []field
	}{
		{"v5 super block", rafs.V5SuperSize, []field{
			{rafs.V5SuperMagicAt, 4}, {rafs.V5SuperVersionAt, 4}, {rafs.V5SuperSizeAt, 4}, {rafs.V5SuperBlockSizeAt, 4},
			{rafs.V5SuperFlagsAt, 8}, {rafs.V5SuperInodesCountAt, 8}, {rafs.V5SuperInodeTableAt, 8}, {rafs.V5SuperPrefetchTableAt, 8},
			{rafs.V5SuperBlobTableAt, 8}, {rafs.V5SuperInodeEntriesAt, 4}, {rafs.V5SuperPrefetchEntriesAt, 4},
			{rafs.V5SuperBlobTableSizeAt, 4}, {rafs.V5SuperExtEntriesAt, 4}, {rafs.V5SuperExtTableAt, 8}, {rafs.V5SuperReservedAt, 8112},
		}},
		{"v5 extended blob table entry", rafs.V5ExtSize, []field{
			{rafs.V5ExtChunkCountAt, 4}, {rafs.V5ExtFeaturesAt, 4}, {rafs.V5ExtUncompressedAt, 8}, {rafs.V5ExtCompressedAt, 8}, {rafs.V5ExtReservedAt, 40},
		}},
		{"v5 inode", rafs.V5InodeSize, []field{
			{rafs.V5InodeDigestAt, 32}, {rafs.V5InodeParentAt, 8}, {rafs.V5InodeInoAt, 8}, {rafs.V5InodeUIDAt, 4}, {rafs.V5InodeGIDAt, 4},
			{rafs.V5InodeProjIDAt, 4}, {rafs.V5InodeModeAt, 4}, {rafs.V5InodeSizeAt, 8}, {rafs.V5InodeBlocksAt, 8}, {rafs.V5InodeFlagsAt, 8},
			{rafs.V5InodeNlinkAt, 4}, {rafs.V5InodeChildIndexAt, 4}, {rafs.V5InodeChildCountAt, 4}, {rafs.V5InodeNameSizeAt, 2},
			{rafs.V5InodeSymlinkSizeAt, 2}, {rafs.V5InodeRdevAt, 4}, {rafs.V5InodeMtimeNsecAt, 4}, {rafs.V5InodeMtimeAt, 8}, {rafs.V5InodeReservedAt, 8},
		}},
		{"chunk info", rafs.ChunkInfoSize, []field{
			{rafs.ChunkInfoDigestAt, 32}, {rafs.ChunkInfoBlobAt, 4}, {rafs.ChunkInfoFlagsAt, 4}, {rafs.ChunkInfoCompressedSizeAt, 4},
			{rafs.ChunkInfoSizeAt, 4}, {rafs.ChunkInfoCompressedOffAt, 8}, {rafs.ChunkInfoUncompressedOffAt, 8}, {rafs.ChunkInfoFileOffAt, 8},
			{rafs.ChunkInfoIndexAt, 4}, {rafs.ChunkInfoCRCAt, 4},
		}},
		{"v6 super block", rafs.V6SuperSize, []field{
			{rafs.V6SuperMagicAt, 4}, {rafs.V6SuperChecksumAt, 4}, {rafs.V6SuperCompatAt, 4}, {rafs.V6SuperBlkSzBitsAt, 1}, {rafs.V6SuperExtSlotsAt, 1},
			{rafs.V6SuperRootNidAt, 2}, {rafs.V6SuperInosAt, 8}, {rafs.V6SuperBuildTimeAt, 8}, {rafs.V6SuperBuildNsecAt, 4}, {rafs.V6SuperBlocksAt, 4},
			{rafs.V6SuperMetaBlkaddrAt, 4}, {rafs.V6SuperXattrBlkaddrAt, 4}, {rafs.V6SuperUUIDAt, 16}, {rafs.V6SuperVolumeAt, 16},
			{rafs.V6SuperIncompatAt, 4}, {rafs.V6SuperCompressionAt, 2}, {rafs.V6SuperExtraDevicesAt, 2}, {rafs.V6SuperDevtSlotOffAt, 2}, {90, 38},
		}},
		{"v6 extended super block", rafs.V6ExtSize, []field{
			{rafs.V6ExtFlagsAt, 8}, {rafs.V6ExtBlobTableAt, 8}, {rafs.V6ExtBlobTableSizeAt, 4}, {rafs.V6ExtChunkSizeAt, 4}, {rafs.V6ExtChunkTableAt, 8},
			{rafs.V6ExtChunkTableSizeAt, 8}, {rafs.V6ExtPrefetchTableAt, 8}, {rafs.V6ExtPrefetchTableSizeAt, 4}, {rafs.V6ExtReservedAt, 204},
		}},
		{"device slot", rafs.V6DeviceSize, []field{
			{rafs.V6DeviceTagAt, 64}, {rafs.V6DeviceBlocksAt, 4}, {rafs.V6DeviceMappedBlkaddrAt, 4}, {rafs.V6DeviceReservedAt, 56},
		}},
		{"v6 blob table entry", rafs.V6BlobSize, []field{
			{rafs.V6BlobIDAt, 64}, {rafs.V6BlobIndexAt, 4}, {rafs.V6BlobChunkSizeAt, 4}, {rafs.V6BlobChunkCountAt, 4}, {rafs.V6BlobCompressorAt, 4},
			{rafs.V6BlobDigesterAt, 4}, {rafs.V6BlobFeaturesAt, 4}, {rafs.V6BlobCompressedAt, 8}, {rafs.V6BlobUncompressedAt, 8}, {rafs.V6BlobTOCSizeAt, 4},
			{rafs.V6BlobCICompressorAt, 4}, {rafs.V6BlobCIOffsetAt, 8}, {rafs.V6BlobCICompressedAt, 8}, {rafs.V6BlobCIUncompressedAt, 8},
			{rafs.V6BlobTOCDigestAt, 32}, {rafs.V6BlobMetaDigestAt, 32}, {rafs.V6BlobMetaSizeAt, 8}, {rafs.V6BlobCipherIVAt, 8},
			{rafs.V6BlobCipherAt, 4}, {rafs.V6BlobReservedAt, 36},
		}},
		{"compact inode", rafs.V6CompactSize, []field{
			{rafs.V6InodeFormatAt, 2}, {rafs.V6InodeXattrICountAt, 2}, {rafs.V6InodeModeAt, 2}, {rafs.V6CompactNlinkAt, 2}, {rafs.V6CompactSizeAt, 4},
			{12, 4}, {rafs.V6CompactUAt, 4}, {rafs.V6CompactInoAt, 4}, {rafs.V6CompactUIDAt, 2}, {rafs.V6CompactGIDAt, 2}, {28, 4},
		}},
		{"extended inode", rafs.V6ExtendedSize, []field{
			{rafs.V6InodeFormatAt, 2}, {rafs.V6InodeXattrICountAt, 2}, {rafs.V6InodeModeAt, 2}, {6, 2}, {rafs.V6ExtendedSizeAt, 8},
			{rafs.V6ExtendedUAt, 4}, {rafs.V6ExtendedInoAt, 4}, {rafs.V6ExtendedUIDAt, 4}, {rafs.V6ExtendedGIDAt, 4}, {rafs.V6ExtendedMtimeAt, 8},
			{rafs.V6ExtendedNsecAt, 4}, {rafs.V6ExtendedNlinkAt, 4}, {48, 16},
		}},
		{"chunk address", rafs.V6ChunkAddrSize, []field{
			{rafs.V6ChunkAddrIndexAt, 2}, {rafs.V6ChunkAddrDeviceAt, 1}, {rafs.V6ChunkAddrHighAt, 1}, {rafs.V6ChunkAddrBlkAt, 4},
		}},
		{"directory entry", rafs.V6DirentSize, []field{{rafs.V6DirentNidAt, 8}, {rafs.V6DirentNameOffAt, 2}, {rafs.V6DirentTypeAt, 1}, {11, 1}}},
		{"blob meta header", rafs.BlobMetaHeaderSize, []field{
			{rafs.BlobMetaMagicAt, 4}, {rafs.BlobMetaFeaturesAt, 4}, {rafs.BlobMetaCompressorAt, 4}, {rafs.BlobMetaEntriesAt, 4}, {rafs.BlobMetaOffsetAt, 8},
			{rafs.BlobMetaCompressedAt, 8}, {rafs.BlobMetaUncompressedAt, 8}, {rafs.BlobMetaContextsAt, 8}, {rafs.BlobMetaContextsSizeAt, 8},
			{rafs.BlobMetaContextsCountAt, 4}, {rafs.BlobMetaReservedAt, 4032}, {rafs.BlobMetaMagic2At, 4},
		}},
		{"zran context", rafs.ZranContextSize, []field{
			{rafs.ZranInOffAt, 8}, {rafs.ZranOutOffAt, 8}, {rafs.ZranDictOffAt, 8}, {rafs.ZranInLenAt, 4}, {rafs.ZranOutLenAt, 4},
			{rafs.ZranDictSizeAt, 4}, {rafs.ZranCtxByteAt, 1}, {rafs.ZranCtxBitsAt, 1}, {rafs.ZranContextReservedAfter, 2},
		}},
		{"batch context", rafs.BatchContextSize, []field{{rafs.BatchCompressedAt, 4}, {rafs.BatchUncompressedAt, 4}, {8, 32}}},
		{"ToC entry", rafs.TOCEntrySize, []field{
			{rafs.TOCFlagsAt, 4}, {4, 4}, {rafs.TOCNameAt, rafs.TOCNameSize}, {rafs.TOCDigestAt, 32}, {rafs.TOCCompressedOffAt, 8},
			{rafs.TOCCompressedSizeAt, 8}, {rafs.TOCUncompressedAt, 8}, {80, 48},
		}},
	} {
		end := 0
		for i, f := range s.fields {
			if f.at != end {
				t.Errorf("%s: field %d is at %d, the one before ends at %d", s.name, i, f.at, end)
			}
			end = f.at + f.width
		}
		if end != s.size {
			t.Errorf("%s: fields end at %d of %d", s.name, end, s.size)
		}
	}
	if rafs.V6SuperOff+rafs.V6SuperSize != rafs.V6ExtOff || rafs.V6ExtOff+rafs.V6ExtSize != rafs.V6DeviceOff || rafs.V6DevtSlotOff*rafs.V6DeviceSize != rafs.V6DeviceOff {
		t.Error("super blocks and device table do not follow each other")
	}
}
