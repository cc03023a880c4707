// Package localfs reads blobs that are files: one per blob in a list of
// directories, or a single file that stands for every blob.
//
//	Open(id) -> File, or Dir/id, or AltDirs[0]/id, ... the first that isn't empty
//
// Trust: ids come from images and are checked to be plain file names; what a file
// holds is the caller's to verify. A file may grow, shrink or be deleted while
// it is open.
//
// Concurrency: everything may be called from any goroutine. A file system may hang
// for ever, NFS and FUSE do. So files are opened, and files that are not on a disk of
// this machine read and closed, by goroutines that callers leave when their
// context ends (apart.go).
//
// Source: nydusd 3.4, backend type localfs.
package localfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"vrafs/backend"
	"vrafs/internal/opener"
)

// Options say where blobs lie. With File set the directories are not looked at.
type Options struct {
	File    string   // one file for every id
	Dir     string   // a file per blob, named by its id
	AltDirs []string // searched in order where Dir has none, or an empty one
}

// New makes an opener of blobs. Nothing is opened before a blob is.
func New(o opener.Opener, opt Options) (backend.Opener, error) {
	if opt.File == "" && opt.Dir == "" {
		return nil, errors.New("localfs: neither a blob file nor a directory is configured")
	}
	return &dirs{o: o, opt: opt, slots: make(slots, maxApart)}, nil
}

type dirs struct {
	o     opener.Opener
	opt   Options
	slots slots
}

// Open opens the file of blob id. Errors are of class backend.ErrNotFound where no
// directory has a non-empty one, and of class backend.ErrPermanent unless ctx ended.
func (d *dirs) Open(ctx context.Context, id string) (backend.Blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	paths, err := d.paths(id)
	if err != nil {
		return nil, err
	}
	return apart(ctx, d.slots, func() (backend.Blob, error) { return d.first(paths) }, func(b backend.Blob) { _ = b.Close() })
}

// paths are where blob id may be.
func (d *dirs) paths(id string) ([]string, error) {
	if d.opt.File != "" {
		return []string{d.opt.File}, nil
	}
	if err := opener.Name(id); err != nil {
		return nil, fmt.Errorf("%w: %w", backend.ErrPermanent, err)
	}
	paths := []string{filepath.Join(d.opt.Dir, id)}
	for _, dir := range d.opt.AltDirs {
		paths = append(paths, filepath.Join(dir, id))
	}
	return paths, nil
}

// first opens the first file that isn't empty.
func (d *dirs) first(paths []string) (backend.Blob, error) {
	var errs []error
	for _, path := range paths {
		b, err := d.file(path)
		if err == nil {
			return b, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (d *dirs) file(path string) (backend.Blob, error) {
	f, fi, err := opener.Regular(d.o, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: %w: %w", backend.ErrNotFound, backend.ErrPermanent, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", backend.ErrPermanent, err)
	case fi.Size() == 0:
		f.Close()
		return nil, fmt.Errorf("%w: %w: %s is empty", backend.ErrNotFound, backend.ErrPermanent, path)
	}
	b := &blob{f: f}
	if !opener.IsLocal(f) {
		b.slots = d.slots
	}
	return b, nil
}

// A blob is one open file.
type blob struct {
	f     *os.File
	slots slots // of calls that may hang; nil: none does
}

func (b *blob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if off > math.MaxInt64-uint64(len(p)) {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.read(ctx, p, int64(off))
	switch {
	case n == len(p):
		return n, nil
	case errors.Is(err, io.EOF):
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// read is ReadAt of the file. A read that may be left behind has memory of its own.
func (b *blob) read(ctx context.Context, p []byte, off int64) (int, error) {
	if b.slots == nil {
		return b.f.ReadAt(p, off)
	}
	got, err := apart(ctx, b.slots, func() ([]byte, error) {
		own := make([]byte, len(p))
		n, err := b.f.ReadAt(own, off)
		return own[:n], err
	}, nil)
	return copy(p, got), err
}

func (b *blob) Size(ctx context.Context) (uint64, error) {
	size := func() (uint64, error) {
		fi, err := b.f.Stat()
		if err != nil {
			return 0, err
		}
		return uint64(fi.Size()), nil
	}
	if b.slots == nil {
		return size()
	}
	return apart(ctx, b.slots, size, nil)
}

func (b *blob) Close() error {
	if b.slots == nil {
		return b.f.Close()
	}
	go b.f.Close() // may hang, like any other call
	return nil
}
