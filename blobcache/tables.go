package blobcache

import (
	"errors"
	"fmt"
	"time"

	"vrafs/internal/codec"
	"vrafs/internal/opener"
	"vrafs/rafs"
)

// tables are where the chunks of one blob are described. They are loaded at the
// first miss and immutable afterwards, except meta, which is replaced once, from the
// origin, if it turns out wrong.
type tables struct {
	index   *rafs.ChunkIndexTable // nil: none
	meta    *rafs.BlobMeta        // nil: none, or not to be had
	unsure  bool                  // meta is not from the origin: nothing but its use proves it
	digests []byte                // blob.digest, 32 bytes per chunk; nil: none
	metaErr error                 // why meta is missing
	tried   time.Time             // when meta was asked for

	mem []*opener.Mapping
}

func (t *tables) close() {
	for _, m := range t.mem {
		_ = m.Close()
	}
}

// memory takes off-heap memory that lives as long as the tables.
func (t *tables) memory(size uint64) ([]byte, error) {
	m, err := opener.Memory(size)
	if err != nil {
		return nil, err
	}
	t.mem = append(t.mem, m)
	return m.Bytes(), nil
}

// loadIndex builds the table of chunk infos by number: 4 bytes per chunk.
func (t *tables) loadIndex(v *view) error {
	im := v.cache.image
	size := im.IndexBytes(v.index)
	if size == 0 || im.Version() == rafs.V6 && im.ChunkTableLen() == 0 {
		return nil
	}
	mem, err := t.memory(size)
	if err != nil {
		return err
	}
	t.index, err = im.BuildIndex(v.index, mem)
	return err
}

// errNoMeta says that blob.meta is needed to know more and was not asked for yet.
var errNoMeta = errors.New("blob.meta was not loaded")

// describe gives what is known of chunk i: complete, but for the place of batch
// and zran chunks if meta is missing.
func (v *view) describe(t *tables, i rafs.ChunkIndex, ref uint64) (c rafs.Chunk, err error) {
	switch {
	case v.cache.image.Version() == rafs.V5 && ref != 0:
		c, err = v.cache.image.ChunkAt(ref)
	default:
		c, err = v.lookup(t, i)
	}
	if err != nil {
		return c, err
	}
	if c.Index != i || int(c.Blob) != v.index {
		return c, fmt.Errorf("%w: blob %s: chunk %d is described as %d of blob %d", rafs.ErrCorrupt, v.blob.ID, i, c.Index, c.Blob)
	}
	if c.Off >= markMaxOff {
		return c, fmt.Errorf("%w: blob %s: chunk %d at %#x", rafs.ErrUnsupported, v.blob.ID, i, c.Off)
	}
	return c, nil
}

// lookup joins the image's record of a chunk, which has digest and CRC, with that
// of blob.meta, which has the place of units.
func (v *view) lookup(t *tables, i rafs.ChunkIndex) (rafs.Chunk, error) {
	var c rafs.Chunk
	known := false
	if t.index != nil {
		c, known = t.index.Chunk(i)
	}
	special := known && c.Flags&(rafs.ChunkBatch|rafs.ChunkZran) != 0
	if known && !special {
		v.addDigest(t, &c)
		return c, nil
	}
	if t.meta == nil {
		if t.metaErr != nil {
			return c, t.metaErr
		}
		if v.blob.HasMeta() {
			return c, errNoMeta
		}
		return c, fmt.Errorf("%w: blob %s: no record of chunk %d", rafs.ErrCorrupt, v.blob.ID, i)
	}
	m, err := t.meta.Chunk(i)
	if err != nil {
		return c, err
	}
	if known {
		if m.Off != c.Off || m.Size != c.Size {
			return c, fmt.Errorf("%w: blob %s: chunk %d is %#x+%#x in blob.meta, %#x+%#x in the image",
				rafs.ErrCorrupt, v.blob.ID, i, m.Off, m.Size, c.Off, c.Size)
		}
		m.Digest, m.HasDigest = c.Digest, c.HasDigest
		if c.Flags&rafs.ChunkHasCRC != 0 {
			m.Flags, m.CRC32 = m.Flags|rafs.ChunkHasCRC, c.CRC32
		}
	}
	v.addDigest(t, &m)
	return m, nil
}

// addDigest takes the digest of a chunk from blob.digest if the image has none.
func (v *view) addDigest(t *tables, c *rafs.Chunk) {
	if c.HasDigest || uint64(len(t.digests)) < (uint64(c.Index)+1)*rafs.DigestSize {
		return
	}
	c.Digest = rafs.Digest(t.digests[uint64(c.Index)*rafs.DigestSize:])
	c.HasDigest = !c.Digest.IsZero()
}

// selfSufficient reports whether the image has digests of its own for the blob.
func (t *tables) selfSufficient() bool {
	if t.index == nil || t.index.Len() == 0 {
		return false
	}
	c, ok := t.index.Chunk(0)
	return ok && c.HasDigest
}

// xts gives the cipher of an encrypted blob, nil for others.
func (v *view) xts() (*codec.XTS, error) {
	if !v.blob.Encrypted() {
		return nil, nil
	}
	return codec.NewXTS(v.blob.Key, v.blob.IV)
}
