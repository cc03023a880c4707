// Package localdisk reads blobs from a block device or a disk image: from the
// partitions of a GUID partition table, or from the device as a whole.
//
//	sector 0    1        2 ...              at entry.first
//	| MBR    | header | entries of 128 B | blob, to the end of entry.last |
//	                     type, GUID, first, last, name (UTF-16)
//
// Partition and blob belong together where name and GUID's digits make the blob's
// id, or where the name is the id's first 32 characters and the type is "basic
// data". A partition ends with a sector, so it may be longer than its blob.
//
// Trust: none in the table. Its checksums, bounds and counts are checked; bytes are
// the caller's to verify. Concurrency: everything may be called from any goroutine;
// reads are those of a local disk and don't end early with their context.
//
// Source: nydusd 3.4, backend type localdisk; UEFI 2.10, section 5.3.
package localdisk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"

	"vrafs/backend"
	"vrafs/internal/opener"
)

// Options say where blobs lie.
type Options struct {
	Path string // of a block device or a regular file
	// Whole takes the device for one blob that answers to every id.
	Whole bool
}

var (
	errKind  = errors.New("neither a block device nor a regular file")
	errShort = errors.New("the partition reaches past the end of the device")
)

// New makes an opener of blobs. The device is opened when a blob is.
func New(o opener.Opener, opt Options) (backend.Opener, error) {
	if opt.Path == "" {
		return nil, errors.New("localdisk: no device_path is configured")
	}
	return &disk{o, opt}, nil
}

type disk struct {
	o   opener.Opener
	opt Options
}

// Open finds the blob's partition. Errors are of class backend.ErrPermanent, and of
// class backend.ErrNotFound where the table has none for it.
func (d *disk) Open(ctx context.Context, id string) (backend.Blob, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	f, err := d.device()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", backend.ErrPermanent, err)
	}
	b, err := d.find(f, id)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %s: %w", backend.ErrPermanent, d.opt.Path, err)
	}
	return b, nil
}

// device opens the device; it neither hangs on a FIFO nor takes one.
func (d *disk) device() (*os.File, error) {
	f, err := d.o.Open(d.opt.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() && fi.Mode()&(os.ModeDevice|os.ModeCharDevice) != os.ModeDevice {
		err = fmt.Errorf("open %s: %w", d.opt.Path, errKind)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// find makes a blob of what id means on a device.
func (d *disk) find(f *os.File, id string) (*blob, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if d.opt.Whole {
		return &blob{f: f, size: uint64(end)}, nil
	}
	parts, err := readTable(f)
	if err != nil {
		return nil, err
	}
	p, ok := choose(parts, id)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: no partition of blob %.80q", backend.ErrNotFound, id)
	case p.off > uint64(end) || p.size > uint64(end)-p.off:
		return nil, fmt.Errorf("blob %.80q: %w", id, errShort)
	}
	return &blob{f: f, off: p.off, size: p.size}, nil
}

// A blob is a part of an open device.
type blob struct {
	f         *os.File
	off, size uint64
	closed    atomic.Bool
}

func (b *blob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case b.closed.Load():
		return 0, fmt.Errorf("%w: blob is closed", backend.ErrPermanent)
	}
	left := b.size - min(off, b.size)
	want := p[:min(uint64(len(p)), left)]
	n := 0
	if len(want) > 0 {
		var err error
		if n, err = b.f.ReadAt(want, int64(b.off+off)); err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
	}
	if n < len(p) {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

func (b *blob) Size(context.Context) (uint64, error) { return b.size, nil }

func (b *blob) Close() error {
	b.closed.Store(true)
	return b.f.Close()
}
