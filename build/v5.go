package build

import (
	"fmt"
	"math"

	"vrafs/internal/codec"
	"vrafs/rafs"
)

// A v5Layout says where everything of a v5 bootstrap lies (rafs.md 1.1).
type v5Layout struct {
	m        *image
	prefetch uint64
	blobs    uint64
	blobSize uint64
	ext      uint64
	inodes   uint64
	at       []uint64 // of the inode record, by index - 1
	end      uint64
}

// encodeV5 makes a v5 bootstrap.
func (m *image) encodeV5() ([]byte, error) {
	m.digestInodes()
	l := &v5Layout{m: m, at: make([]uint64, m.num.names)}
	l.tables()
	if err := l.place(); err != nil {
		return nil, err
	}
	out := make([]byte, l.end)
	l.super(out)
	l.blobTables(out)
	_ = m.root.visit(func(n *node) error {
		off := l.at[n.index-1]
		le.PutUint32(out[rafs.V5SuperSize+rafs.V5InodeEntrySize*(n.index-1):], uint32(off>>rafs.V5InodeShift))
		l.putInode(out[off:], n)
		return nil
	})
	return out, nil
}

// tables places everything before the inodes.
func (l *v5Layout) tables() {
	l.prefetch = rafs.V5SuperSize + alignUp(rafs.V5InodeEntrySize*uint64(l.m.num.names), rafs.V5Align)
	l.blobs = l.prefetch + alignUp(rafs.V5PrefetchEntrySize*uint64(len(l.m.prefetch)), rafs.V5Align)
	for i := range l.m.blobs {
		if i > 0 {
			l.blobSize++ // the NUL between two entries
		}
		l.blobSize += rafs.V5BlobEntryFixedSize + uint64(len(l.m.blobs[i].ID))
	}
	l.blobSize = alignUp(l.blobSize, rafs.V5Align)
	l.ext = l.blobs + l.blobSize
	l.inodes = l.ext + rafs.V5ExtSize*uint64(len(l.m.blobs))
}

// place allots the inode records, back to back in the order of numbering.
func (l *v5Layout) place() error {
	l.end = l.inodes
	return l.m.root.visit(func(n *node) error {
		if err := checkName(n); err != nil {
			return err
		}
		if len(n.in.target) > math.MaxUint16 {
			return fmt.Errorf("%w: %q: symlink target of %d bytes", ErrSource, n.path(), len(n.in.target))
		}
		if n.in.isDir() {
			n.in.size = v5DirSize(n)
		}
		l.at[n.index-1] = l.end
		l.end += v5InodeBytes(n)
		if l.end > rafs.V5MaxSize {
			return fmt.Errorf("%w: v5 bootstrap of more than %d bytes", ErrSource, rafs.V5MaxSize)
		}
		return nil
	})
}

// v5Name is the name as it is stored.
func v5Name(n *node) string {
	if n.parent == nil {
		return "/"
	}
	return n.name
}

// v5DirSize is the size a v5 directory shows (rafs.md 1.9).
func v5DirSize(d *node) uint64 {
	var n uint64
	for _, k := range d.kids {
		n += uint64(len(k.name)) + 8
	}
	return max(alignUp(n, 4096), 4096)
}

// v5XattrBytes is the size of all pairs without their header.
func v5XattrBytes(in *inode) uint64 {
	var n uint64
	for _, x := range in.xattrs {
		n += uint64(rafs.V5XattrPairSize + len(x.name) + 1 + len(x.value))
	}
	return n
}

func v5InodeBytes(n *node) uint64 {
	size := rafs.V5InodeSize + alignUp(uint64(len(v5Name(n))), rafs.V5Align) + alignUp(uint64(len(n.in.target)), rafs.V5Align)
	if len(n.in.xattrs) > 0 {
		size += rafs.V5XattrHeaderSize + alignUp(v5XattrBytes(n.in), rafs.V5Align)
	}
	return size + rafs.ChunkInfoSize*uint64(len(n.in.chunks))
}

// digestInodes computes the Merkle digests (rafs.md 1.10), children first.
func (m *image) digestInodes() {
	var dirs []*node
	var buf []byte
	empty := codec.Sum(m.digester, nil)
	_ = m.root.visit(func(n *node) error {
		switch {
		case n.in.isDir():
		case !n.first():
		case n.in.isReg():
			buf = buf[:0]
			for _, id := range n.in.chunks {
				buf = append(buf, m.chunks[id].Digest[:]...)
			}
			n.in.digest = codec.Sum(m.digester, buf)
		case n.in.isLink():
			n.in.digest = codec.Sum(m.digester, []byte(n.in.target))
		default:
			n.in.digest = empty
		}
		return nil
	})
	_ = m.root.visitDirs(func(d *node) error {
		dirs = append(dirs, d)
		return nil
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		buf = buf[:0]
		for _, k := range dirs[i].kids {
			buf = append(buf, k.in.digest[:]...)
		}
		dirs[i].in.digest = codec.Sum(m.digester, buf)
	}
}

// super writes the super block and the prefetch table.
func (l *v5Layout) super(out []byte) {
	m := l.m
	le.PutUint32(out[rafs.V5SuperMagicAt:], rafs.V5Magic)
	le.PutUint32(out[rafs.V5SuperVersionAt:], rafs.V5FSVersion)
	le.PutUint32(out[rafs.V5SuperSizeAt:], rafs.V5SuperSize)
	le.PutUint32(out[rafs.V5SuperBlockSizeAt:], m.chunkSize)
	le.PutUint64(out[rafs.V5SuperFlagsAt:], uint64(m.flags))
	le.PutUint64(out[rafs.V5SuperInodesCountAt:], uint64(m.num.inodes))
	le.PutUint64(out[rafs.V5SuperInodeTableAt:], rafs.V5SuperSize)
	le.PutUint64(out[rafs.V5SuperPrefetchTableAt:], l.prefetch)
	le.PutUint64(out[rafs.V5SuperBlobTableAt:], l.blobs)
	le.PutUint32(out[rafs.V5SuperInodeEntriesAt:], m.num.names)
	le.PutUint32(out[rafs.V5SuperPrefetchEntriesAt:], uint32(len(m.prefetch)))
	le.PutUint32(out[rafs.V5SuperBlobTableSizeAt:], uint32(l.blobSize))
	if len(m.blobs) > 0 {
		le.PutUint32(out[rafs.V5SuperExtEntriesAt:], uint32(len(m.blobs)))
		le.PutUint64(out[rafs.V5SuperExtTableAt:], l.ext)
	}
	for i, n := range m.prefetch {
		le.PutUint32(out[l.prefetch+uint64(i)*rafs.V5PrefetchEntrySize:], n.in.ino)
	}
}

// blobTables writes the blob table and the extended one (rafs.md 1.5).
func (l *v5Layout) blobTables(out []byte) {
	at := l.blobs
	for i := range l.m.blobs {
		b := &l.m.blobs[i]
		le.PutUint32(out[at:], b.PrefetchOff)
		le.PutUint32(out[at+4:], b.PrefetchSize)
		at += rafs.V5BlobEntryFixedSize + uint64(copy(out[at+rafs.V5BlobEntryFixedSize:], b.ID)) + 1
		e := out[l.ext+uint64(i)*rafs.V5ExtSize:][:rafs.V5ExtSize]
		le.PutUint32(e[rafs.V5ExtChunkCountAt:], b.ChunkCount)
		le.PutUint32(e[rafs.V5ExtFeaturesAt:], uint32(b.Features))
		le.PutUint64(e[rafs.V5ExtUncompressedAt:], b.UncompressedSize)
		le.PutUint64(e[rafs.V5ExtCompressedAt:], b.CompressedSize)
	}
}

// putInode writes the record of one name.
func (l *v5Layout) putInode(e []byte, n *node) {
	in, name := n.in, v5Name(n)
	copy(e[rafs.V5InodeDigestAt:], in.digest[:])
	if n.parent != nil {
		le.PutUint64(e[rafs.V5InodeParentAt:], uint64(n.parent.index))
	}
	le.PutUint64(e[rafs.V5InodeInoAt:], uint64(in.ino))
	uid, gid := l.m.owner(in)
	le.PutUint32(e[rafs.V5InodeUIDAt:], uid)
	le.PutUint32(e[rafs.V5InodeGIDAt:], gid)
	le.PutUint32(e[rafs.V5InodeModeAt:], in.mode)
	le.PutUint64(e[rafs.V5InodeSizeAt:], in.size)
	le.PutUint64(e[rafs.V5InodeBlocksAt:], (in.size+alignUp(v5XattrBytes(in), 8)+511)/512)
	le.PutUint64(e[rafs.V5InodeFlagsAt:], v5Flags(in))
	le.PutUint32(e[rafs.V5InodeNlinkAt:], in.nlink)
	if in.isDir() {
		le.PutUint32(e[rafs.V5InodeChildIndexAt:], n.child)
		le.PutUint32(e[rafs.V5InodeChildCountAt:], uint32(len(n.kids)))
	} else {
		le.PutUint32(e[rafs.V5InodeChildCountAt:], uint32(len(in.chunks)))
	}
	le.PutUint16(e[rafs.V5InodeNameSizeAt:], uint16(len(name)))
	le.PutUint16(e[rafs.V5InodeSymlinkSizeAt:], uint16(len(in.target)))
	if in.isDev() {
		le.PutUint32(e[rafs.V5InodeRdevAt:], in.rdev)
	}
	le.PutUint32(e[rafs.V5InodeMtimeNsecAt:], in.mtimeNsec)
	le.PutUint64(e[rafs.V5InodeMtimeAt:], uint64(in.mtime))
	l.putTail(e[rafs.V5InodeSize:], in, name)
}

// putTail writes what follows an inode record.
func (l *v5Layout) putTail(e []byte, in *inode, name string) {
	e = e[alignUp(uint64(copy(e, name)), rafs.V5Align):]
	e = e[alignUp(uint64(copy(e, in.target)), rafs.V5Align):]
	if len(in.xattrs) > 0 {
		size := v5XattrBytes(in)
		le.PutUint64(e, size)
		p := e[rafs.V5XattrHeaderSize:]
		for _, x := range in.xattrs {
			le.PutUint32(p, uint32(len(x.name)+1+len(x.value)))
			n := copy(p[rafs.V5XattrPairSize:], x.name) + 1
			n += copy(p[rafs.V5XattrPairSize+n:], x.value)
			p = p[rafs.V5XattrPairSize+n:]
		}
		e = e[rafs.V5XattrHeaderSize+alignUp(size, rafs.V5Align):]
	}
	for k, id := range in.chunks {
		putChunkInfo(e[k*rafs.ChunkInfoSize:][:rafs.ChunkInfoSize], &l.m.chunks[id].Chunk, uint64(k)*uint64(l.m.chunkSize))
	}
}

func v5Flags(in *inode) uint64 {
	var f uint64
	if in.isLink() {
		f |= rafs.V5InodeSymlink
	}
	if in.flags&inodeLinked != 0 && in.nlink > 1 {
		f |= rafs.V5InodeHardlink
	}
	if len(in.xattrs) > 0 {
		f |= rafs.V5InodeXattr
	}
	return f
}
