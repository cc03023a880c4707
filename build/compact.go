package build

import (
	"context"
	"fmt"
	"slices"
	"time"

	"vrafs/internal/chunkread"
	"vrafs/rafs"
)

// CompactOptions are the options of Compact.
type CompactOptions struct {
	MinUsedRatio    int    // percent, 0 to 99: blobs below are rebuilt
	CompactBlobSize uint64 // blobs smaller than this are merged
	MaxCompactSize  uint64 // no merged blob grows beyond this
	LayersToCompact int    // do nothing for images of fewer blobs; 0: always
	ChunkDict       *Image // its blobs are left alone
}

// Compact rewrites blobs with a low share of used chunks, merges small ones and
// drops unused ones (rafs.md 6.9). New blobs go to sink.BlobDir, the bootstrap to
// sink.Bootstrap. Chunks are verified before they are copied. Blobs that can't be
// moved stay as they are: encrypted, external and tarfs ones. sink.Bootstrap is
// written also if there was nothing to do. After an error new blobs may be left in
// sink.BlobDir; nothing refers to them.
func Compact(ctx context.Context, im Image, sink Sink, o CompactOptions) (*Result, error) {
	start := time.Now()
	c := &compacter{ctx: ctx, o: o, sink: &sink}
	var err error
	if c.src, c.m, err = openImage(ctx, &im, loadOptions{}); err != nil {
		return nil, err
	}
	if err := c.keepDict(); err != nil {
		return nil, err
	}
	c.usage()
	if o.LayersToCompact == 0 || len(c.m.blobs) >= o.LayersToCompact {
		r := chunkread.New(c.src, im.Blobs, chunkread.Options{})
		defer r.Close()
		if err := c.rebuild(r); err != nil {
			return nil, err
		}
	}
	c.dropUnused()
	return finishImage(ctx, c.m, &sink, start)
}

type compacter struct {
	ctx  context.Context
	o    CompactOptions
	sink *Sink
	src  *rafs.Image
	m    *image
	dict map[string]bool // blobs to leave alone

	used  [][]uint32 // by blob: chunks that files refer to, by index
	bytes []uint64   // by blob: their stored bytes
}

func (c *compacter) keepDict() error {
	c.dict = map[string]bool{}
	if c.o.ChunkDict == nil {
		return nil
	}
	d, err := rafs.Open(c.o.ChunkDict.Data, rafs.Options{Name: c.o.ChunkDict.Name})
	if err != nil {
		return fmt.Errorf("chunk dictionary: %w", err)
	}
	for i := range d.Blobs() {
		c.dict[d.Blobs()[i].ID] = true
	}
	return nil
}

// usage finds the chunks of each blob that files refer to.
func (c *compacter) usage() {
	c.used, c.bytes = make([][]uint32, len(c.m.blobs)), make([]uint64, len(c.m.blobs))
	seen := make([]bool, len(c.m.chunks))
	_ = c.m.root.visit(func(n *node) error {
		for _, id := range n.in.chunks {
			if !seen[id] {
				seen[id] = true
				ch := &c.m.chunks[id]
				c.used[ch.Blob] = append(c.used[ch.Blob], id)
				c.bytes[ch.Blob] += uint64(ch.CompressedSize)
			}
		}
		return nil
	})
	for _, ids := range c.used {
		slices.SortFunc(ids, func(a, b uint32) int { return int(c.m.chunks[a].Index) - int(c.m.chunks[b].Index) })
	}
}

// sparse reports whether a blob has too low a share of used data. Chunks of
// batches count as their share of the chunks.
func (c *compacter) sparse(i int) bool {
	b := &c.m.blobs[i]
	used, total := c.bytes[i], b.CompressedDataSize()
	if b.Features&(rafs.BlobBatch|rafs.BlobZran) != 0 || total == 0 {
		used, total = uint64(len(c.used[i])), uint64(b.ChunkCount)
	}
	return used*100 < total*uint64(c.o.MinUsedRatio)
}

// rebuild copies the chunks of sparse and of small blobs into new ones, in the
// order of the blob table.
func (c *compacter) rebuild(r *chunkread.Reader) error {
	var group []int
	var size uint64
	flush := func() error {
		defer func() { group, size = nil, 0 }()
		if len(group) == 0 || len(group) == 1 && !c.sparse(group[0]) {
			return nil // nothing to gain
		}
		return c.combine(r, group)
	}
	for i := range c.src.Blobs() {
		b := &c.m.blobs[i]
		if len(c.used[i]) == 0 || c.dict[b.ID] || !movable(b) || !c.sparse(i) && c.bytes[i] >= c.o.CompactBlobSize {
			continue
		}
		if len(group) > 0 {
			first := &c.m.blobs[group[0]]
			if size+c.bytes[i] > c.o.MaxCompactSize || first.Digester != b.Digester || first.Compressor != b.Compressor {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		group, size = append(group, i), size+c.bytes[i]
	}
	return flush()
}

// combine makes one blob of the used chunks of several. A chunk that two of them
// hold is stored once.
func (c *compacter) combine(r *chunkread.Reader, group []int) error {
	table := len(c.m.blobs)
	out, err := newBlobCopy(c.m, c.sink.BlobDir, table, &c.m.blobs[group[0]], 0)
	if err != nil {
		return err
	}
	var ids []uint32
	first, alias := map[rafs.Digest]uint32{}, map[uint32]uint32{}
	for _, i := range group {
		for _, id := range c.used[i] {
			d := c.m.chunks[id].Digest
			if have, ok := first[d]; ok && c.m.chunks[have].Size == c.m.chunks[id].Size {
				alias[id] = have
				continue
			}
			first[d] = id
			ids = append(ids, id)
		}
		c.used[i] = nil
	}
	if err := out.copy(c.ctx, r, c.src, ids); err != nil {
		out.b.blob.abort()
		return err
	}
	e, err := out.close()
	if err != nil {
		return err
	}
	c.m.blobs = append(c.m.blobs, e)
	c.used = append(c.used, ids)
	_ = c.m.root.visit(func(n *node) error {
		for k, id := range n.in.chunks {
			if to, ok := alias[id]; ok {
				n.in.chunks[k] = to
			}
		}
		return nil
	})
	return nil
}

// dropUnused takes blobs nothing refers to out of the table.
func (c *compacter) dropUnused() {
	to := make([]uint16, len(c.m.blobs))
	var kept []rafs.Blob
	for i := range c.m.blobs {
		if len(c.used[i]) > 0 {
			to[i] = uint16(len(kept))
			c.m.blobs[i].Index = len(kept)
			kept = append(kept, c.m.blobs[i])
		}
	}
	for i, ids := range c.used {
		for _, id := range ids {
			c.m.chunks[id].Blob = to[i]
		}
	}
	c.m.blobs = kept
}
