// Package localfs reads blobs that are files: one per blob in a list of
// directories, or a single file that stands for every blob.
//
//	Open(id) -> File, or Dir/id, or AltDirs[0]/id, ... the first that isn't empty
//
// Trust: ids come from images and are checked to be plain file names; what a file
// holds is the caller's to verify. A file may grow, shrink or be deleted while
// it is open.
//
// Concurrency: everything may be called from any goroutine. Reads are those of a
// local disk and don't end early with their context.
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
	return &dirs{o: o, opt: opt}, nil
}

type dirs struct {
	o   opener.Opener
	opt Options
}

// Open opens the file of blob id. Errors are of class backend.ErrNotFound where no
// directory has a non-empty one, and always of class backend.ErrPermanent.
func (d *dirs) Open(ctx context.Context, id string) (backend.Blob, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if d.opt.File != "" {
		return d.file(d.opt.File)
	}
	if err := opener.Name(id); err != nil {
		return nil, fmt.Errorf("%w: %w", backend.ErrPermanent, err)
	}
	var errs []error
	for _, dir := range append([]string{d.opt.Dir}, d.opt.AltDirs...) {
		b, err := d.file(filepath.Join(dir, id))
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
	return &blob{f}, nil
}

// A blob is one open file.
type blob struct{ f *os.File }

func (b *blob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if off > math.MaxInt64-uint64(len(p)) {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.f.ReadAt(p, int64(off))
	switch {
	case n == len(p):
		return n, nil
	case errors.Is(err, io.EOF):
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *blob) Size(context.Context) (uint64, error) {
	fi, err := b.f.Stat()
	if err != nil {
		return 0, err
	}
	return uint64(fi.Size()), nil
}

func (b *blob) Close() error { return b.f.Close() }
