package chunkread

import (
	"context"
	"fmt"

	"vrafs/internal/codec"
	"vrafs/rafs"
)

// maxMeta bounds the stored and the unpacked chunk info array: the most chunks in
// the larger form, and as much again for zran windows.
const maxMeta = 2 * rafs.BlobMetaMaxV2

// readMeta reads, decrypts and unpacks the chunk info array with its tables. Its
// content needs no digest of its own here: a wrong place gives bytes that fail
// their chunk's digest.
func (r *Reader) readMeta(ctx context.Context, b *blob) (*rafs.BlobMeta, error) {
	file := b.data
	if b.info.MetaID != b.info.ID {
		f, err := r.opener.Open(ctx, b.info.MetaID)
		if err != nil {
			return nil, fmt.Errorf("open blob meta %s: %w", b.info.MetaID, err)
		}
		defer f.Close()
		file = f
	}
	stored, plain := b.info.MetaCompressedSize, b.info.MetaUncompressedSize
	if stored > maxMeta || plain > maxMeta {
		return nil, fmt.Errorf("%w: chunk info array of %d bytes, %d unpacked", rafs.ErrCorrupt, stored, plain)
	}
	if size, err := file.Size(ctx); err != nil {
		return nil, fmt.Errorf("size of blob meta: %w", err)
	} else if stored+rafs.BlobMetaHeaderSize > size || b.info.MetaOff > size-stored-rafs.BlobMetaHeaderSize {
		return nil, fmt.Errorf("%w: chunk info array of %d bytes at %#x of a file of %d", rafs.ErrCorrupt, stored, b.info.MetaOff, size)
	}
	raw := make([]byte, stored+rafs.BlobMetaHeaderSize)
	if _, err := file.ReadAt(ctx, raw, b.info.MetaOff); err != nil {
		return nil, fmt.Errorf("read blob meta: %w", err)
	}
	array, header := raw[:stored], raw[stored:]
	if b.xts != nil {
		var err error
		if array, err = b.xts.Decrypt(array); err != nil {
			return nil, fmt.Errorf("blob meta: %w", err)
		}
		if header, err = b.xts.Decrypt(header); err != nil {
			return nil, fmt.Errorf("blob meta header: %w", err)
		}
	}
	if b.info.MetaCompressor != rafs.CompressorNone {
		var d codec.Decoder
		unpacked, err := d.DecompressLimit(array, b.info.MetaCompressor, int(plain))
		if err != nil {
			return nil, fmt.Errorf("blob meta: %w", err)
		}
		array = unpacked
	}
	return rafs.ParseBlobMeta(b.info, header, array)
}

// CheckMeta compares the chunk info array of blob i, by which other readers find
// chunks, with the bootstrap. A blob without one passes.
func (r *Reader) CheckMeta(ctx context.Context, i uint16) error {
	b, err := r.blob(ctx, i)
	if err != nil || !b.info.HasMeta() {
		return err
	}
	meta := b.meta
	if meta == nil {
		if meta, err = r.readMeta(ctx, b); err != nil {
			return fmt.Errorf("blob %s: %w", b.info.ID, err)
		}
	}
	t, err := r.index.Table(i)
	if err != nil {
		return err
	}
	for k := range t.Len() {
		want, ok := t.Chunk(rafs.ChunkIndex(k))
		if !ok {
			continue
		}
		got, err := meta.Chunk(want.Index)
		if err == nil && !samePlace(&got, &want) {
			err = fmt.Errorf("%w: chunk_info of chunk %d: %d bytes at %#x stored as %d at %#x, the bootstrap says %d at %#x stored as %d at %#x", rafs.ErrCorrupt,
				k, got.Size, got.Off, got.CompressedSize, got.CompressedOff, want.Size, want.Off, want.CompressedSize, want.CompressedOff)
		}
		if err != nil {
			return fmt.Errorf("blob.meta of blob %s at %#x: %w", b.info.ID, b.info.MetaOff, err)
		}
	}
	return nil
}

// samePlace compares two records of one chunk. Only blob.meta knows where the units
// of batch and zran chunks are.
func samePlace(meta, boot *rafs.Chunk) bool {
	if meta.Off != boot.Off || meta.Size != boot.Size {
		return false
	}
	const unit = rafs.ChunkBatch | rafs.ChunkZran
	if meta.Flags&unit != 0 || boot.Flags&unit != 0 {
		return meta.Flags&unit == boot.Flags&unit
	}
	return meta.CompressedOff == boot.CompressedOff && meta.CompressedSize == boot.CompressedSize
}
