package build

import (
	"context"
	"fmt"
	"time"

	"vrafs/rafs"
)

// ChunkDictOptions are the options of ChunkDict.
type ChunkDictOptions struct {
	Prefetch Prefetch
}

// chunkDictFile is the name of the only file in a chunk dictionary.
const chunkDictFile = "chunkdict"

// ChunkDict makes a bootstrap with one file that holds the chunks worth sharing
// between images: those that at least two of them have, or all if there is only
// one image (rafs.md 6.8). Only v6 images have what it takes. Images that don't fit
// together are of class ErrInconsistent. Memory is that of the chunks of all images.
func ChunkDict(ctx context.Context, images []Image, sink Sink, o ChunkDictOptions) (*Result, error) {
	start := time.Now()
	var loaded []*image
	for i := range images {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m, err := loadDict(ctx, &images[i])
		if err != nil {
			return nil, err
		}
		if m.version != rafs.V6 || m.tarfs() {
			return nil, fmt.Errorf("%s: %w: chunk dictionaries are made of v6 images other than tarfs", images[i].Name, rafs.ErrUnsupported)
		}
		loaded = append(loaded, m)
	}
	if len(loaded) == 0 {
		return nil, fmt.Errorf("%w: no images", ErrOptions)
	}
	if err := consistent(loaded); err != nil {
		return nil, err
	}
	d := &dictMaker{count: map[rafs.Digest]int{}, taken: map[rafs.Digest]bool{}, blobs: map[string]int{}}
	for _, m := range loaded {
		d.tally(m)
	}
	first := loaded[0]
	file := &inode{mode: rafs.ModeRegular | 0o444}
	d.out = &image{version: rafs.V6, chunkSize: first.chunkSize, digester: first.digester,
		flags: first.flags & (rafs.FlagsCompression | rafs.FlagsHash | rafs.FlagExplicitUIDGID | rafs.FlagEncryptionNone | rafs.FlagEncryptionXTS)}
	for _, m := range loaded {
		d.take(m, min(2, len(loaded)), file)
	}
	file.size = uint64(len(file.chunks)) * uint64(first.chunkSize)
	d.out.root = &node{in: &inode{mode: rafs.ModeDir | 0o755}}
	d.out.root.kids = []*node{{name: chunkDictFile, parent: d.out.root, in: file}}
	d.out.prefetch = prefetchNodes(d.out.root, o.Prefetch)
	return finishImage(ctx, d.out, &sink, start)
}

type dictMaker struct {
	count map[rafs.Digest]int // images that have the chunk
	taken map[rafs.Digest]bool
	blobs map[string]int
	out   *image
}

// tally counts each distinct chunk of an image once.
func (d *dictMaker) tally(m *image) {
	seen := map[rafs.Digest]bool{}
	for i := range m.chunks {
		if c := &m.chunks[i]; c.HasDigest && !seen[c.Digest] {
			seen[c.Digest] = true
			d.count[c.Digest]++
		}
	}
}

// take adds the chunks of m that enough images have and that are not there yet.
func (d *dictMaker) take(m *image, enough int, file *inode) {
	for i := range m.chunks {
		c := m.chunks[i]
		if !c.HasDigest || d.taken[c.Digest] || d.count[c.Digest] < enough || !movable(&m.blobs[c.Blob]) {
			continue
		}
		d.taken[c.Digest] = true
		c.Blob = uint16(d.blob(&m.blobs[c.Blob]))
		file.chunks = append(file.chunks, uint32(len(d.out.chunks)))
		d.out.chunks = append(d.out.chunks, c)
	}
}

// blob finds or adds a blob of the dictionary.
func (d *dictMaker) blob(b *rafs.Blob) int {
	i, ok := d.blobs[b.ID]
	if !ok {
		i = len(d.out.blobs)
		d.blobs[b.ID] = i
		e := *b
		e.Index = i
		e.Features |= rafs.BlobChunkDictGenerated
		d.out.blobs = append(d.out.blobs, e)
	}
	return i
}
