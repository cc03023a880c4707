package rafs

import "bytes"

// openV5 reads the super block and the tables (sections 1.2 to 1.5).
func (im *Image) openV5() error {
	size := im.Size()
	if size <= V5SuperSize || size > V5MaxSize || size%V5Align != 0 {
		return corrupt(size, "bootstrap.size", "%d is not a multiple of %d in (%d, %d]", size, V5Align, V5SuperSize, V5MaxSize)
	}
	sb := im.data[:V5SuperSize]
	if n := le32(sb[V5SuperSizeAt:]); n != V5SuperSize {
		return corrupt(V5SuperSizeAt, "super.sb_size", "%d, want %d", n, V5SuperSize)
	}
	chunk := le32(sb[V5SuperBlockSizeAt:])
	if !ValidChunkSize(chunk) {
		return corrupt(V5SuperBlockSizeAt, "super.block_size", "%d", chunk)
	}
	im.chunkBits, im.blockBits, im.root = log2(chunk), V6BlkSzBits, V5RootIno
	im.flags = SuperFlags(le64(sb[V5SuperFlagsAt:]))
	if unknown := im.flags &^ FlagsKnown; unknown != 0 {
		return unsupported(V5SuperFlagsAt, "super.flags", "unknown bits %v", unknown)
	}
	im.inodes = le64(sb[V5SuperInodesCountAt:])
	im.names = uint64(le32(sb[V5SuperInodeEntriesAt:]))
	if im.names == 0 {
		return corrupt(V5SuperInodeEntriesAt, "super.inode_table_entries", "no inodes")
	}
	if im.inodes > im.names {
		return corrupt(V5SuperInodesCountAt, "super.inodes_count", "%d inodes of %d names", im.inodes, im.names)
	}
	return im.tablesV5(sb)
}

// tablesV5 places the four tables and decodes the blob tables.
func (im *Image) tablesV5(sb []byte) error {
	tables := []struct {
		field string
		at    uint64
		r     region
	}{
		{"super.inode_table", V5SuperInodeTableAt, region{size: im.names * V5InodeEntrySize}},
		{"super.prefetch_table", V5SuperPrefetchTableAt, region{size: uint64(le32(sb[V5SuperPrefetchEntriesAt:])) * V5PrefetchEntrySize}},
		{"super.blob_table", V5SuperBlobTableAt, region{size: uint64(le32(sb[V5SuperBlobTableSizeAt:]))}},
		{"super.extended_blob_table", V5SuperExtTableAt, region{size: uint64(le32(sb[V5SuperExtEntriesAt:])) * V5ExtSize}},
	}
	ext := &tables[3].r
	if le64(sb[V5SuperExtTableAt:]) == 0 {
		ext.size = 0
	}
	for i := range tables {
		t := &tables[i]
		if t.r.size == 0 {
			continue
		}
		t.r.off = le64(sb[t.at:])
		if t.r.off < V5SuperSize || t.r.off%V5Align != 0 || !im.holds(t.r.off, t.r.size) {
			return corrupt(t.at, t.field, "%d bytes at %#x are not an aligned part of the file", t.r.size, t.r.off)
		}
		for _, o := range tables[:i] {
			if t.r.overlaps(o.r) {
				return corrupt(t.at, t.field, "overlaps %s", o.field)
			}
		}
	}
	im.inodeTable, im.prefetch = tables[0].r, tables[1].r
	return im.blobsV5(tables[2].r, *ext)
}

// blobsV5 decodes the blob table and the extended blob table (section 1.5).
func (im *Image) blobsV5(table, ext region) error {
	b := im.data[table.off:][:table.size]
	for len(b) > V5BlobEntryFixedSize {
		at := table.end() - uint64(len(b))
		if len(im.blobs) == V5MaxBlobs {
			return unsupported(at, "blob_table", "more than %d blobs", V5MaxBlobs)
		}
		blob := Blob{
			Index:        len(im.blobs),
			PrefetchOff:  le32(b),
			PrefetchSize: le32(b[4:]),
			ChunkSize:    im.ChunkSize(),
			Compressor:   im.flags.Compressor(),
			Digester:     im.flags.Digester(),
			Features:     BlobNoExtTable,
		}
		id, rest, _ := bytes.Cut(b[V5BlobEntryFixedSize:], []byte{0})
		blob.ID = string(id)
		blob.RawID = blob.ID
		if why := checkBlobID(blob.ID); why != "" {
			return corrupt(at+V5BlobEntryFixedSize, "blob_table.id", "%s", why)
		}
		im.blobs, b = append(im.blobs, blob), rest
	}
	if ext.size == 0 {
		return nil
	}
	if ext.size/V5ExtSize < uint64(len(im.blobs)) {
		return corrupt(ext.off, "extended_blob_table", "%d entries for %d blobs", ext.size/V5ExtSize, len(im.blobs))
	}
	for i := range im.blobs {
		at := ext.off + uint64(i)*V5ExtSize
		if err := im.blobs[i].extendV5(im.data[at:][:V5ExtSize], at); err != nil {
			return err
		}
	}
	return nil
}

// extendV5 adds what an entry of the extended table says. Unknown features are
// masked in v5 (section 1.5).
func (b *Blob) extendV5(e []byte, at uint64) error {
	b.ChunkCount = le32(e[V5ExtChunkCountAt:])
	b.Features = BlobFeatures(le32(e[V5ExtFeaturesAt:])) & BlobFeaturesKnown
	b.UncompressedSize = le64(e[V5ExtUncompressedAt:])
	b.CompressedSize = le64(e[V5ExtCompressedAt:])
	switch {
	case b.ChunkCount > MaxChunksPerBlob:
		return corrupt(at+V5ExtChunkCountAt, "extended_blob_table.chunk_count", "%d", b.ChunkCount)
	case b.Features.Has(BlobEncrypted):
		return unsupported(at+V5ExtFeaturesAt, "extended_blob_table.features", "ENCRYPTED has no key in v5")
	case b.UncompressedSize > V6MaxUncompressed:
		return corrupt(at+V5ExtUncompressedAt, "extended_blob_table.uncompressed_size", "%d", b.UncompressedSize)
	case b.CompressedSize > V6MaxCompressed:
		return corrupt(at+V5ExtCompressedAt, "extended_blob_table.compressed_size", "%d", b.CompressedSize)
	}
	return nil
}
