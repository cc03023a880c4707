package rafs_test

import (
	"bytes"
	"slices"
	"strings"

	"vrafs/rafs"
)

// v6 writes the model as a v6 bootstrap.
func (m *model) v6() []byte {
	w := &writer{}
	bs := uint64(1) << m.blockBits
	btable := up(rafs.V6DeviceOff+rafs.V6DeviceSize*uint64(len(m.blobs)), rafs.V6Align)
	ptable := btable + rafs.V6BlobSize*uint64(len(m.blobs))
	meta := up(ptable+rafs.V6PrefetchEntrySize*uint64(len(m.prefetch)), rafs.V6Align)
	if len(m.blobs) == 0 {
		meta = 0
	}
	p := &placer{m: m, w: w, pos: meta, bs: bs}
	if m.shared { // before the metadata area
		p.shareXattrs()
		meta = up(p.pos, rafs.V6Align)
	}
	p.meta, p.pos = meta, meta+rafs.V6RootOff
	nodes := m.all()
	for _, n := range nodes {
		if n.link == nil {
			p.place(n)
		}
	}
	for _, n := range nodes {
		if n.link == nil {
			p.write(n)
		}
	}
	ctable := up(uint64(len(w.b)), rafs.V6Align)
	table := slices.Clone(m.table)
	slices.SortFunc(table, func(a, b rafs.Chunk) int { return bytes.Compare(a.Digest[:], b.Digest[:]) })
	for i := range table {
		putChunk(w.at(ctable+uint64(i)*rafs.ChunkInfoSize, rafs.ChunkInfoSize), &table[i], 0)
	}
	w.at(up(uint64(len(w.b)), rafs.V6Align), 0)
	m.supersV6(w, btable, meta, ctable, p.xattrs, uint64(len(nodes)))
	m.prefetchV6(w, ptable)
	return w.b
}

func (m *model) supersV6(w *writer, btable, meta, ctable, xattrs, names uint64) {
	sb := w.at(rafs.V6SuperOff, rafs.V6SuperSize)
	le.PutUint32(sb, rafs.V6Magic)
	le.PutUint32(sb[rafs.V6SuperCompatAt:], rafs.V6CompatRAFS)
	sb[rafs.V6SuperBlkSzBitsAt] = m.blockBits
	le.PutUint16(sb[rafs.V6SuperRootNidAt:], rafs.V6RootOff/rafs.V6SlotSize)
	le.PutUint64(sb[rafs.V6SuperInosAt:], names)
	le.PutUint32(sb[rafs.V6SuperMetaBlkaddrAt:], uint32(meta>>m.blockBits))
	le.PutUint32(sb[rafs.V6SuperXattrBlkaddrAt:], uint32(xattrs>>m.blockBits))
	le.PutUint32(sb[rafs.V6SuperIncompatAt:], rafs.V6IncompatWanted)
	le.PutUint16(sb[rafs.V6SuperExtraDevicesAt:], uint16(len(m.blobs)))
	le.PutUint16(sb[rafs.V6SuperDevtSlotOffAt:], rafs.V6DevtSlotOff)

	ext := w.at(rafs.V6ExtOff, rafs.V6ExtSize)
	flags := rafs.FlagCompressionLZ4 | rafs.FlagHashSHA256 | rafs.FlagExplicitUIDGID
	features := rafs.BlobAligned | rafs.BlobCapTarTOC
	if m.blockBits == rafs.V6BlkSzBitsTarfs {
		flags |= rafs.FlagTarfs
		features = rafs.BlobTarfs | rafs.BlobCapTarTOC
	}
	le.PutUint64(ext[rafs.V6ExtFlagsAt:], uint64(flags))
	le.PutUint64(ext[rafs.V6ExtBlobTableAt:], btable)
	le.PutUint32(ext[rafs.V6ExtBlobTableSizeAt:], uint32(len(m.blobs))*rafs.V6BlobSize)
	le.PutUint32(ext[rafs.V6ExtChunkSizeAt:], 1<<m.chunkBits)
	le.PutUint64(ext[rafs.V6ExtChunkTableAt:], ctable)
	le.PutUint64(ext[rafs.V6ExtChunkTableSizeAt:], uint64(len(m.table))*rafs.ChunkInfoSize)
	for i, b := range m.blobs {
		d := w.at(rafs.V6DeviceOff+uint64(i)*rafs.V6DeviceSize, rafs.V6DeviceSize)
		copy(d, b.id)
		le.PutUint32(d[rafs.V6DeviceBlocksAt:], uint32(max(b.size, 4096)>>m.blockBits))
		e := w.at(btable+uint64(i)*rafs.V6BlobSize, rafs.V6BlobSize)
		copy(e, b.id)
		le.PutUint32(e[rafs.V6BlobIndexAt:], uint32(i))
		le.PutUint32(e[rafs.V6BlobChunkSizeAt:], 1<<m.chunkBits)
		le.PutUint32(e[rafs.V6BlobChunkCountAt:], b.chunks)
		le.PutUint32(e[rafs.V6BlobCompressorAt:], uint32(rafs.CompressorLZ4))
		le.PutUint32(e[rafs.V6BlobDigesterAt:], uint32(rafs.DigesterSHA256))
		le.PutUint32(e[rafs.V6BlobFeaturesAt:], uint32(features))
		le.PutUint64(e[rafs.V6BlobCompressedAt:], b.size+uint64(b.chunks)*16+4096)
		le.PutUint64(e[rafs.V6BlobUncompressedAt:], b.size)
		le.PutUint64(e[rafs.V6BlobCIOffsetAt:], b.size)
		le.PutUint64(e[rafs.V6BlobCICompressedAt:], uint64(b.chunks)*16)
		le.PutUint64(e[rafs.V6BlobCIUncompressedAt:], uint64(b.chunks)*16)
	}
}

func (m *model) prefetchV6(w *writer, table uint64) {
	if len(m.prefetch) == 0 {
		return
	}
	ext := w.at(rafs.V6ExtOff, rafs.V6ExtSize)
	le.PutUint64(ext[rafs.V6ExtPrefetchTableAt:], table)
	le.PutUint32(ext[rafs.V6ExtPrefetchTableSizeAt:], rafs.V6PrefetchEntrySize*uint32(len(m.prefetch)))
	for i, n := range m.prefetch {
		le.PutUint32(w.at(table+rafs.V6PrefetchEntrySize*uint64(i), rafs.V6PrefetchEntrySize), uint32(n.nid))
	}
}

// A placer hands out places for v6 inodes, in order and without filling gaps.
type placer struct {
	m      *model
	w      *writer
	meta   uint64
	pos    uint64
	bs     uint64
	xattrs uint64            // shared area
	ids    map[string]uint32 // name and value to shared id
}

// short reports whether a node is written as a compact inode.
func (p *placer) short(n *node) bool {
	return p.m.compact && n.uid <= 0xffff && n.gid <= 0xffff && n.size < 1<<32 && n.mtime == 0 && n.nsec == 0
}

func (p *placer) header(n *node) uint64 {
	size := uint64(rafs.V6ExtendedSize)
	if p.short(n) {
		size = rafs.V6CompactSize
	}
	return size + uint64(len(p.xattrArea(n)))
}

func xattrEntry(name, value string) []byte {
	for i, prefix := range map[uint8]string{1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.", 6: "security."} {
		if suffix, ok := strings.CutPrefix(name, prefix); ok {
			b := []byte{uint8(len(suffix)), i}
			b = le.AppendUint16(b, uint16(len(value)))
			b = append(append(b, suffix...), value...)
			return append(b, make([]byte, up(uint64(len(b)), 4)-uint64(len(b)))...)
		}
	}
	return nil
}

// shareXattrs puts every attribute once into the shared area.
func (p *placer) shareXattrs() {
	p.xattrs, p.ids = p.pos, map[string]uint32{}
	for _, n := range p.m.all() {
		for _, k := range sortedKeys(n.xattrs) {
			key := k + "\x00" + n.xattrs[k]
			if _, ok := p.ids[key]; ok {
				continue
			}
			e := xattrEntry(k, n.xattrs[k])
			p.ids[key] = uint32((p.pos - p.xattrs) / 4)
			copy(p.w.at(p.pos, uint64(len(e))), e)
			p.pos += uint64(len(e))
		}
	}
}

func (p *placer) xattrArea(n *node) []byte {
	if n.xattrs == nil {
		return nil
	}
	area := make([]byte, rafs.V6XattrHeaderSize)
	for i, k := range sortedKeys(n.xattrs) {
		if p.m.shared && i < 2 {
			area[rafs.V6XattrSharedCountAt]++
			area = le.AppendUint32(area, p.ids[k+"\x00"+n.xattrs[k]])
			continue
		}
		area = append(area, xattrEntry(k, n.xattrs[k])...)
	}
	return area
}

// dirents lists what a directory stores: its children and the dots, sorted.
func dirents(n *node) []*node {
	list := append([]*node{{name: ".", mode: n.mode, link: n}, {name: "..", mode: n.mode, link: n.parent}}, n.children...)
	slices.SortFunc(list, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	return list
}

// dirData packs entries into blocks.
func (p *placer) dirData(n *node) []byte {
	var out []byte
	list := dirents(n)
	for len(list) > 0 {
		count, used := 0, uint64(0)
		for count < len(list) {
			need := rafs.V6DirentSize + uint64(len(list[count].name))
			if used+need > p.bs {
				break
			}
			used += need
			count++
		}
		block := make([]byte, count*rafs.V6DirentSize)
		for i, c := range list[:count] {
			e := block[i*rafs.V6DirentSize:]
			le.PutUint64(e, c.real().nid)
			le.PutUint16(e[rafs.V6DirentNameOffAt:], uint16(len(block)))
			e[rafs.V6DirentTypeAt] = map[uint32]uint8{
				rafs.ModeRegular: 1, rafs.ModeDir: 2, rafs.ModeChar: 3, rafs.ModeBlock: 4,
				rafs.ModeFIFO: 5, rafs.ModeSocket: 6, rafs.ModeSymlink: 7,
			}[c.mode&rafs.ModeType]
			block = append(block, c.name...)
		}
		list = list[count:]
		if len(list) > 0 {
			block = append(block, make([]byte, p.bs-uint64(len(block)))...)
		}
		out = append(out, block...)
	}
	return out
}

func (p *placer) dataSize(n *node) uint64 {
	if n.isDir() {
		return uint64(len(p.dirData(n)))
	}
	return uint64(len(n.target))
}

// inline reports whether the tail of a directory or symlink follows its inode.
func (p *placer) inline(n *node) bool {
	tail := p.dataSize(n) % p.bs
	return !p.m.plain && tail != 0 && p.header(n)+tail <= p.bs
}

// place gives an inode its nid, and its data its blocks (child, as an address).
func (p *placer) place(n *node) {
	need := p.header(n)
	if n.isRegular() {
		need = up(need, 8) + 8*uint64(len(n.chunks))
	}
	size := p.dataSize(n)
	inline := p.inline(n)
	if inline {
		need += size % p.bs
		if p.pos%p.bs+need > p.bs {
			p.pos = up(p.pos, p.bs)
		}
	}
	n.off = p.pos
	n.nid = (n.off - p.meta) / rafs.V6SlotSize
	p.pos += need
	if blocks := size / p.bs; size > 0 && (blocks > 0 || !inline) {
		p.pos = up(p.pos, p.bs)
		n.data = p.pos
		if inline {
			p.pos += blocks * p.bs
		} else {
			p.pos += up(size, p.bs)
		}
	}
	p.pos = up(p.pos, rafs.V6SlotSize)
}

func (p *placer) write(n *node) {
	data := []byte(n.target)
	layout, u := uint16(rafs.V6LayoutFlatPlain), n.rdev
	switch {
	case n.isDir():
		data = p.dirData(n)
	case n.isRegular():
		layout, u = rafs.V6LayoutChunkBased, uint32(p.m.chunkBits-p.m.blockBits)|rafs.V6ChunkIndexes
	}
	size := n.size
	if len(data) > 0 {
		size, u = uint64(len(data)), uint32(n.data/p.bs)
		if p.inline(n) {
			layout = rafs.V6LayoutFlatInline
		}
	}
	area := p.xattrArea(n)
	b := p.w.at(n.off, p.header(n))
	le.PutUint16(b[rafs.V6InodeModeAt:], uint16(n.mode))
	if len(area) > 0 {
		le.PutUint16(b[rafs.V6InodeXattrICountAt:], uint16((len(area)-rafs.V6XattrHeaderSize)/4+1))
	}
	if p.short(n) {
		le.PutUint16(b, layout<<1)
		le.PutUint16(b[rafs.V6CompactNlinkAt:], uint16(n.nlink))
		le.PutUint32(b[rafs.V6CompactSizeAt:], uint32(size))
		le.PutUint32(b[rafs.V6CompactUAt:], u)
		le.PutUint16(b[rafs.V6CompactUIDAt:], uint16(n.uid))
		le.PutUint16(b[rafs.V6CompactGIDAt:], uint16(n.gid))
		copy(b[rafs.V6CompactSize:], area)
	} else {
		le.PutUint16(b, layout<<1|rafs.V6FormatExtended)
		le.PutUint64(b[rafs.V6ExtendedSizeAt:], size)
		le.PutUint32(b[rafs.V6ExtendedUAt:], u)
		le.PutUint32(b[rafs.V6ExtendedUIDAt:], n.uid)
		le.PutUint32(b[rafs.V6ExtendedGIDAt:], n.gid)
		le.PutUint64(b[rafs.V6ExtendedMtimeAt:], uint64(n.mtime))
		le.PutUint32(b[rafs.V6ExtendedNsecAt:], n.nsec)
		le.PutUint32(b[rafs.V6ExtendedNlinkAt:], n.nlink)
		copy(b[rafs.V6ExtendedSize:], area)
	}
	p.writeData(n, data, layout)
}

func (p *placer) writeData(n *node, data []byte, layout uint16) {
	end := n.off + p.header(n)
	if n.isRegular() {
		at := up(end, 8)
		for i, c := range n.chunks {
			a := p.w.at(at+8*uint64(i), 8)
			le.PutUint16(a, uint16(c.Index))
			a[rafs.V6ChunkAddrDeviceAt] = uint8(c.Blob + 1)
			a[rafs.V6ChunkAddrHighAt] = uint8(c.Index >> 16)
			le.PutUint32(a[rafs.V6ChunkAddrBlkAt:], uint32(c.Off>>p.m.blockBits))
		}
		return
	}
	full := uint64(len(data))
	if layout == rafs.V6LayoutFlatInline {
		full &^= p.bs - 1
		copy(p.w.at(end, uint64(len(data))-full), data[full:])
	}
	if full > 0 {
		copy(p.w.at(n.data, full), data[:full])
	}
}
