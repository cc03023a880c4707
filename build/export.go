package build

import (
	"context"
	"fmt"
	"io"

	"vrafs/internal/chunkread"
	"vrafs/rafs"
)

// ExportOptions are the options of ExportBlock.
type ExportOptions struct {
	Threads  int // 0: 4
	Verity   bool
	Progress Progress
}

// An ExportResult describes a written disk.
type ExportResult struct {
	Size          uint64 // bytes of the disk without the hash tree
	DataBlockSize uint32
	DataBlocks    uint64
	HashOffset    uint64   // with Verity
	RootHash      [32]byte // with Verity
}

// A Disk is where ExportBlock writes; *os.File is one. Unwritten ranges read as
// zero. Reads happen only with Verity. WriteAt and ReadAt are called from several
// goroutines at once, on ranges that don't overlap.
type Disk interface {
	io.WriterAt
	io.ReaderAt
	Truncate(size int64) error
}

// defaultExportThreads is what export --threads means if it isn't given.
const defaultExportThreads = 4

// ExportBlock writes a v6 image as one raw disk that Linux EROFS mounts:
//
//	bootstrap | zeros | blob 0 | zeros | blob 1 | .. | zeros | hash tree
//	0                   at its mapped block address    align(size, 4096)
//
// Blobs are uncompressed there; bytes no file refers to are zero. The data of a
// tarfs image can't be verified, as it has no digests; its hash tree pins what was
// written. Other images are of class rafs.ErrUnsupported.
func ExportBlock(ctx context.Context, im Image, disk Disk, o ExportOptions) (*ExportResult, error) {
	img, err := rafs.Open(im.Data, rafs.Options{Name: im.Name})
	if err != nil {
		return nil, err
	}
	if o.Threads == 0 {
		o.Threads = defaultExportThreads
	}
	e := &exporter{ctx: ctx, im: img, disk: disk, o: o}
	if err := e.layout(); err != nil {
		return nil, err
	}
	e.r = chunkread.New(img, im.Blobs, chunkread.Options{})
	defer e.r.Close()
	if err := disk.Truncate(0); err != nil {
		return nil, fmt.Errorf("write disk: %w", err)
	}
	if err := disk.Truncate(int64(e.size)); err != nil {
		return nil, fmt.Errorf("write disk: %w", err)
	}
	if err := e.write(im.Data, 0); err != nil {
		return nil, err
	}
	for i := range img.Blobs() {
		if err := e.blob(uint16(i)); err != nil {
			return nil, err
		}
	}
	res := &ExportResult{Size: e.size, DataBlockSize: img.BlockSize()}
	res.DataBlocks = e.size / uint64(res.DataBlockSize)
	if o.Verity {
		res.HashOffset = alignUp(e.size, verityBlock)
		res.RootHash, err = appendVerity(ctx, disk, res, o.Threads)
	}
	return res, err
}

type exporter struct {
	ctx  context.Context
	im   *rafs.Image
	r    *chunkread.Reader
	disk Disk
	o    ExportOptions
	size uint64
	done uint64
	data uint64 // bytes of all blobs
}

// layout computes the size of the disk and refuses images without a flat view.
func (e *exporter) layout() error {
	if e.im.Version() != rafs.V6 {
		return fmt.Errorf("%w: only v6 images can be block devices, this one is v5", rafs.ErrUnsupported)
	}
	block := uint64(e.im.BlockSize())
	e.size = alignUp(e.im.Size(), block)
	for i := range e.im.Blobs() {
		b := &e.im.Blobs()[i]
		at := uint64(b.MappedBlk) * block
		if b.MappedBlk == 0 {
			return fmt.Errorf("%w: blob %s has no address in a block device (the image is from an old builder)", rafs.ErrUnsupported, b.ID)
		}
		if at < e.size {
			return &rafs.FormatError{Off: rafs.V6DeviceOff + uint64(i)*rafs.V6DeviceSize + rafs.V6DeviceMappedBlkaddrAt,
				Field: "device.mapped_blkaddr", Why: fmt.Sprintf("%#x, what is before ends at %#x", at, e.size)}
		}
		e.size = at + uint64(b.Blocks)*block
		e.data += uint64(b.Blocks) * block
	}
	return nil
}

// write stores p, leaving runs of zeros unwritten.
func (e *exporter) write(p []byte, off uint64) error {
	const step = 64 << 10
	for len(p) > 0 {
		n := min(len(p), step)
		if !isZero(p[:n]) {
			if _, err := e.disk.WriteAt(p[:n], int64(off)); err != nil {
				return fmt.Errorf("write disk: %w", err)
			}
		}
		p, off = p[n:], off+uint64(n)
	}
	return nil
}

// blob writes the chunks of blob i at their addresses.
func (e *exporter) blob(i uint16) error {
	b := &e.im.Blobs()[i]
	at := uint64(b.MappedBlk) * uint64(e.im.BlockSize())
	end := at + uint64(b.Blocks)*uint64(e.im.BlockSize())
	if b.Features.IsTarfs() {
		return e.copyTar(i, at, end)
	}
	return e.r.Stream(e.ctx, e.o.Threads, e.r.BlobChunks(i), func(p chunkread.Piece) error {
		if p.Chunk.Off > end-at || uint64(len(p.Data)) > end-at-p.Chunk.Off {
			return fmt.Errorf("%w: chunk %d of blob %s ends outside its device", rafs.ErrCorrupt, p.Chunk.Index, b.ID)
		}
		e.progress(len(p.Data))
		return e.write(p.Data, at+p.Chunk.Off)
	})
}

// copyTar copies the tar that is the blob of a tarfs image.
func (e *exporter) copyTar(i uint16, at, end uint64) error {
	blob, err := e.r.Blob(e.ctx, i)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for off := uint64(0); off < end-at; {
		p := buf[:min(uint64(len(buf)), end-at-off)]
		if _, err := blob.ReadAt(e.ctx, p, off); err != nil {
			return fmt.Errorf("read blob %s: %w", e.im.Blobs()[i].ID, err)
		}
		if err := e.write(p, at+off); err != nil {
			return err
		}
		off += uint64(len(p))
		e.progress(len(p))
	}
	return nil
}

func (e *exporter) progress(n int) {
	e.done += uint64(n)
	if e.o.Progress != nil {
		e.o.Progress(e.done, e.data, "exported")
	}
}
