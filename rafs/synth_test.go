package rafs_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"vrafs/rafs"
)

// A node is one file of a model tree, from which small images are written to
// test the reader. The writers here share nothing with the reader but the layout
// constants.
type node struct {
	name     string
	mode     uint32
	uid, gid uint32
	mtime    int64
	nsec     uint32
	rdev     uint32
	target   string
	xattrs   map[string]string
	size     uint64
	chunks   []rafs.Chunk
	link     *node // a hard link to an earlier file
	children []*node

	index, child uint64 // v5 numbering
	nlink        uint32
	nid, off     uint64 // placement
	data         uint64 // v6: of blocks
	parent       *node
}

func (n *node) isDir() bool     { return n.mode&rafs.ModeType == rafs.ModeDir }
func (n *node) isRegular() bool { return n.mode&rafs.ModeType == rafs.ModeRegular }

// real is the node that holds the inode's data.
func (n *node) real() *node {
	if n.link != nil {
		return n.link
	}
	return n
}

// A model is a tree and the blobs its chunks lie in.
type model struct {
	root      *node
	blobs     []modelBlob
	chunkBits uint8
	blockBits uint8
	compact   bool // v6: short inodes
	plain     bool // v6: nothing inline
	shared    bool // v6: attributes in the shared area
	table     []rafs.Chunk
	prefetch  []*node // v6
}

type modelBlob struct {
	id     string
	chunks uint32
	size   uint64
}

// addFile gives a file fresh chunks in blob b that add up to size.
func (m *model) addFile(n *node, b int, size uint64) {
	n.size = size
	blob := &m.blobs[b]
	for off := uint64(0); off < size; off += 1 << m.chunkBits {
		part := min(size-off, 1<<m.chunkBits)
		c := rafs.Chunk{
			Blob: uint16(b), Index: rafs.ChunkIndex(blob.chunks), Off: blob.size, Size: uint32(part),
			CompressedOff: blob.size, CompressedSize: uint32(part), HasDigest: true,
			Digest: sha256.Sum256(fmt.Appendf(nil, "%d/%d", b, blob.chunks)),
			Flags:  rafs.ChunkHasCRC, CRC32: blob.chunks + 1,
		}
		if blob.chunks%3 == 0 && part > 1 {
			c.Flags |= rafs.ChunkCompressed
			c.CompressedSize /= 2
		}
		n.chunks, m.table = append(n.chunks, c), append(m.table, c)
		blob.chunks++
		blob.size += (part + 4095) &^ 4095
	}
}

// finish sorts, links parents, counts links and numbers the tree as v5 does.
func (m *model) finish() {
	next := uint64(1)
	m.root.index, m.root.parent = next, m.root
	next++
	var number func(n *node)
	number = func(n *node) {
		slices.SortFunc(n.children, func(a, b *node) int { return strings.Compare(a.name, b.name) })
		n.child, n.nlink = next, 2
		for _, c := range n.children {
			c.index, c.parent = next, n
			next++
			switch {
			case c.isDir():
				n.nlink++
			default:
				c.real().nlink++
			}
		}
		for _, c := range n.children {
			if c.isDir() {
				number(c)
			}
		}
	}
	number(m.root)
}

// all lists the nodes depth first.
func (m *model) all() []*node {
	var list []*node
	var visit func(n *node)
	visit = func(n *node) {
		list = append(list, n)
		for _, c := range n.children {
			visit(c)
		}
	}
	visit(m.root)
	return list
}

// randomModel makes a tree of about n entries.
func randomModel(r *rand.Rand, n int, chunkBits uint8) *model {
	m := &model{
		root:      &node{mode: rafs.ModeDir | 0o755},
		chunkBits: chunkBits, blockBits: rafs.V6BlkSzBits,
		compact: r.IntN(2) == 0, plain: r.IntN(3) == 0, shared: r.IntN(3) == 0,
	}
	for i := range 1 + r.IntN(3) {
		id := sha256.Sum256([]byte{byte(i)})
		m.blobs = append(m.blobs, modelBlob{id: fmt.Sprintf("%x", id)})
	}
	dirs, files := []*node{m.root}, []*node(nil)
	names := map[*node]map[string]bool{m.root: {}}
	for range n {
		dir := dirs[r.IntN(len(dirs))]
		c := &node{name: randomName(r), uid: r.Uint32() >> 12, gid: r.Uint32() >> 17, mtime: int64(r.Uint32()), nsec: r.Uint32N(1e9)}
		if m.compact && r.IntN(2) == 0 {
			c.uid, c.mtime, c.nsec = c.uid&0xffff, 0, 0
		}
		if names[dir][c.name] {
			continue
		}
		names[dir][c.name] = true
		if r.IntN(4) == 0 {
			c.xattrs = randomXattrs(r)
		}
		switch k := r.IntN(12); {
		case k < 2:
			c.mode = rafs.ModeDir | 0o700
			names[c] = map[string]bool{}
			dirs = append(dirs, c)
		case k == 2:
			c.mode = rafs.ModeSymlink | 0o777
			c.target = strings.Repeat("x/", 1+r.IntN(100))
			if r.IntN(4) == 0 {
				c.target = strings.Repeat("../", 1300)
			}
		case k == 3:
			c.mode, c.rdev = rafs.ModeChar|0o600, r.Uint32()
		case k == 4:
			c.mode = rafs.ModeFIFO | 0o644
		case k == 5 && len(files) > 0:
			first := files[r.IntN(len(files))]
			name := c.name
			*c = *first
			c.name, c.link = name, first
		default:
			c.mode = rafs.ModeRegular | 0o640
			if k > 6 {
				m.addFile(c, r.IntN(len(m.blobs)), uint64(r.IntN(5<<chunkBits)))
			}
			files = append(files, c)
		}
		dir.children = append(dir.children, c)
	}
	m.finish()
	m.orderLinks()
	return m
}

// orderLinks makes the first of a set of hard links the one with the lowest index.
func (m *model) orderLinks() {
	first := map[*node]*node{}
	nodes := m.all()
	slices.SortFunc(nodes, func(a, b *node) int { return cmp.Compare(a.index, b.index) })
	for _, n := range nodes {
		old := n.real()
		f, ok := first[old]
		if !ok {
			first[old], f = n, n
		}
		if f != n {
			defer func(n, f *node) { n.link = f }(n, f)
		} else {
			defer func(n *node, links uint32) { n.link, n.nlink = nil, links }(n, old.nlink)
		}
	}
}

func randomName(r *rand.Rand) string {
	switch r.IntN(6) {
	case 0:
		return fmt.Sprintf("!%d", r.IntN(50)) // sorts before "."
	case 1:
		return strings.Repeat("é", 1+r.IntN(127))
	case 2:
		return fmt.Sprintf(".%d", r.IntN(1000))
	}
	return fmt.Sprintf("file-%05d", r.IntN(100000))
}

func randomXattrs(r *rand.Rand) map[string]string {
	names := []string{"user.a", "user.bb", "security.capability", "trusted.x", "system.posix_acl_access", "system.posix_acl_default", "user.empty"}
	x := map[string]string{}
	for range 1 + r.IntN(4) {
		x[names[r.IntN(len(names))]] = strings.Repeat("v", r.IntN(60))
	}
	return x
}

func sortedKeys(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

var le = binary.LittleEndian

// A writer is an image being made.
type writer struct{ b []byte }

// at gives n bytes at off, which it makes exist.
func (w *writer) at(off, n uint64) []byte {
	if need := off + n; need > uint64(len(w.b)) {
		w.b = append(w.b, make([]byte, need-uint64(len(w.b)))...)
	}
	return w.b[off:][:n]
}

func up(n, a uint64) uint64 { return (n + a - 1) &^ (a - 1) }

func putChunk(b []byte, c *rafs.Chunk, fileOff uint64) {
	copy(b, c.Digest[:])
	le.PutUint32(b[rafs.ChunkInfoBlobAt:], uint32(c.Blob))
	le.PutUint32(b[rafs.ChunkInfoFlagsAt:], uint32(c.Flags))
	le.PutUint32(b[rafs.ChunkInfoCompressedSizeAt:], c.CompressedSize)
	le.PutUint32(b[rafs.ChunkInfoSizeAt:], c.Size)
	le.PutUint64(b[rafs.ChunkInfoCompressedOffAt:], c.CompressedOff)
	le.PutUint64(b[rafs.ChunkInfoUncompressedOffAt:], c.Off)
	le.PutUint64(b[rafs.ChunkInfoFileOffAt:], fileOff)
	le.PutUint32(b[rafs.ChunkInfoIndexAt:], uint32(c.Index))
	le.PutUint32(b[rafs.ChunkInfoCRCAt:], c.CRC32)
}

// v5 writes the model as a v5 bootstrap with SHA-256 digests.
func (m *model) v5() []byte {
	w := &writer{}
	nodes := m.all()
	slices.SortFunc(nodes, func(a, b *node) int { return cmp.Compare(a.index, b.index) })
	itable := uint64(rafs.V5SuperSize)
	btable := itable + up(4*uint64(len(nodes)), 8)
	var ids bytes.Buffer
	for i, b := range m.blobs {
		if i > 0 {
			ids.WriteByte(0)
		}
		ids.Write(make([]byte, 8))
		ids.WriteString(b.id)
	}
	btableSize := up(uint64(ids.Len()), 8)
	copy(w.at(btable, btableSize), ids.Bytes())
	ext := btable + btableSize
	for i, b := range m.blobs {
		e := w.at(ext+uint64(i)*rafs.V5ExtSize, rafs.V5ExtSize)
		le.PutUint32(e[rafs.V5ExtChunkCountAt:], b.chunks)
		le.PutUint64(e[rafs.V5ExtUncompressedAt:], b.size)
		le.PutUint64(e[rafs.V5ExtCompressedAt:], b.size)
	}
	pos := ext + uint64(len(m.blobs))*rafs.V5ExtSize
	unique := uint64(0)
	for _, n := range nodes {
		if n.link == nil {
			unique++
		}
		le.PutUint32(w.at(itable+4*(n.index-1), 4), uint32(pos>>3))
		n.off = pos
		pos = w.inodeV5(n)
	}
	w.digestsV5(nodes)
	sb := w.at(0, rafs.V5SuperSize)
	le.PutUint32(sb, rafs.V5Magic)
	le.PutUint32(sb[rafs.V5SuperVersionAt:], rafs.V5FSVersion)
	le.PutUint32(sb[rafs.V5SuperSizeAt:], rafs.V5SuperSize)
	le.PutUint32(sb[rafs.V5SuperBlockSizeAt:], 1<<m.chunkBits)
	le.PutUint64(sb[rafs.V5SuperFlagsAt:], uint64(rafs.FlagCompressionLZ4|rafs.FlagHashSHA256|rafs.FlagExplicitUIDGID))
	le.PutUint64(sb[rafs.V5SuperInodesCountAt:], unique)
	le.PutUint64(sb[rafs.V5SuperInodeTableAt:], itable)
	le.PutUint64(sb[rafs.V5SuperPrefetchTableAt:], btable)
	le.PutUint64(sb[rafs.V5SuperBlobTableAt:], btable)
	le.PutUint32(sb[rafs.V5SuperInodeEntriesAt:], uint32(len(nodes)))
	le.PutUint32(sb[rafs.V5SuperBlobTableSizeAt:], uint32(btableSize))
	le.PutUint32(sb[rafs.V5SuperExtEntriesAt:], uint32(len(m.blobs)))
	le.PutUint64(sb[rafs.V5SuperExtTableAt:], ext)
	return w.b
}

func (w *writer) inodeV5(n *node) uint64 {
	r := n.real()
	b := w.at(n.off, rafs.V5InodeSize)
	name := n.name
	if n.index == rafs.V5RootIno {
		name = "/"
	} else {
		le.PutUint64(b[rafs.V5InodeParentAt:], n.parent.index)
	}
	le.PutUint64(b[rafs.V5InodeInoAt:], r.index)
	le.PutUint32(b[rafs.V5InodeUIDAt:], r.uid)
	le.PutUint32(b[rafs.V5InodeGIDAt:], r.gid)
	le.PutUint32(b[rafs.V5InodeModeAt:], r.mode)
	le.PutUint64(b[rafs.V5InodeSizeAt:], r.size)
	le.PutUint32(b[rafs.V5InodeNlinkAt:], r.nlink)
	le.PutUint32(b[rafs.V5InodeChildCountAt:], uint32(len(r.chunks)))
	if n.isDir() {
		le.PutUint32(b[rafs.V5InodeChildIndexAt:], uint32(n.child))
		le.PutUint32(b[rafs.V5InodeChildCountAt:], uint32(len(n.children)))
	}
	le.PutUint16(b[rafs.V5InodeNameSizeAt:], uint16(len(name)))
	le.PutUint16(b[rafs.V5InodeSymlinkSizeAt:], uint16(len(r.target)))
	le.PutUint32(b[rafs.V5InodeRdevAt:], r.rdev)
	le.PutUint32(b[rafs.V5InodeMtimeNsecAt:], r.nsec)
	le.PutUint64(b[rafs.V5InodeMtimeAt:], uint64(r.mtime))
	if r.xattrs != nil {
		le.PutUint64(b[rafs.V5InodeFlagsAt:], rafs.V5InodeXattr)
	}
	pos := n.off + rafs.V5InodeSize
	put := func(s string) {
		copy(w.at(pos, up(uint64(len(s)), 8)), s)
		pos += up(uint64(len(s)), 8)
	}
	put(name)
	put(r.target)
	if r.xattrs != nil {
		var pairs []byte
		for _, k := range sortedKeys(r.xattrs) {
			pairs = le.AppendUint32(pairs, uint32(len(k)+1+len(r.xattrs[k])))
			pairs = append(pairs, k+"\x00"+r.xattrs[k]...)
		}
		le.PutUint64(w.at(pos, 8), uint64(len(pairs)))
		pos += 8
		put(string(pairs))
	}
	for k := range r.chunks {
		c := w.at(pos, rafs.ChunkInfoSize)
		putChunk(c, &r.chunks[k], uint64(k)*uint64(r.chunks[0].Size))
		pos += rafs.ChunkInfoSize
	}
	return pos
}

// digestsV5 fills in the Merkle digests, children before parents.
func (w *writer) digestsV5(nodes []*node) {
	for _, n := range slices.Backward(nodes) {
		h := sha256.New()
		switch {
		case n.isDir():
			for _, c := range n.children {
				h.Write(w.at(c.off, rafs.DigestSize))
			}
		case n.isRegular():
			for _, c := range n.real().chunks {
				h.Write(c.Digest[:])
			}
		default:
			h.Write([]byte(n.target))
		}
		copy(w.at(n.off, rafs.DigestSize), h.Sum(nil))
	}
}
