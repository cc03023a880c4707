package blobcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"vrafs/backend"
	"vrafs/internal/codec"
	"vrafs/internal/opener"
	"vrafs/rafs"
)

// A BlobReport is what a cache directory has of one blob of an image.
type BlobReport struct {
	ID      string
	Chunks  uint32 // of the blob; 0: unknown
	Present uint32 // the chunk map says so; without a map: not only zeros
	Wrong   uint32 // of those: other bytes than the image's digest stands for
	Unknown uint32 // of those: the image names no digest
	First   rafs.ChunkIndex
}

// Verify compares what a cache directory holds of an image with the image's digests
// and calls report for each of its blobs that is there. It writes nothing, so it may
// run beside daemons; chunks that appear meanwhile may be missed. blobs is asked for
// digests that only the data blob has; it may be nil.
func Verify(ctx context.Context, o opener.Opener, dir string, im *rafs.Image, blobs backend.Opener, report func(*BlobReport)) error {
	if blobs == nil {
		blobs = nowhere{}
	}
	s, err := NewStore(o, Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	var all []string
	for i := range im.Blobs() {
		all = append(all, im.Blobs()[i].ID)
	}
	c, err := s.Open(im, blobs, ImageOptions{AllowUnverified: all})
	if err != nil {
		return err
	}
	defer c.Close()
	for _, v := range c.views {
		r, err := v.verify(ctx, o, dir)
		if err != nil {
			return fmt.Errorf("blob %s: %w", v.blob.ID, err)
		}
		if r != nil {
			report(r)
		}
	}
	return nil
}

// nowhere is a back end without blobs.
type nowhere struct{}

// Open finds nothing.
func (nowhere) Open(context.Context, string) (backend.Blob, error) { return nil, backend.ErrNotFound }

// verify looks at one blob; nil if nothing of it is there.
func (v *view) verify(ctx context.Context, o opener.Opener, dir string) (*BlobReport, error) {
	data, cmap, err := openToVerify(o, dir, v.blob)
	if data == nil || err != nil {
		return nil, err
	}
	defer data.Close()
	if cmap != nil {
		defer func() { _ = cmap.close() }()
	}
	t, err := v.table(ctx, true, true)
	if err != nil {
		return nil, err
	}
	r := &BlobReport{ID: v.blob.ID, Chunks: v.blob.ChunkCount}
	var buf []byte
	for i := range rafs.ChunkIndex(v.blob.ChunkCount) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if cmap != nil && !cmap.has(i) {
			continue
		}
		c, ok := v.described(t, i)
		if !ok {
			r.Present++
			r.Unknown++
			continue
		}
		if uint32(cap(buf)) < c.Size {
			buf = make([]byte, c.Size)
		}
		p := buf[:c.Size]
		_, err := data.ReadAt(p, int64(c.Off))
		right := err == nil && codec.Sum(v.blob.Digester, p) == c.Digest
		if cmap == nil && !right && (err == io.EOF || zeros(p)) {
			continue // nobody says that it was ever there
		}
		if r.Present++; !right {
			if r.Wrong++; r.Wrong == 1 {
				r.First = i
			}
		}
	}
	return r, nil
}

// described gives place and digest of chunk i as far as they are known.
func (v *view) described(t *tables, i rafs.ChunkIndex) (rafs.Chunk, bool) {
	if t.index != nil {
		if c, ok := t.index.Chunk(i); ok {
			v.addDigest(t, &c)
			return c, c.HasDigest
		}
	}
	c, err := v.lookup(t, i)
	return c, err == nil && c.HasDigest
}

// openToVerify opens data and map for reading; there may be no map.
func openToVerify(o opener.Opener, dir string, b *rafs.Blob) (data *os.File, cmap *chunkMap, err error) {
	if err := fileName(b.ID); err != nil {
		return nil, nil, err
	}
	data, _, err = opener.Regular(patient{o}, filepath.Join(dir, b.ID+dataSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := patient{o}.Open(filepath.Join(dir, b.ID+mapSuffix), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return data, nil, nil
	}
	if err == nil {
		cmap, err = openChunkMap(f, b.ChunkCount, true)
		f.Close()
	}
	if err != nil {
		data.Close()
		return nil, nil, err
	}
	return data, cmap, nil
}
