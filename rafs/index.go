package rafs

import "encoding/binary"

// indexEntrySize is the memory a chunk takes in a ChunkIndexTable.
const indexEntrySize = 4

// A ChunkIndexTable finds the chunks of one blob by number: 4 bytes per chunk, in
// memory that the caller gives. An entry is 0, or in v5 the offset of a chunk
// info >> 3, in v6 one more than a place in the chunk table. It is immutable and
// safe for concurrent use.
type ChunkIndexTable struct {
	im   *Image
	blob uint16
	mem  []byte
}

// IndexBytes gives the memory that BuildIndex needs for a blob: 0 if the image
// has no such blob or doesn't know its number of chunks.
func (im *Image) IndexBytes(blob int) uint64 {
	if blob < 0 || blob >= len(im.blobs) {
		return 0
	}
	return uint64(im.blobs[blob].ChunkCount) * indexEntrySize
}

// BuildIndex fills mem, which must be zero and at least IndexBytes long, with the
// places of the blob's chunks: v5 walks the chunk infos of all inodes, v6 the
// chunk table. Two records of one chunk must agree in digest and place. Records
// that can't be read are left out.
func (im *Image) BuildIndex(blob int, mem []byte) (*ChunkIndexTable, error) {
	size := im.IndexBytes(blob)
	if blob < 0 || blob >= len(im.blobs) {
		return nil, corrupt(0, "blob_index", "%d of %d", blob, len(im.blobs))
	}
	if uint64(len(mem)) < size {
		return nil, corrupt(0, "index", "%d bytes of memory, %d needed", len(mem), size)
	}
	t := &ChunkIndexTable{im: im, blob: uint16(blob), mem: mem[:size]}
	var err error
	if im.version == V5 {
		err = t.fillV5()
	} else {
		err = t.fillV6()
	}
	return t, err
}

// fillV6 walks the chunk table once (section 2.7).
func (t *ChunkIndexTable) fillV6() error {
	table := t.im.chunkTable
	for i := range table.size / ChunkInfoSize {
		off := table.off + i*ChunkInfoSize
		if le32(t.im.data[off+ChunkInfoBlobAt:]) != uint32(t.blob) {
			continue
		}
		if err := t.put(off, uint32(i)+1); err != nil {
			return err
		}
	}
	return nil
}

// fillV5 walks the inode table. Chunk lists that lie over each other would make
// this quadratic, so their sum is held below the size of the bootstrap.
func (t *ChunkIndexTable) fillV5() error {
	budget := t.im.Size() / ChunkInfoSize
	for i := uint64(1); i <= t.im.names; i++ {
		r, off, err := t.im.recordV5(i)
		if err != nil || r.mode()&ModeType != ModeRegular || r.ino() != i {
			continue // hard links share the chunks of their first record
		}
		n, err := t.im.parseV5(r, off, i)
		if err != nil {
			continue
		}
		if uint64(n.count) > budget {
			return corrupt(off, "inode.child_count", "chunk infos of files overlap")
		}
		budget -= uint64(n.count)
		for k := range uint64(n.count) {
			off := n.ChunkRef(k)
			if le32(t.im.data[off+ChunkInfoBlobAt:]) != uint32(t.blob) {
				continue
			}
			if err := t.put(off, uint32(off>>V5InodeShift)); err != nil {
				return err
			}
		}
	}
	return nil
}

// put notes the chunk info at off under its number.
func (t *ChunkIndexTable) put(off uint64, entry uint32) error {
	i := uint64(le32(t.im.data[off+ChunkInfoIndexAt:])) * indexEntrySize
	if i >= uint64(len(t.mem)) {
		return nil
	}
	old := le32(t.mem[i:])
	if old == 0 {
		binary.LittleEndian.PutUint32(t.mem[i:], entry)
		return nil
	}
	a, b := t.im.data[t.place(old):][:ChunkInfoSize], t.im.data[off:][:ChunkInfoSize]
	if Digest(a) != Digest(b) || string(a[ChunkInfoCompressedSizeAt:ChunkInfoFileOffAt]) != string(b[ChunkInfoCompressedSizeAt:ChunkInfoFileOffAt]) {
		return corrupt(off, "chunk", "differs from the other record of chunk %d at %#x", i/indexEntrySize, t.place(old))
	}
	return nil
}

// place gives the offset of the chunk info an entry stands for.
func (t *ChunkIndexTable) place(entry uint32) uint64 {
	if t.im.version == V5 {
		return uint64(entry) << V5InodeShift
	}
	return t.im.chunkTable.off + uint64(entry-1)*ChunkInfoSize
}

// Len gives the number of chunks of the blob.
func (t *ChunkIndexTable) Len() uint32 { return uint32(len(t.mem) / indexEntrySize) }

// Chunk gives chunk i with digest, CRC and flags; false if the image has no
// record of it that can be used.
func (t *ChunkIndexTable) Chunk(i ChunkIndex) (Chunk, bool) {
	if uint64(i) >= uint64(t.Len()) {
		return Chunk{}, false
	}
	entry := le32(t.mem[uint64(i)*indexEntrySize:])
	if entry == 0 {
		return Chunk{}, false
	}
	c, _, err := t.im.chunkInfo(t.place(entry))
	if err != nil || c.Index != i || c.Blob != t.blob {
		return Chunk{}, false
	}
	return c, true
}

// ChunkTableLen gives the number of entries of the v6 chunk table, 0 for other
// images and in tarfs mode.
func (im *Image) ChunkTableLen() uint64 { return im.chunkTable.size / ChunkInfoSize }

// ChunkTableEntry gives entry i of the v6 chunk table.
func (im *Image) ChunkTableEntry(i uint64) (Chunk, error) {
	if count := im.ChunkTableLen(); i >= count {
		return Chunk{}, corrupt(im.chunkTable.off, "chunk_table", "entry %d of %d", i, count)
	}
	c, _, err := im.chunkInfo(im.chunkTable.off + i*ChunkInfoSize)
	return c, err
}
