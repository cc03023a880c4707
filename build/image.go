package build

import (
	"fmt"
	"math/bits"
	"path"
	"slices"
	"strings"

	"vrafs/rafs"
)

// An image is everything a bootstrap says, ready to be encoded.
type image struct {
	version   rafs.Version
	flags     rafs.SuperFlags // algorithms, uid and gid, tarfs; encode adds the rest
	chunkSize uint32
	root      *node
	num       numbering
	blobs     []rafs.Blob
	chunks    []chunk
	byID      map[chunkID]uint32 // of a loaded image: places in chunks
	mixed     bool               // several images say what is in the blobs
	prefetch  []*node
	digester  rafs.Digester // of v5 inodes
}

func (m *image) tarfs() bool { return m.flags&rafs.FlagTarfs != 0 }

// owner gives the ids to store.
func (m *image) owner(in *inode) (uid, gid uint32) {
	if m.flags&rafs.FlagExplicitUIDGID == 0 {
		return 0, 0
	}
	return in.uid, in.gid
}

// hasXattrs reports whether any inode has an xattr.
func (m *image) hasXattrs() bool {
	found := false
	_ = m.root.visit(func(n *node) error {
		found = found || len(n.in.xattrs) > 0
		return nil
	})
	return found
}

// maxBlobs is the most blobs an image may have.
func maxBlobs(v rafs.Version) int {
	if v == rafs.V6 {
		return rafs.V6MaxBlobs
	}
	return rafs.V5MaxBlobs
}

// checkBlobs refuses a blob table that can't be stored. An id can be too long if
// it is the name of a file (rafs.md 4.10).
func (m *image) checkBlobs() error {
	if n, limit := len(m.blobs), maxBlobs(m.version); n > limit {
		return fmt.Errorf("%w: %d blobs, a v%d image holds %d", ErrInconsistent, n, m.version, limit)
	}
	for i := range m.blobs {
		if id := m.blobs[i].ID; m.version == rafs.V6 && len(id) > rafs.V6BlobIDSize {
			return fmt.Errorf("%w: blob id %q has %d bytes, %d can be stored", ErrInconsistent, id, len(id), rafs.V6BlobIDSize)
		}
	}
	return nil
}

// encode makes the bootstrap in the image's version.
func (m *image) encode() ([]byte, error) {
	err := m.checkBlobs()
	if err != nil {
		return nil, err
	}
	if m.num, err = number(m.root); err != nil {
		return nil, err
	}
	if m.hasXattrs() {
		m.flags |= rafs.FlagHasXattr
	}
	if m.version == rafs.V5 {
		return m.encodeV5()
	}
	return m.encodeV6()
}

// prefetchNodes finds the nodes of a prefetch table: one for each pattern that
// exists (rafs.md 6.7).
func prefetchNodes(root *node, p Prefetch) []*node {
	if p.Policy != PrefetchFS {
		return nil
	}
	var out []*node
	for _, s := range cleanPatterns(p.Patterns) {
		if n := root.lookup(s); n != nil {
			out = append(out, n)
		}
	}
	return out
}

// cleanPatterns drops patterns that an earlier one covers, and what is no
// absolute path.
func cleanPatterns(list []string) []string {
	var out []string
	for _, s := range list {
		if !strings.HasPrefix(s, "/") {
			continue
		}
		s = path.Clean(s)
		if !slices.ContainsFunc(out, func(o string) bool { return covers(o, s) }) {
			out = append(out, s)
		}
	}
	return out
}

// covers reports whether path is pattern or lies below it.
func covers(pattern, path string) bool {
	return pattern == "/" || path == pattern || strings.HasPrefix(path, pattern) && path[len(pattern)] == '/'
}

// prefetchOrder sorts files so that those that match a pattern come first, in
// the order of patterns, and reports how many they are (rafs.md 6.4). Files
// keep their order otherwise.
func prefetchOrder(files []*node, p Prefetch) ([]*node, int) {
	patterns := cleanPatterns(p.Patterns)
	if p.Policy == PrefetchNone || len(patterns) == 0 {
		return files, 0
	}
	groups := make([][]*node, len(patterns)+1)
	for _, f := range files {
		name, g := f.path(), len(patterns)
		for i, s := range patterns {
			if covers(s, name) {
				g = i
				break
			}
		}
		groups[g] = append(groups[g], f)
	}
	n := len(files) - len(groups[len(patterns)])
	return slices.Concat(groups...), n
}

// putChunkInfo encodes an 80-byte chunk info (rafs.md 1.11).
func putChunkInfo(b []byte, c *rafs.Chunk, fileOff uint64) {
	copy(b[rafs.ChunkInfoDigestAt:], c.Digest[:])
	le.PutUint32(b[rafs.ChunkInfoBlobAt:], uint32(c.Blob))
	le.PutUint32(b[rafs.ChunkInfoFlagsAt:], uint32(c.Flags)&0xff)
	size := c.CompressedSize
	if c.Flags&rafs.ChunkBatch != 0 {
		size = 0 // the batch context carries it
	}
	le.PutUint32(b[rafs.ChunkInfoCompressedSizeAt:], size)
	le.PutUint32(b[rafs.ChunkInfoSizeAt:], c.Size)
	le.PutUint64(b[rafs.ChunkInfoCompressedOffAt:], c.CompressedOff)
	le.PutUint64(b[rafs.ChunkInfoUncompressedOffAt:], c.Off)
	le.PutUint64(b[rafs.ChunkInfoFileOffAt:], fileOff)
	le.PutUint32(b[rafs.ChunkInfoIndexAt:], uint32(c.Index))
	if c.Flags&rafs.ChunkHasCRC != 0 {
		le.PutUint32(b[rafs.ChunkInfoCRCAt:], c.CRC32)
	}
}

func log2(n uint64) uint8 { return uint8(bits.Len64(n) - 1) }

func checkName(n *node) error {
	if n.parent != nil && (n.name == "" || n.name == "." || n.name == ".." || len(n.name) > rafs.MaxNameLen ||
		strings.ContainsAny(n.name, "/\x00")) {
		return fmt.Errorf("%w: name %.80q", ErrSource, n.name)
	}
	return nil
}
