package oci

import (
	"context"
	"io"
	"os"

	"vrafs/backend"
)

// A blobFile is a blob that can be read anywhere.
type blobFile interface {
	io.ReaderAt
	io.Closer
}

// localBlob makes the blob readable in any order: that of a registry is copied to a file
// without a name first, since a tree is not in the order of its data.
func localBlob(ctx context.Context, im *Image, d Descriptor, p *Progress) (blobFile, error) {
	if im.repo.ref.Kind != KindRegistry {
		return struct {
			io.ReaderAt
			io.Closer
		}{&storeReader{ctx, im.repo.store, d}, io.NopCloser(nil)}, nil
	}
	rc, err := im.repo.blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	f, err := os.CreateTemp("", "vrafs-blob-")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = io.Copy(f, p.reading(rc, Event{What: "blob", Name: d.Digest.String(), Total: d.Size}))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	p.tell(Event{What: "blob", Name: d.Digest.String(), State: StateDone, Done: d.Size, Total: d.Size})
	return f, nil
}

// layerBlobs finds the blob that a bootstrap was taken from in its file, and others in
// the image.
type layerBlobs struct {
	id   string
	self io.ReaderAt
	size uint64
	rest backend.Opener
}

// Open finds a blob by its id.
func (b *layerBlobs) Open(ctx context.Context, id string) (backend.Blob, error) {
	if id == b.id {
		return &fileBlob{b.self, b.size}, nil
	}
	return b.rest.Open(ctx, id)
}

// A fileBlob is a blob in a file.
type fileBlob struct {
	r    io.ReaderAt
	size uint64
}

// ReadAt reads a range.
func (f *fileBlob) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, context.Cause(ctx)
	}
	if off > f.size {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := f.r.ReadAt(p, int64(off))
	switch {
	case n == len(p):
		return n, nil
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Size is the file's.
func (f *fileBlob) Size(context.Context) (uint64, error) { return f.size, nil }

// Close does nothing: the file is closed by who opened it.
func (f *fileBlob) Close() error { return nil }
