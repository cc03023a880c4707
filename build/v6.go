package build

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"

	"vrafs/rafs"
)

// A v6Layout says where everything of a v6 bootstrap lies (rafs.md 2.1):
//
//	0     super blocks, device table
//	blob  blob table
//	pre   prefetch table
//	meta  one unused block, then inodes, directories, symlinks, chunk addresses
//	chunk chunk table
type v6Layout struct {
	m         *image
	blockBits uint8
	block     uint64
	blobs     uint64
	pre       uint64
	meta      uint64
	next      uint64 // in the metadata area
	chunkTab  uint64
	end       uint64
	room      roomList
	data      map[*inode]uint64 // where full blocks of directories and symlinks lie
	table     []uint32          // chunk numbers in the order of the chunk table
	ents      []dirent          // scratch
	buf       []byte            // scratch
}

// encodeV6 makes a v6 bootstrap.
func (m *image) encodeV6() ([]byte, error) {
	l := &v6Layout{m: m, blockBits: rafs.V6BlkSzBits, next: rafs.V6RootOff, data: map[*inode]uint64{}}
	if m.tarfs() {
		l.blockBits = rafs.V6BlkSzBitsTarfs
	}
	l.block = 1 << l.blockBits
	l.tables()
	if err := m.root.visit(l.place); err != nil {
		return nil, err
	}
	if err := l.finish(); err != nil {
		return nil, err
	}
	out := make([]byte, l.end)
	l.super(out)
	l.blobTable(out)
	_ = m.root.visit(func(n *node) error {
		if n.first() {
			l.putInode(out, n)
		}
		return nil
	})
	for i, id := range l.table {
		c := &m.chunks[id]
		putChunkInfo(out[l.chunkTab+uint64(i)*rafs.ChunkInfoSize:][:rafs.ChunkInfoSize], &c.Chunk, c.fileOff)
	}
	return out, nil
}

// tables places everything before the metadata area.
func (l *v6Layout) tables() {
	if len(l.m.blobs) == 0 {
		l.m.prefetch = nil
		return
	}
	n := uint64(len(l.m.blobs))
	l.blobs = alignUp(rafs.V6DeviceOff+rafs.V6DeviceSize*n, rafs.V6Align)
	l.pre = l.blobs + rafs.V6BlobSize*n
	l.meta = alignUp(l.pre+rafs.V6PrefetchEntrySize*uint64(len(l.m.prefetch)), rafs.V6Align)
}

// finish places what follows the metadata area.
func (l *v6Layout) finish() error {
	l.end = alignUp(l.meta+l.next, rafs.V6Align)
	if !l.m.tarfs() {
		l.sortChunks()
		if err := l.checkOrder(); err != nil {
			return err
		}
		if len(l.table) > 0 {
			l.chunkTab = l.end
			l.end = alignUp(l.end+uint64(len(l.table))*rafs.ChunkInfoSize, rafs.V6Align)
		}
	}
	if l.end>>l.blockBits > math.MaxUint32 {
		return fmt.Errorf("%w: bootstrap of %d bytes", ErrSource, l.end)
	}
	pos := l.end
	for i := range l.m.blobs {
		b := &l.m.blobs[i]
		blocks := b.UncompressedSize >> l.blockBits
		mapped := alignUp(pos, rafs.V6MappedAlign) >> l.blockBits
		if blocks == 0 || mapped+blocks > math.MaxUint32 {
			return fmt.Errorf("%w: blob %s of %d bytes does not fit the device table", ErrSource, b.ID, b.UncompressedSize)
		}
		b.Blocks, b.MappedBlk = uint32(blocks), uint32(mapped)
		pos = (mapped + blocks) << l.blockBits
	}
	return nil
}

// sortChunks collects the chunks that files refer to, in table order (2.7).
func (l *v6Layout) sortChunks() {
	seen := make([]uint64, (len(l.m.chunks)+63)/64)
	_ = l.m.root.visit(func(n *node) error {
		for _, id := range n.in.chunks {
			if seen[id/64]&(1<<(id%64)) == 0 {
				seen[id/64] |= 1 << (id % 64)
				l.table = append(l.table, id)
			}
		}
		return nil
	})
	slices.SortFunc(l.table, func(x, y uint32) int {
		a, b := &l.m.chunks[x], &l.m.chunks[y]
		if c := bytes.Compare(a.Digest[:], b.Digest[:]); c != 0 {
			return c
		}
		if a.Blob != b.Blob {
			return int(a.Blob) - int(b.Blob)
		}
		return int(a.Index) - int(b.Index)
	})
}

// checkOrder refuses chunks of one blob that lie over each other, which they can
// where several images say what is in it.
func (l *v6Layout) checkOrder() error {
	if !l.m.mixed {
		return nil
	}
	byIndex := slices.Clone(l.table)
	slices.SortFunc(byIndex, func(x, y uint32) int {
		a, b := &l.m.chunks[x], &l.m.chunks[y]
		return cmp.Or(cmp.Compare(a.Blob, b.Blob), cmp.Compare(a.Index, b.Index))
	})
	for i := 1; i < len(byIndex); i++ {
		a, c := &l.m.chunks[byIndex[i-1]], &l.m.chunks[byIndex[i]]
		if b := &l.m.blobs[c.Blob]; a.Blob == c.Blob {
			if err := b.CheckOrder(&a.Chunk, &c.Chunk); err != nil {
				return fmt.Errorf("%w: two descriptions of blob %s: %s", ErrInconsistent, b.ID, err.Why)
			}
		}
	}
	return nil
}

// super writes both super blocks, the device and the prefetch table.
func (l *v6Layout) super(out []byte) {
	m := l.m
	sb := out[rafs.V6SuperOff:][:rafs.V6SuperSize]
	le.PutUint32(sb[rafs.V6SuperMagicAt:], rafs.V6Magic)
	le.PutUint32(sb[rafs.V6SuperCompatAt:], rafs.V6CompatRAFS)
	sb[rafs.V6SuperBlkSzBitsAt] = l.blockBits
	le.PutUint16(sb[rafs.V6SuperRootNidAt:], uint16(m.root.in.nid))
	le.PutUint64(sb[rafs.V6SuperInosAt:], uint64(m.num.names))
	le.PutUint32(sb[rafs.V6SuperMetaBlkaddrAt:], uint32(l.meta>>l.blockBits))
	le.PutUint32(sb[rafs.V6SuperIncompatAt:], rafs.V6IncompatWanted)
	le.PutUint16(sb[rafs.V6SuperExtraDevicesAt:], uint16(len(m.blobs)))
	le.PutUint16(sb[rafs.V6SuperDevtSlotOffAt:], rafs.V6DevtSlotOff)

	flags, digests, blocks := m.flags, len(m.blobs) > 0, uint32(0)
	for i := range m.blobs {
		b := &m.blobs[i]
		blocks += b.Blocks
		digests = digests && b.Features.Has(rafs.BlobInlinedChunkDigest)
		dev := out[rafs.V6DeviceOff+i*rafs.V6DeviceSize:][:rafs.V6DeviceSize]
		copy(dev[rafs.V6DeviceTagAt:][:rafs.V6BlobIDSize], b.ID)
		le.PutUint32(dev[rafs.V6DeviceBlocksAt:], b.Blocks)
		le.PutUint32(dev[rafs.V6DeviceMappedBlkaddrAt:], b.MappedBlk)
	}
	le.PutUint32(sb[rafs.V6SuperBlocksAt:], blocks)
	if digests {
		flags |= rafs.FlagInlinedChunkDigest
	}
	ext := out[rafs.V6ExtOff:][:rafs.V6ExtSize]
	le.PutUint64(ext[rafs.V6ExtFlagsAt:], uint64(flags))
	le.PutUint32(ext[rafs.V6ExtChunkSizeAt:], m.chunkSize)
	if len(m.blobs) > 0 {
		le.PutUint64(ext[rafs.V6ExtBlobTableAt:], l.blobs)
		le.PutUint32(ext[rafs.V6ExtBlobTableSizeAt:], uint32(len(m.blobs)*rafs.V6BlobSize))
	}
	if len(l.table) > 0 {
		le.PutUint64(ext[rafs.V6ExtChunkTableAt:], l.chunkTab)
		le.PutUint64(ext[rafs.V6ExtChunkTableSizeAt:], uint64(len(l.table)*rafs.ChunkInfoSize))
	}
	if len(m.prefetch) > 0 {
		le.PutUint64(ext[rafs.V6ExtPrefetchTableAt:], l.pre)
		le.PutUint32(ext[rafs.V6ExtPrefetchTableSizeAt:], uint32(len(m.prefetch)*rafs.V6PrefetchEntrySize))
		for i, n := range m.prefetch {
			le.PutUint32(out[l.pre+uint64(i)*rafs.V6PrefetchEntrySize:], uint32(n.in.nid))
		}
	}
}

// blobTable writes the blob table (2.5).
func (l *v6Layout) blobTable(out []byte) {
	for i := range l.m.blobs {
		b := &l.m.blobs[i]
		e := out[l.blobs+uint64(i)*rafs.V6BlobSize:][:rafs.V6BlobSize]
		copy(e[rafs.V6BlobIDAt:][:rafs.V6BlobIDSize], b.ID)
		le.PutUint32(e[rafs.V6BlobIndexAt:], uint32(i))
		le.PutUint32(e[rafs.V6BlobChunkSizeAt:], l.m.chunkSize)
		le.PutUint32(e[rafs.V6BlobChunkCountAt:], b.ChunkCount)
		le.PutUint32(e[rafs.V6BlobCompressorAt:], uint32(b.Compressor))
		le.PutUint32(e[rafs.V6BlobDigesterAt:], uint32(b.Digester))
		le.PutUint32(e[rafs.V6BlobFeaturesAt:], uint32(b.Features))
		le.PutUint64(e[rafs.V6BlobCompressedAt:], b.CompressedSize)
		le.PutUint64(e[rafs.V6BlobUncompressedAt:], b.UncompressedSize)
		le.PutUint32(e[rafs.V6BlobTOCSizeAt:], b.TOCSize)
		le.PutUint32(e[rafs.V6BlobCICompressorAt:], uint32(b.MetaCompressor))
		le.PutUint64(e[rafs.V6BlobCIOffsetAt:], b.MetaOff)
		le.PutUint64(e[rafs.V6BlobCICompressedAt:], b.MetaCompressedSize)
		le.PutUint64(e[rafs.V6BlobCIUncompressedAt:], b.MetaUncompressedSize)
		copy(e[rafs.V6BlobTOCDigestAt:], b.TOCDigest[:])
		if b.Encrypted() {
			copy(e[rafs.V6BlobKeyAt:], b.Key[:])
			copy(e[rafs.V6BlobIVAt:], b.IV[:])
		} else {
			copy(e[rafs.V6BlobMetaDigestAt:], b.MetaDigest[:])
			le.PutUint64(e[rafs.V6BlobMetaSizeAt:], b.MetaFileSize)
		}
		le.PutUint32(e[rafs.V6BlobCipherAt:], uint32(b.Cipher))
	}
}
