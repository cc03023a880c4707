package chunkread

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"vrafs/backend"
	"vrafs/internal/codec"
	"vrafs/rafs"
)

var (
	// ErrDigest is the class of stored bytes that are not what the image promises.
	ErrDigest = errors.New("chunk does not match its digest")
	// ErrUnverified is the class of chunks that nothing can prove.
	ErrUnverified = errors.New("image has no digest for the chunk")
)

// Options say how to read.
type Options struct {
	// AllowUnverified names blobs by id whose chunks may be read although the image
	// has no digests for them, as tarfs and external blobs have none by design.
	AllowUnverified []string
}

// A Reader reads the chunks of one image.
type Reader struct {
	im     *rafs.Image
	opener backend.Opener
	o      Options
	index  *Index
	blobs  []*blob // opened at first use
}

// New makes a Reader; nothing is opened yet. blobs may be nil for images that have
// no data; reading then fails.
func New(im *rafs.Image, blobs backend.Opener, o Options) *Reader {
	return &Reader{im: im, opener: blobs, o: o, index: NewIndex(im), blobs: make([]*blob, len(im.Blobs()))}
}

// Close closes the blobs.
func (r *Reader) Close() error {
	var err error
	for _, b := range r.blobs {
		if b != nil {
			err = errors.Join(err, b.data.Close())
		}
	}
	clear(r.blobs)
	return err
}

// A blob is an opened data blob with what is needed to find and prove its chunks.
type blob struct {
	info *rafs.Blob
	data backend.Blob
	meta *rafs.BlobMeta // batch and zran only: where units lie
	xts  *codec.XTS     // encrypted only
}

// Blob opens blob i of the blob table and returns its file, which stays the
// Reader's.
func (r *Reader) Blob(ctx context.Context, i uint16) (backend.Blob, error) {
	b, err := r.blob(ctx, i)
	if err != nil {
		return nil, err
	}
	return b.data, nil
}

func (r *Reader) blob(ctx context.Context, i uint16) (*blob, error) {
	if int(i) >= len(r.blobs) {
		return nil, fmt.Errorf("%w: blob %d of %d", rafs.ErrCorrupt, i, len(r.blobs))
	}
	if b := r.blobs[i]; b != nil {
		return b, nil
	}
	info := &r.im.Blobs()[i]
	if r.opener == nil {
		return nil, fmt.Errorf("blob %s: %w: no place to read blobs from", info.ID, backend.ErrNotFound)
	}
	data, err := r.opener.Open(ctx, info.ID)
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", info.ID, err)
	}
	b := &blob{info: info, data: data}
	if err := r.prepare(ctx, b); err != nil {
		data.Close()
		return nil, fmt.Errorf("blob %s: %w", info.ID, err)
	}
	r.blobs[i] = b
	return b, nil
}

// prepare reads the blob's metadata if units can't be found without.
func (r *Reader) prepare(ctx context.Context, b *blob) error {
	var err error
	if b.info.Encrypted() {
		if b.xts, err = codec.NewXTS(b.info.Key, b.info.IV); err != nil {
			return err
		}
	}
	if b.info.Features&(rafs.BlobBatch|rafs.BlobZran) != 0 && b.info.HasMeta() {
		b.meta, err = r.readMeta(ctx, b)
	}
	return err
}

// Resolve completes a chunk that Inode.Chunk gave: v6 inodes know only its place
// in the uncompressed blob. It opens the blob. Chunks that nothing can prove are of
// class ErrUnverified.
func (r *Reader) Resolve(ctx context.Context, c rafs.Chunk) (rafs.Chunk, error) {
	full, err := r.index.Complete(c)
	if err != nil {
		return c, err
	}
	b, err := r.blob(ctx, c.Blob)
	if err != nil {
		return c, err
	}
	if b.meta != nil {
		if full, err = withUnit(b, full); err != nil {
			return c, err
		}
	}
	return full, r.provable(b, &full)
}

// withUnit adds the unit that a batch or zran chunk is a slice of.
func withUnit(b *blob, c rafs.Chunk) (rafs.Chunk, error) {
	m, err := b.meta.Chunk(c.Index)
	if err != nil {
		return c, fmt.Errorf("blob %s: %w", b.info.ID, err)
	}
	if m.Off != c.Off || m.Size != c.Size {
		return c, fmt.Errorf("%w: chunk %d of blob %s: %d bytes at %#x in blob.meta, %d at %#x in the bootstrap",
			rafs.ErrCorrupt, c.Index, b.info.ID, m.Size, m.Off, c.Size, c.Off)
	}
	m.Digest, m.HasDigest = c.Digest, c.HasDigest
	if c.Flags&rafs.ChunkHasCRC != 0 {
		m.Flags |= rafs.ChunkHasCRC
		m.CRC32 = c.CRC32
	}
	return m, nil
}

// provable refuses chunks that no digest can prove.
func (r *Reader) provable(b *blob, c *rafs.Chunk) error {
	if c.HasDigest || slices.Contains(r.o.AllowUnverified, b.info.ID) {
		return nil
	}
	return fmt.Errorf("chunk %d of blob %s: %w", c.Index, b.info.ID, ErrUnverified)
}
