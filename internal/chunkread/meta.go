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
