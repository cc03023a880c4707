package rafs_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"vrafs/rafs"
)

// flipTable is where the outcome of TestSingleBitFlips stands, for people.
const flipTable = "../docs/design/check.md"

// TestSingleBitFlips turns every bit of a v6 bootstrap over, one at a time, opens
// and checks what results, and compares how many were found with the table in the
// documentation, field by field.
func TestSingleBitFlips(t *testing.T) {
	m := newSample()
	m.root.children = append(m.root.children, &node{name: "tty", mode: rafs.ModeChar | 0o600, rdev: 0x501})
	m.prefetch = []*node{m.a, m.f}
	for _, n := range m.all() {
		n.nlink = 0
	}
	m.finish()
	data := m.v6()
	if got := problems(t, data); got != "" {
		t.Fatal(got)
	}
	f := newFieldMap(m, data)
	type tally struct{ bits, found int }
	tallies := map[string]*tally{}
	for off := range data {
		name := f.at(uint64(off))
		n := tallies[name]
		if n == nil {
			n = &tally{}
			tallies[name] = n
		}
		for bit := range 8 {
			if name == padding && bit != off%8 {
				continue
			}
			data[off] ^= 1 << bit
			n.bits++
			if im, err := rafs.Open(data, rafs.Options{}); err != nil {
				n.found++
			} else if _, err := im.Check(t.Context(), rafs.CheckOptions{MaxProblems: 1}); err != nil {
				n.found++
			}
			data[off] ^= 1 << bit
		}
	}
	var rows []string
	for _, name := range f.order {
		if n := tallies[name]; n != nil {
			rows = append(rows, fmt.Sprintf("| %s | %d | %d |", name, n.bits, n.found))
			delete(tallies, name)
		}
	}
	text, err := os.ReadFile(flipTable)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Join(rows, "\n"); !strings.Contains(string(text), "\n"+want+"\n") {
		t.Errorf("the table in %s ought to be:\n%s", flipTable, want)
	}
}

const padding = "bytes that belong to nothing"

// A fieldMap names the field that a byte of a bootstrap belongs to.
type fieldMap struct {
	data  []byte
	names []string // by offset
	order []string // of the table
}

// A part is a field: its name and where it begins in its structure. The next part
// ends it.
type part struct {
	at   uint64
	name string
}

// structure names the fields of the structure of some size at off.
func (f *fieldMap) structure(off, size uint64, prefix string, parts []part) {
	for i, p := range parts {
		end := size
		if i+1 < len(parts) {
			end = parts[i+1].at
		}
		f.field(off+p.at, end-p.at, prefix+p.name)
	}
}

func (f *fieldMap) field(off, size uint64, name string) {
	for i := range size {
		f.names[off+i] = name
	}
	if size > 0 && !slices.Contains(f.order, name) {
		f.order = append(f.order, name)
	}
}

func (f *fieldMap) at(off uint64) string {
	if name := f.names[off]; name != "" {
		return name
	}
	return padding
}

func newFieldMap(m *sampleTree, data []byte) *fieldMap {
	f := &fieldMap{data: data, names: make([]string, len(data))}
	f.field(0, rafs.V6SuperOff, "bytes before the super block")
	f.structure(rafs.V6SuperOff, rafs.V6SuperSize, "super.", []part{
		{rafs.V6SuperMagicAt, "magic"}, {rafs.V6SuperChecksumAt, "checksum"}, {rafs.V6SuperCompatAt, "feature_compat"},
		{rafs.V6SuperBlkSzBitsAt, "blkszbits"}, {rafs.V6SuperExtSlotsAt, "sb_extslots"}, {rafs.V6SuperRootNidAt, "root_nid"},
		{rafs.V6SuperInosAt, "inos"}, {rafs.V6SuperBuildTimeAt, "build_time"}, {rafs.V6SuperBlocksAt, "blocks"},
		{rafs.V6SuperMetaBlkaddrAt, "meta_blkaddr"}, {rafs.V6SuperXattrBlkaddrAt, "xattr_blkaddr"},
		{rafs.V6SuperUUIDAt, "uuid, volume_name"}, {rafs.V6SuperIncompatAt, "feature_incompat"},
		{rafs.V6SuperCompressionAt, "compression"}, {rafs.V6SuperExtraDevicesAt, "extra_devices"},
		{rafs.V6SuperDevtSlotOffAt, "devt_slotoff"}, {rafs.V6SuperDirBlkBitsAt, "reserved"},
	})
	f.structure(rafs.V6ExtOff, rafs.V6ExtSize, "ext_super.", []part{
		{rafs.V6ExtFlagsAt, "flags"}, {rafs.V6ExtBlobTableAt, "blob_table_offset"}, {rafs.V6ExtBlobTableSizeAt, "blob_table_size"},
		{rafs.V6ExtChunkSizeAt, "chunk_size"}, {rafs.V6ExtChunkTableAt, "chunk_table_offset"},
		{rafs.V6ExtChunkTableSizeAt, "chunk_table_size"}, {rafs.V6ExtPrefetchTableAt, "prefetch_table_offset"},
		{rafs.V6ExtPrefetchTableSizeAt, "prefetch_table_size"}, {rafs.V6ExtReservedAt, "reserved"},
	})
	ext := data[rafs.V6ExtOff:]
	for i := range uint64(len(m.blobs)) {
		f.structure(rafs.V6DeviceOff+i*rafs.V6DeviceSize, rafs.V6DeviceSize, "device.", []part{
			{rafs.V6DeviceTagAt, "tag"}, {rafs.V6DeviceBlocksAt, "blocks"}, {rafs.V6DeviceMappedBlkaddrAt, "mapped_blkaddr"}, {rafs.V6DeviceReservedAt, "reserved"},
		})
	}
	for i := range uint64(len(m.blobs)) {
		f.structure(le.Uint64(ext[rafs.V6ExtBlobTableAt:])+i*rafs.V6BlobSize, rafs.V6BlobSize, "blob.", []part{
			{rafs.V6BlobIDAt, "id"}, {rafs.V6BlobIndexAt, "index"}, {rafs.V6BlobChunkSizeAt, "chunk_size"}, {rafs.V6BlobChunkCountAt, "chunk_count"},
			{rafs.V6BlobCompressorAt, "compression_algo"}, {rafs.V6BlobDigesterAt, "digest_algo"}, {rafs.V6BlobFeaturesAt, "features"},
			{rafs.V6BlobCompressedAt, "compressed_size"}, {rafs.V6BlobUncompressedAt, "uncompressed_size"}, {rafs.V6BlobTOCSizeAt, "toc_size"},
			{rafs.V6BlobCICompressorAt, "ci_compressor"}, {rafs.V6BlobCIOffsetAt, "ci_offset"}, {rafs.V6BlobCICompressedAt, "ci_compressed_size"},
			{rafs.V6BlobCIUncompressedAt, "ci_uncompressed_size"}, {rafs.V6BlobTOCDigestAt, "toc_digest"}, {rafs.V6BlobMetaDigestAt, "meta_digest"},
			{rafs.V6BlobMetaSizeAt, "meta_size, cipher_iv"}, {rafs.V6BlobCipherAt, "cipher_algo"}, {rafs.V6BlobReservedAt, "reserved"},
		})
	}
	f.field(le.Uint64(ext[rafs.V6ExtPrefetchTableAt:]), uint64(le.Uint32(ext[rafs.V6ExtPrefetchTableSizeAt:])), "prefetch table")
	p := &placer{m: m.model, bs: 1 << m.blockBits}
	for _, n := range m.all() {
		if n.link == nil {
			f.inode(p, n)
		}
	}
	for i := range le.Uint64(ext[rafs.V6ExtChunkTableSizeAt:]) / rafs.ChunkInfoSize {
		f.structure(le.Uint64(ext[rafs.V6ExtChunkTableAt:])+i*rafs.ChunkInfoSize, rafs.ChunkInfoSize, "chunk.", []part{
			{rafs.ChunkInfoDigestAt, "digest"}, {rafs.ChunkInfoBlobAt, "blob_index"}, {rafs.ChunkInfoFlagsAt, "flags"},
			{rafs.ChunkInfoCompressedSizeAt, "compressed_size"}, {rafs.ChunkInfoSizeAt, "uncompressed_size"},
			{rafs.ChunkInfoCompressedOffAt, "compressed_offset"}, {rafs.ChunkInfoUncompressedOffAt, "uncompressed_offset"},
			{rafs.ChunkInfoFileOffAt, "file_offset"}, {rafs.ChunkInfoIndexAt, "index"}, {rafs.ChunkInfoCRCAt, "crc32"},
		})
	}
	f.order = append(f.order, padding)
	return f
}

// inode names the fields of an inode and of what follows it.
func (f *fieldMap) inode(p *placer, n *node) {
	kind := "directory, symlink"
	switch {
	case n.isRegular():
		kind = "file"
	case n.rdev != 0:
		kind = "device"
	}
	f.structure(n.off, rafs.V6ExtendedSize, "inode.", []part{
		{rafs.V6InodeFormatAt, "format"}, {rafs.V6InodeXattrICountAt, "xattr_icount"}, {rafs.V6InodeModeAt, "mode"},
		{rafs.V6ExtendedReservedAt, "reserved"}, {rafs.V6ExtendedSizeAt, "size, " + kind}, {rafs.V6ExtendedUAt, "i_u, " + kind},
		{rafs.V6ExtendedInoAt, "ino"}, {rafs.V6ExtendedUIDAt, "uid, gid"}, {rafs.V6ExtendedMtimeAt, "mtime"},
		{rafs.V6ExtendedNsecAt, "mtime_nsec"}, {rafs.V6ExtendedNlinkAt, "nlink, " + kind}, {rafs.V6ExtendedReserved2At, "reserved"},
	})
	end := n.off + p.header(n)
	if area := p.xattrArea(n); len(area) > 0 {
		at := n.off + rafs.V6ExtendedSize
		f.structure(at, rafs.V6XattrHeaderSize, "xattr.", []part{{0, "name_filter"}, {rafs.V6XattrSharedCountAt, "shared_count"}, {rafs.V6XattrReservedAt, "reserved"}})
		at += rafs.V6XattrHeaderSize
		for _, k := range sortedKeys(n.xattrs) {
			f.structure(at, rafs.V6XattrEntrySize, "xattr.", []part{{rafs.V6XattrNameLenAt, "name_len"}, {rafs.V6XattrNameIndexAt, "name_index"}, {rafs.V6XattrValueSizeAt, "value_size"}})
			e := xattrEntry(k, n.xattrs[k])
			used := uint64(rafs.V6XattrEntrySize + len(k) - len("user.") + len(n.xattrs[k]))
			f.field(at+rafs.V6XattrEntrySize, used-rafs.V6XattrEntrySize, "xattr names and values")
			at += uint64(len(e))
		}
	}
	switch {
	case n.isRegular():
		for k := range n.chunks {
			f.structure(up(end, rafs.V6ChunkAddrSize)+uint64(k)*rafs.V6ChunkAddrSize, rafs.V6ChunkAddrSize, "chunk_addr.", []part{
				{rafs.V6ChunkAddrIndexAt, "index"}, {rafs.V6ChunkAddrDeviceAt, "device"}, {rafs.V6ChunkAddrHighAt, "index"}, {rafs.V6ChunkAddrBlkAt, "block"},
			})
		}
	case n.isDir():
		list := dirents(n)
		for i := range list {
			f.structure(end+uint64(i)*rafs.V6DirentSize, rafs.V6DirentSize, "dirent.", []part{
				{rafs.V6DirentNidAt, "nid"}, {rafs.V6DirentNameOffAt, "nameoff"}, {rafs.V6DirentTypeAt, "file_type"}, {rafs.V6DirentReservedAt, "reserved"},
			})
		}
		table := uint64(len(list)) * rafs.V6DirentSize
		f.field(end+table, p.dataSize(n)-table, "names")
	case n.target != "":
		f.field(end, uint64(len(n.target)), "symlink targets")
	}
}
