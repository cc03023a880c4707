package rafs

import (
	"fmt"
	"slices"
)

// tables checks the super blocks and the tables beside the tree.
func (c *checker) tables() error {
	for _, f := range []func() error{c.reserved, c.compat, c.devices, c.prefetch, c.chunkTable} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// compat checks that a v6 image has none of the features that older readers may
// pass over, but that the kernel takes at their word (section 2.2).
func (c *checker) compat() error {
	const at = V6SuperOff + V6SuperCompatAt
	if !c.strict || le32(c.im.data[at:])&V6CompatChecksum == 0 {
		return nil
	}
	return c.problem(c.im.root, corrupt(at, "super.feature_compat", "says that there is a checksum"))
}

// devices checks the device table of a v6 image against its blobs (section 2.4).
// Addresses in the flat view are only compared with each other: their alignment
// differs from builder to builder, and old ones wrote none.
func (c *checker) devices() error {
	if !c.strict {
		return nil
	}
	var end uint64
	for i := range c.im.blobs {
		b := &c.im.blobs[i]
		at := V6DeviceOff + uint64(i)*V6DeviceSize
		want := b.UncompressedSize >> c.im.blockBits
		sized := b.Features.Has(BlobAligned) && b.Features&(BlobExternal|BlobChunkDictGenerated) == 0
		var err error
		switch {
		case sized && want != 0 && uint64(b.Blocks) != want:
			err = corrupt(at+V6DeviceBlocksAt, "device.blocks", "%d, but blob %d has %d", b.Blocks, i, want)
		case b.MappedBlk != 0 && uint64(b.MappedBlk) < end:
			err = corrupt(at+V6DeviceMappedBlkaddrAt, "device.mapped_blkaddr", "%#x lies in the blob before", b.MappedBlk)
		}
		end = uint64(b.MappedBlk) + uint64(b.Blocks)
		if err != nil {
			if err := c.problem(c.im.root, err); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) prefetch() error {
	for i, ino := range c.im.Prefetch() {
		if _, err := c.im.Inode(ino); err != nil {
			if err := c.problem(ino, fmt.Errorf("prefetch table entry %d: %w", i, err)); err != nil {
				return err
			}
		}
	}
	return nil
}

// chunkTable checks each entry, and each against the next chunk of its blob.
func (c *checker) chunkTable() error {
	for i := range c.im.ChunkTableLen() {
		ch, err := c.im.ChunkTableEntry(i)
		if err == nil {
			c.chunks = append(c.chunks, chunkKey(ch.Blob, ch.Index)<<32|i)
			err = c.stored(i, &ch)
		}
		if err != nil {
			if err := c.problem(0, err); err != nil {
				return err
			}
		}
	}
	slices.Sort(c.chunks)
	var last Chunk
	for k, key := range c.chunks {
		i := key & 0xffff_ffff
		ch, err := c.im.ChunkTableEntry(i)
		if err == nil && k > 0 {
			err = c.follows(i, &last, &ch)
		}
		if err != nil {
			if err := c.problem(0, err); err != nil {
				return err
			}
		}
		last = ch
	}
	return nil
}

func chunkKey(blob uint16, i ChunkIndex) uint64 { return uint64(blob)<<24 | uint64(i) }

// stored checks what an entry says about itself.
func (c *checker) stored(i uint64, ch *Chunk) error {
	off := c.im.chunkTable.off + i*ChunkInfoSize
	b := &c.im.blobs[ch.Blob]
	switch {
	case ch.Flags&ChunkCompressed != 0 && b.Compressor == CompressorNone && b.packed():
		return corrupt(off+ChunkInfoFlagsAt, "chunk.flags", "compressed, in blob %d without a compressor", ch.Blob)
	case ch.Flags&ChunkHasCRC == 0 && ch.CRC32 != 0:
		return corrupt(off+ChunkInfoCRCAt, "chunk.crc32", "%#x without its flag", ch.CRC32)
	}
	return nil
}

// follows checks that a chunk comes after the one before it in its blob.
func (c *checker) follows(i uint64, last, ch *Chunk) error {
	if ch.Blob != last.Blob {
		return nil
	}
	err := c.im.blobs[ch.Blob].CheckOrder(last, ch)
	if err != nil {
		err.Off = c.im.chunkTable.off + i*ChunkInfoSize
		return err
	}
	return nil
}

// CheckOrder says why c can't be the chunk after last in the chunk table of a v6
// image: builders write chunks in the order of their numbers, each once (section
// 1.11). The error has no offset.
func (b *Blob) CheckOrder(last, c *Chunk) *FormatError {
	bad := func(field, format string, args ...any) *FormatError {
		return &FormatError{Field: "chunk." + field, Why: fmt.Sprintf(format, args...)}
	}
	switch {
	case b.Features&(BlobExternal|BlobChunkDictGenerated) != 0:
	case c.Index == last.Index:
		return bad("index", "%d of blob %d twice", c.Index, c.Blob)
	case c.Off < last.Off+uint64(last.Size):
		return bad("uncompressed_offset", "%#x lies in chunk %d", c.Off, last.Index)
	case b.packed() && c.CompressedOff < last.CompressedOff+uint64(last.CompressedSize):
		return bad("compressed_offset", "%#x lies in chunk %d", c.CompressedOff, last.Index)
	}
	return nil
}

// packed reports whether the blob's chunks are stored one by one, each in bytes of
// its own.
func (b *Blob) packed() bool {
	return b.Features&(BlobZran|BlobBatch|BlobExternal|BlobChunkDictGenerated) == 0 && !b.LegacyStargz()
}
