package rafs_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"vrafs/rafs"
)

// A sample is a small tree with one of everything that Check looks at:
//
//	/ a/{deep/, file (3 chunks), link -> file}  b/  f (xattrs, 1 chunk)  s -> target
type sampleTree struct {
	*model
	a, deep, file, link, b, f, s *node
}

func newSample() *sampleTree {
	m := &sampleTree{
		model: &model{root: &node{mode: rafs.ModeDir | 0o755}, chunkBits: 12, blockBits: 12,
			blobs: []modelBlob{{id: strings.Repeat("1", 64)}, {id: strings.Repeat("2", 64)}}},
		a:    &node{name: "a", mode: rafs.ModeDir | 0o755},
		deep: &node{name: "deep", mode: rafs.ModeDir | 0o700},
		file: &node{name: "file", mode: rafs.ModeRegular | 0o644, mtime: 5},
		link: &node{name: "link", mode: rafs.ModeRegular | 0o644},
		b:    &node{name: "b", mode: rafs.ModeDir | 0o755},
		f:    &node{name: "f", mode: rafs.ModeRegular | 0o600, xattrs: map[string]string{"user.k1": "v", "user.k2": "v"}},
		s:    &node{name: "s", mode: rafs.ModeSymlink | 0o777, target: "target"},
	}
	m.addFile(m.file, 0, 10000)
	m.addFile(m.f, 1, 100)
	*m.link = *m.file
	m.link.name, m.link.link = "link", m.file
	m.a.children = []*node{m.deep, m.file, m.link}
	m.root.children = []*node{m.a, m.b, m.f, m.s}
	m.finish()
	return m
}

// problems checks an image and gives all findings as text.
func problems(t *testing.T, data []byte) string {
	t.Helper()
	im, err := rafs.Open(data, rafs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := im.Check(t.Context(), rafs.CheckOptions{})
	if (err == nil) != (len(r.Problems) == 0) || err != nil && !errors.Is(err, r.Problems[0].Err) {
		t.Errorf("error %v for %d problems", err, len(r.Problems))
	}
	var all strings.Builder
	for _, p := range r.Problems {
		fmt.Fprintf(&all, "%s: %v\n", p.Path, p.Err)
	}
	return all.String()
}

// entry finds the dirent of a name in a directory that fits one block.
func (m *sampleTree) entry(data []byte, dir *node, name string) []byte {
	p := &placer{m: m.model, bs: 1 << m.blockBits}
	start := dir.data
	if p.inline(dir) {
		start = dir.off + p.header(dir)
	}
	for i, d := range dirents(dir) {
		if d.name == name {
			return data[start+uint64(i)*rafs.V6DirentSize:]
		}
	}
	return nil
}

// rename overwrites a name in place by one of the same length.
func rename(data []byte, from, to string) {
	copy(data[strings.LastIndex(string(data), from):], to)
}

func TestCheckOfASoundTreeFindsNothing(t *testing.T) {
	for _, write := range []func(*model) []byte{(*model).v5, (*model).v6} {
		if got := problems(t, write(newSample().model)); got != "" {
			t.Error(got)
		}
	}
}

func TestCheckFindsV6Damage(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(m *sampleTree, data []byte)
		want   string
	}{
		{"directory_loop", func(m *sampleTree, b []byte) { le.PutUint64(m.entry(b, m.a, "deep"), m.root.nid) }, "/a/deep: inode at"},
		{"directory_twice", func(m *sampleTree, b []byte) { le.PutUint64(m.entry(b, m.root, "b"), m.a.nid) }, "/b: inode at"},
		{"wrong_dot", func(m *sampleTree, b []byte) { le.PutUint64(m.entry(b, m.a, "."), m.b.nid) }, `"." is`},
		{"wrong_parent", func(m *sampleTree, b []byte) { le.PutUint64(m.entry(b, m.deep, ".."), m.b.nid) }, `".." is`},
		{"slash_in_name", func(m *sampleTree, b []byte) { rename(b, "deepfile", "d/epfile") }, "contains a slash"},
		{"zero_in_name", func(m *sampleTree, b []byte) { rename(b, "deepfile", "d\x00epfile") }, "contains a zero byte"},
		{"name_twice", func(m *sampleTree, b []byte) { rename(b, "filelink", "filefile") }, "twice in its directory"},
		{"not_sorted", func(m *sampleTree, b []byte) { rename(b, "filelink", "filedink") }, "not sorted"},
		{"wrong_type", func(m *sampleTree, b []byte) { m.entry(b, m.root, "b")[rafs.V6DirentTypeAt] = rafs.V6FTRegular }, "dirent.file_type"},
		{"nid_outside", func(m *sampleTree, b []byte) { le.PutUint64(m.entry(b, m.root, "f"), 1<<38) }, "/f: inode at"},
		{"nid_absurd", func(m *sampleTree, b []byte) { le.PutUint64(m.entry(b, m.root, "f"), 1<<63) }, "/f: nid at"},
		{"size_beyond_chunks", func(m *sampleTree, b []byte) { le.PutUint64(b[m.file.off+rafs.V6ExtendedSizeAt:], 1<<40) }, "inode.size"},
		{"size_below_chunks", func(m *sampleTree, b []byte) { le.PutUint64(b[m.file.off+rafs.V6ExtendedSizeAt:], 9000) }, "chunk_addr.block"},
		{"size_of_the_last_chunk", func(m *sampleTree, b []byte) { le.PutUint64(b[m.f.off+rafs.V6ExtendedSizeAt:], 101) }, "chunk_addr.block"},
		{"blob_unknown", func(m *sampleTree, b []byte) { addr(m, b, m.file)[rafs.V6ChunkAddrDeviceAt] = 3 }, "chunk_addr.device"},
		{"blob_zero", func(m *sampleTree, b []byte) { addr(m, b, m.file)[rafs.V6ChunkAddrDeviceAt] = 0 }, "chunk_addr.device"},
		{"chunk_unknown", func(m *sampleTree, b []byte) { addr(m, b, m.file)[rafs.V6ChunkAddrHighAt] = 1 }, "chunk_addr.index"},
		{"block_outside", func(m *sampleTree, b []byte) { le.PutUint32(addr(m, b, m.file)[rafs.V6ChunkAddrBlkAt:], 1<<31) }, "chunk_addr.block"},
		{"block_of_another_chunk", func(m *sampleTree, b []byte) { le.PutUint32(addr(m, b, m.file)[rafs.V6ChunkAddrBlkAt:], 1) }, "the chunk table says"},
		{"nanoseconds", func(m *sampleTree, b []byte) { le.PutUint32(b[m.file.off+rafs.V6ExtendedNsecAt:], 1e9) }, "inode.mtime_nsec"},
		{"links_none", func(m *sampleTree, b []byte) { le.PutUint32(b[m.file.off+rafs.V6ExtendedNlinkAt:], 0) }, "inode.nlink"},
		{"xattr_twice", func(m *sampleTree, b []byte) { rename(b, "k2v", "k1v") }, `"user.k1" twice`},
		{"xattr_prefix", func(m *sampleTree, b []byte) {
			b[m.f.off+rafs.V6ExtendedSize+rafs.V6XattrHeaderSize+rafs.V6XattrNameIndexAt] = 0x81
		}, "xattr.name_index"},
		{"zero_in_target", func(m *sampleTree, b []byte) { rename(b, "target", "tar\x00et") }, "inode.symlink"},
		{"byte_before_the_super_block", func(_ *sampleTree, b []byte) { b[rafs.V6SuperOff-1] = 1 }, "bootstrap.head"},
		{"reserved_of_the_super_block", func(_ *sampleTree, b []byte) { b[rafs.V6SuperOff+rafs.V6SuperSize-1] = 1 }, "super.reserved"},
		{"reserved_of_the_extended_one", func(_ *sampleTree, b []byte) { b[rafs.V6ExtOff+rafs.V6ExtReservedAt] = 1 }, "ext_super.reserved"},
		{"reserved_of_a_device", func(_ *sampleTree, b []byte) { b[rafs.V6DeviceOff+2*rafs.V6DeviceSize-1] = 1 }, "device.reserved"},
		{"reserved_of_a_blob", func(_ *sampleTree, b []byte) {
			table := le.Uint64(b[rafs.V6ExtOff+rafs.V6ExtBlobTableAt:])
			b[table+rafs.V6BlobReservedAt] = 1
		}, "blob.reserved"},
		{"reserved_of_an_inode", func(m *sampleTree, b []byte) { b[m.file.off+rafs.V6ExtendedSize-1] = 1 }, "inode.reserved"},
		{"reserved_of_xattrs", func(m *sampleTree, b []byte) { b[m.f.off+rafs.V6ExtendedSize+rafs.V6XattrReservedAt] = 1 }, "xattr.reserved"},
		{"reserved_of_an_entry", func(m *sampleTree, b []byte) { m.entry(b, m.root, "f")[rafs.V6DirentReservedAt] = 1 }, "dirent.reserved"},
		{"unknown_type_of_an_entry", func(m *sampleTree, b []byte) { m.entry(b, m.root, "f")[rafs.V6DirentTypeAt] = 9 }, "dirent.file_type"},
		{"checksum_that_is_not_there", func(_ *sampleTree, b []byte) { b[rafs.V6SuperOff+rafs.V6SuperCompatAt] |= 1 }, "super.feature_compat"},
		{"device_of_other_size", func(_ *sampleTree, b []byte) { b[rafs.V6DeviceOff+rafs.V6DeviceBlocksAt]++ }, "device.blocks"},
		{"devices_overlap", func(_ *sampleTree, b []byte) {
			for i := range 2 {
				b[rafs.V6DeviceOff+i*rafs.V6DeviceSize+rafs.V6DeviceMappedBlkaddrAt] = 128
			}
		}, "device.mapped_blkaddr"},
		{"name_lost", func(m *sampleTree, b []byte) { b[rafs.V6SuperOff+rafs.V6SuperInosAt]++ }, "super.inos"},
		{"name_of_another_file", func(m *sampleTree, b []byte) { le.PutUint64(m.entry(b, m.root, "f"), m.file.nid) }, "inode.nlink"},
		{"second_name_of_a_single_file", func(m *sampleTree, b []byte) { le.PutUint64(m.entry(b, m.a, "link"), m.f.nid) }, "reached by a second name"},
		{"links_too_many", func(m *sampleTree, b []byte) { b[m.file.off+rafs.V6ExtendedNlinkAt] = 3 }, "the tree has 2 names"},
		{"kernel_chunk_size", func(m *sampleTree, b []byte) { b[m.file.off+rafs.V6ExtendedUAt]++ }, "inode.i_u"},
		{"chunk_twice_in_the_table", func(m *sampleTree, b []byte) {
			table := chunkTable(b)
			copy(table[rafs.ChunkInfoSize+rafs.ChunkInfoBlobAt:2*rafs.ChunkInfoSize], table[rafs.ChunkInfoBlobAt:])
		}, "twice"},
		{"stored_over_another", func(m *sampleTree, b []byte) {
			for e := range slices.Chunk(chunkTable(b), rafs.ChunkInfoSize) {
				le.PutUint64(e[rafs.ChunkInfoCompressedOffAt:], 0)
			}
		}, "chunk.compressed_offset"},
		{"uncompressed_over_another", func(m *sampleTree, b []byte) {
			for e := range slices.Chunk(chunkTable(b), rafs.ChunkInfoSize) {
				le.PutUint64(e[rafs.ChunkInfoUncompressedOffAt:], 0)
			}
		}, "chunk.uncompressed_offset"},
		{"compressed_without_compressor", func(m *sampleTree, b []byte) {
			for i := range uint64(2) {
				table := le.Uint64(b[rafs.V6ExtOff+rafs.V6ExtBlobTableAt:])
				b[table+i*rafs.V6BlobSize+rafs.V6BlobCompressorAt] = byte(rafs.CompressorNone)
			}
		}, "chunk.flags"},
		{"crc_without_flag", func(m *sampleTree, b []byte) {
			for e := range slices.Chunk(chunkTable(b), rafs.ChunkInfoSize) {
				e[rafs.ChunkInfoFlagsAt] &^= byte(rafs.ChunkHasCRC)
			}
		}, "chunk.crc32"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newSample()
			data := m.v6()
			tt.damage(m, data)
			if got := problems(t, data); !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			exercise(t, data)
		})
	}
}

func TestLenientCheckPassesOverWhatNobodyReliesOn(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(m *sampleTree, data []byte)
		fine   bool
	}{
		{"reserved_of_the_super_block", func(_ *sampleTree, b []byte) { b[rafs.V6SuperOff+rafs.V6SuperSize-1] = 1 }, true},
		{"reserved_of_an_inode", func(m *sampleTree, b []byte) { b[m.file.off+rafs.V6ExtendedSize-1] = 1 }, true},
		{"names_counted_wrong", func(_ *sampleTree, b []byte) { b[rafs.V6SuperOff+rafs.V6SuperInosAt]++ }, true},
		{"links_counted_wrong", func(m *sampleTree, b []byte) { b[m.file.off+rafs.V6ExtendedNlinkAt] = 3 }, true},
		{"device_of_other_size", func(_ *sampleTree, b []byte) { b[rafs.V6DeviceOff+rafs.V6DeviceBlocksAt]++ }, true},
		{"kernel_chunk_size", func(m *sampleTree, b []byte) { b[m.file.off+rafs.V6ExtendedUAt]++ }, true},
		{"directory_loop", func(m *sampleTree, b []byte) { le.PutUint64(m.entry(b, m.a, "deep"), m.root.nid) }, false},
		{"block_of_another_chunk", func(m *sampleTree, b []byte) { le.PutUint32(addr(m, b, m.file)[rafs.V6ChunkAddrBlkAt:], 1) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newSample()
			data := m.v6()
			tt.damage(m, data)
			im, err := rafs.Open(data, rafs.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := im.Check(t.Context(), rafs.CheckOptions{}); err == nil {
				t.Error("the whole check finds nothing")
			}
			if _, err := im.Check(t.Context(), rafs.CheckOptions{Lenient: true}); (err == nil) != tt.fine {
				t.Errorf("lenient: %v", err)
			}
		})
	}
}

// chunkTable gives the entries of the chunk table.
func chunkTable(data []byte) []byte {
	ext := data[rafs.V6ExtOff:]
	return data[le.Uint64(ext[rafs.V6ExtChunkTableAt:]):][:le.Uint64(ext[rafs.V6ExtChunkTableSizeAt:])]
}

// addr gives the first chunk address of a file.
func addr(m *sampleTree, data []byte, f *node) []byte {
	p := &placer{m: m.model, bs: 1 << m.blockBits}
	return data[up(f.off+p.header(f), 8):]
}

func TestCheckFindsV5Damage(t *testing.T) {
	chunk := func(f *node) uint64 { return f.off + rafs.V5InodeSize + 8 } // names here are short
	for _, tt := range []struct {
		name   string
		damage func(m *sampleTree, data []byte)
		want   string
	}{
		{"child_ranges_overlap", func(m *sampleTree, b []byte) {
			le.PutUint32(b[m.b.off+rafs.V5InodeChildIndexAt:], uint32(m.deep.index))
			le.PutUint32(b[m.b.off+rafs.V5InodeChildCountAt:], 1)
		}, "inode.parent"},
		{"child_is_its_ancestor", func(m *sampleTree, b []byte) {
			le.PutUint32(b[m.a.off+rafs.V5InodeChildIndexAt:], 1)
		}, "inode.child_index"},
		{"children_past_the_table", func(m *sampleTree, b []byte) {
			le.PutUint32(b[m.a.off+rafs.V5InodeChildCountAt:], 1000)
		}, "inode.child_index"},
		{"wrong_parent", func(m *sampleTree, b []byte) { le.PutUint64(b[m.deep.off+rafs.V5InodeParentAt:], m.b.index) }, "inode.parent"},
		{"parent_none", func(m *sampleTree, b []byte) { le.PutUint64(b[m.deep.off+rafs.V5InodeParentAt:], 0) }, "inode.parent"},
		{"slash_in_name", func(m *sampleTree, b []byte) { b[m.deep.off+rafs.V5InodeSize+1] = '/' }, "contains a slash"},
		{"zero_in_name", func(m *sampleTree, b []byte) { b[m.deep.off+rafs.V5InodeSize+1] = 0 }, "contains a zero byte"},
		{"name_is_dots", func(m *sampleTree, b []byte) { b[m.b.off+rafs.V5InodeSize] = '.' }, "is . or .."},
		{"name_twice", func(m *sampleTree, b []byte) { copy(b[m.link.off+rafs.V5InodeSize:], "file") }, "twice in its directory"},
		{"not_sorted", func(m *sampleTree, b []byte) { b[m.a.off+rafs.V5InodeSize] = 'e' }, "not sorted"},
		{"name_empty", func(m *sampleTree, b []byte) { le.PutUint16(b[m.b.off+rafs.V5InodeNameSizeAt:], 0) }, "inode.name_size"},
		{"number_of_another", func(m *sampleTree, b []byte) { le.PutUint64(b[m.b.off+rafs.V5InodeInoAt:], m.a.index) }, "is no hard link to a file"},
		{"link_of_other_size", func(m *sampleTree, b []byte) { le.PutUint64(b[m.link.off+rafs.V5InodeSizeAt:], 9999) }, "hard link differs"},
		{"too_few_chunks", func(m *sampleTree, b []byte) {
			le.PutUint32(b[m.file.off+rafs.V5InodeChildCountAt:], 2)
			le.PutUint32(b[m.link.off+rafs.V5InodeChildCountAt:], 2)
		}, "2 chunks for 10000 bytes, want 3"},
		{"chunk_elsewhere_in_the_file", func(m *sampleTree, b []byte) { le.PutUint64(b[chunk(m.file)+rafs.ChunkInfoFileOffAt:], 4096) }, "chunk.file_offset"},
		{"chunk_too_large", func(m *sampleTree, b []byte) { le.PutUint32(b[chunk(m.file)+rafs.ChunkInfoSizeAt:], 4097) }, "chunk.uncompressed_size"},
		{"chunk_outside_the_blob", func(m *sampleTree, b []byte) {
			le.PutUint64(b[chunk(m.file)+rafs.ChunkInfoUncompressedOffAt:], 1<<30)
		}, "chunk.uncompressed_offset"},
		{"chunk_of_no_blob", func(m *sampleTree, b []byte) { le.PutUint32(b[chunk(m.file)+rafs.ChunkInfoBlobAt:], 2) }, "chunk.blob_index"},
		{"digest_of_a_file", func(m *sampleTree, b []byte) { b[m.file.off] ^= 1 }, "/a/file: inode.digest"},
		{"digest_of_a_directory", func(m *sampleTree, b []byte) { b[m.a.off] ^= 1 }, "/a: inode.digest"},
		{"digest_of_a_target", func(m *sampleTree, b []byte) { rename(b, "target", "tarjet") }, "/s: inode.digest"},
		{"digest_of_a_chunk", func(m *sampleTree, b []byte) { b[chunk(m.file)] ^= 1 }, "/a/file: inode.digest"},
		{"xattr_twice", func(m *sampleTree, b []byte) { rename(b, "k2\x00v", "k1\x00v") }, `"user.k1" twice`},
		{"xattr_too_long", func(m *sampleTree, b []byte) {
			le.PutUint32(b[m.f.off+rafs.V5InodeSize+16:], 1000)
		}, "xattr.pair_size"},
		{"table_entry", func(m *sampleTree, b []byte) { le.PutUint32(b[rafs.V5SuperSize+4*(m.b.index-1):], 3) }, "inode_table.entry"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newSample()
			data := m.v5()
			tt.damage(m, data)
			if got := problems(t, data); !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			exercise(t, data)
		})
	}
}

// TestCheckStopsAtItsLimit damages every entry of a large directory.
func TestCheckStopsAtItsLimit(t *testing.T) {
	m := bigDir(500)
	data := m.v6()
	for _, n := range m.root.children {
		le.PutUint32(data[n.off+rafs.V6ExtendedNlinkAt:], 0)
	}
	im, err := rafs.Open(data, rafs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[int]int{0: 100, 7: 7, 10000: 500} {
		if r, err := im.Check(t.Context(), rafs.CheckOptions{MaxProblems: limit}); err == nil || len(r.Problems) != want {
			t.Errorf("limit %d: %d problems, %v", limit, len(r.Problems), err)
		}
	}
}

// TestDeepTreesAreRead nests directories far deeper than a goroutine's stack would
// like, and one level deeper than Check goes.
func TestDeepTreesAreRead(t *testing.T) {
	for _, tt := range []struct {
		depth int
		want  string
	}{{8000, ""}, {8200, "nested deeper than"}} {
		m := &model{root: &node{mode: rafs.ModeDir | 0o755}, chunkBits: 12, blockBits: 12}
		at := m.root
		for range tt.depth {
			d := &node{name: "d", mode: rafs.ModeDir | 0o755}
			at.children, at = []*node{d}, d
		}
		m.finish()
		for _, data := range [][]byte{m.v5(), m.v6()} {
			if got := problems(t, data); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("depth %d: %.200s", tt.depth, got)
			}
		}
	}
}

// TestOverlappingChildrenDoNotMultiply makes a v5 image whose tree would be
// exponentially large: each directory's child range holds all that come after.
func TestOverlappingChildrenDoNotMultiply(t *testing.T) {
	m := &model{root: &node{mode: rafs.ModeDir | 0o755}, chunkBits: 12, blockBits: 12}
	const n = 60
	for i := range n {
		m.root.children = append(m.root.children, &node{name: fmt.Sprintf("d%02d", i), mode: rafs.ModeDir | 0o755})
	}
	m.finish()
	data := m.v5()
	for i, c := range m.root.children {
		le.PutUint32(data[c.off+rafs.V5InodeChildIndexAt:], uint32(c.index+1))
		le.PutUint32(data[c.off+rafs.V5InodeChildCountAt:], uint32(n-1-i))
	}
	im, err := rafs.Open(data, rafs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := im.Check(t.Context(), rafs.CheckOptions{MaxProblems: 1 << 20})
	if !errors.Is(err, rafs.ErrCorrupt) || r.Names > n*n || len(r.Problems) > 2*n*n {
		t.Errorf("%d names, %d problems, %v", r.Names, len(r.Problems), err)
	}
	if !slices.ContainsFunc(r.Problems, func(p rafs.Problem) bool { return strings.Contains(p.Err.Error(), "inode.parent") }) {
		t.Errorf("got %v", err)
	}
	exercise(t, data)
}
