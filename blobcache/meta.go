package blobcache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"vrafs/backend"
	"vrafs/internal/codec"
	"vrafs/internal/opener"
	"vrafs/rafs"
)

// metaFileSize is the size of a .blob.meta file (section 5.2):
//
//	|chunk info array, uncompressed|zeros to a multiple of 4096|header, 4096 bytes|
func metaFileSize(b *rafs.Blob) uint64 {
	const unit = rafs.BlobMetaArrayCacheAligns
	return (b.MetaUncompressedSize+unit-1)&^(unit-1) + rafs.BlobMetaHeaderSize
}

// maxMetaFile bounds the memory of a chunk info array.
const maxMetaFile = rafs.BlobMetaMaxV2 + rafs.BlobMetaHeaderSize

// loadMeta takes blob.meta from the cache directory or from the back end, and then
// keeps it in the directory. With origin, or if what came is malformed, it is
// taken from the origin.
func (t *tables) loadMeta(ctx context.Context, v *view, origin bool) error {
	size := metaFileSize(v.blob)
	if size > maxMetaFile || v.blob.MetaCompressedSize > size {
		return fmt.Errorf("%w: blob %s: chunk info array of %d bytes", rafs.ErrCorrupt, v.blob.ID, size)
	}
	mem, err := t.memory(size)
	if err != nil {
		return err
	}
	path := v.path(metaSuffix)
	array, header := mem[:size-rafs.BlobMetaHeaderSize], mem[size-rafs.BlobMetaHeaderSize:]
	if !origin && path != "" && readWhole(v.cache.store.o, path, mem) == nil {
		if t.meta, err = rafs.ParseBlobMeta(v.blob, header, array); err == nil {
			t.unsure = true
			return nil
		}
		clear(mem)
	}
	t.unsure = !origin
	fetch := func(ctx context.Context) (err error) {
		if err = v.fetchMeta(ctx, array[:v.blob.MetaUncompressedSize], header); err == nil {
			t.meta, err = rafs.ParseBlobMeta(v.blob, header, array)
		}
		return err
	}
	if origin {
		ctx = backend.FromOrigin(ctx)
	}
	if err = fetch(ctx); wrongBytes(err) && !origin {
		t.unsure = false
		err = fetch(backend.FromOrigin(ctx))
	}
	if err != nil {
		return fmt.Errorf("blob.meta of %s: %w", v.blob.ID, err)
	}
	v.keep(path, mem)
	return nil
}

// wrongBytes reports whether err says that the bytes that came can't be right, so
// that the origin may have others.
func wrongBytes(err error) bool {
	return errors.Is(err, codec.ErrData) || errors.Is(err, rafs.ErrCorrupt) || errors.Is(err, rafs.ErrUnsupported) ||
		errors.Is(err, ErrDigest)
}

// fetchMeta reads array and header by one request and unpacks them (section 4.3).
func (v *view) fetchMeta(ctx context.Context, array, header []byte) error {
	stored := make([]byte, v.blob.MetaCompressedSize+rafs.BlobMetaHeaderSize)
	if err := v.request(ctx, v.blob.MetaID, stored, v.blob.MetaOff); err != nil {
		return err
	}
	packed, head := stored[:v.blob.MetaCompressedSize], stored[v.blob.MetaCompressedSize:]
	x, err := v.xts()
	if err != nil {
		return err
	}
	if x != nil {
		if packed, err = x.Decrypt(packed); err == nil {
			head, err = x.Decrypt(head)
		}
		if err != nil {
			return err
		}
	}
	if copy(header, head) != len(header) {
		return fmt.Errorf("%w: header of %d bytes", rafs.ErrCorrupt, len(head))
	}
	var d codec.Decoder
	return d.Decompress(array, packed, v.blob.MetaCompressor)
}

// reloadMeta takes blob.meta from the origin in place of what may be wrong. It
// reports whether there is a point in trying again.
func (v *view) reloadMeta(ctx context.Context) bool {
	if v.lock(ctx) != nil {
		return false
	}
	defer v.unlock()
	if v.tab == nil || v.tab.meta == nil || !v.tab.unsure {
		return false
	}
	t := *v.tab
	if err := t.loadMeta(ctx, v, true); err != nil {
		v.cache.store.warn(v.blob.ID, "chunk infos can't be replaced", err)
		return false
	}
	v.tab = &t
	return true
}

// loadDigests reads blob.digest through the ToC (sections 4.5 and 4.8). Digests
// prove something only if the image vouches for the ToC, so it must.
func (t *tables) loadDigests(ctx context.Context, v *view) error {
	if v.blob.TOCSize == 0 || v.blob.TOCDigest.IsZero() {
		return fmt.Errorf("%w: blob %s: the image doesn't vouch for the table of contents", ErrUnverified, v.blob.ID)
	}
	src, err := v.source(ctx, v.blob.MetaID)
	if err != nil {
		return err
	}
	size, err := src.Size(ctx)
	if err != nil {
		return err
	}
	if size < uint64(v.blob.TOCSize) || v.blob.TOCSize > rafs.TOCMaxSize {
		return fmt.Errorf("%w: blob %s: ToC of %d bytes in %d", rafs.ErrCorrupt, v.blob.ID, v.blob.TOCSize, size)
	}
	toc, err := v.fetchTOC(ctx, size)
	if wrongBytes(err) {
		toc, err = v.fetchTOC(backend.FromOrigin(ctx), size)
	}
	if err != nil {
		return err
	}
	e, ok := toc.Entry(rafs.SectionDigest)
	want := uint64(v.blob.ChunkCount) * rafs.DigestSize
	if !ok || e.CompressedSize != want || e.UncompressedSize != want || e.Compressor != rafs.CompressorNone || want == 0 {
		return fmt.Errorf("%w: blob %s: no usable %s", rafs.ErrCorrupt, v.blob.ID, rafs.SectionDigest)
	}
	mem, err := t.memory(want)
	if err != nil {
		return err
	}
	if err := v.readDigests(ctx, mem[:want], &e); err != nil {
		return err
	}
	t.digests = mem[:want]
	return nil
}

// fetchTOC reads the table of contents at the end of a file of size bytes, which
// the image vouches for.
func (v *view) fetchTOC(ctx context.Context, size uint64) (*rafs.TOC, error) {
	tail := make([]byte, v.blob.TOCSize)
	if err := v.request(ctx, v.blob.MetaID, tail, size-uint64(len(tail))); err != nil {
		return nil, err
	}
	toc, err := rafs.ParseTOC(tail, size)
	if err == nil {
		err = toc.Verify(v.blob)
	}
	return toc, err
}

// readDigests fills p with blob.digest, from the cache directory or the back end.
func (v *view) readDigests(ctx context.Context, p []byte, e *rafs.TOCEntry) error {
	right := func() bool { return codec.Sum(rafs.DigesterSHA256, p) == e.Digest }
	path := v.path(digestSuffix)
	if path != "" && readWhole(v.cache.store.o, path, p) == nil && right() {
		return nil
	}
	fetch := func(ctx context.Context) error {
		if err := v.request(ctx, v.blob.MetaID, p, e.Off); err != nil {
			return err
		}
		if !right() {
			return fmt.Errorf("%w: %s of blob %s", ErrDigest, rafs.SectionDigest, v.blob.ID)
		}
		return nil
	}
	err := fetch(ctx)
	if wrongBytes(err) {
		err = fetch(backend.FromOrigin(ctx))
	}
	if err == nil {
		v.keep(path, p)
	}
	return err
}

// path names a file of the blob in the cache directory, "" if there is none.
func (v *view) path(suffix string) string {
	dir, name := v.cache.store.opt.Dir, v.blob.ID+suffix
	if dir == "" || opener.Name(name) != nil {
		return ""
	}
	return filepath.Join(dir, name)
}

// keep puts a file into the cache directory, if it can.
func (v *view) keep(path string, p []byte) {
	if path == "" {
		return
	}
	if err := writeWhole(v.cache.store.o, path, p); err != nil {
		v.cache.store.warn(v.blob.ID, "tables can't be kept", err)
	}
}

// readWhole fills p from the regular file at path if it has exactly that size.
func readWhole(o opener.Opener, path string, p []byte) error {
	f, fi, err := opener.Regular(o, path)
	if err != nil {
		return err
	}
	defer f.Close()
	if fi.Size() != int64(len(p)) {
		return fmt.Errorf("%s: %d bytes, want %d", path, fi.Size(), len(p))
	}
	_, err = f.ReadAt(p, 0)
	return err
}

// writeWhole puts a file with the bytes p at path. It is on the disk before it
// has its name: nobody checks more of it than the header at its end.
func writeWhole(o opener.Opener, path string, p []byte) error {
	temp := tempName(path)
	f, err := o.Open(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.Write(p); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = o.Rename(temp, path)
	}
	if err != nil {
		_ = o.Remove(temp)
	}
	return err
}
