// Package backend is ranged reads of named blobs: the contract that registry,
// object store, directory and proxy back ends share.
//
// Nothing a back end returns is trusted: the caller checks digests. A back end
// promises only bounded time (its context), bounded memory and honest counts.
package backend

import (
	"context"
	"errors"
)

var (
	// ErrNotFound is the class of "this blob does not exist here".
	ErrNotFound = errors.New("blob not found")
	// ErrPermanent is the class of errors that a retry cannot cure.
	ErrPermanent = errors.New("permanent back-end error")
)

// A Blob is one named object, read by ranges. All methods may be called from
// several goroutines at once.
type Blob interface {
	// ReadAt fills p from byte off. It returns len(p), or fewer bytes with a
	// non-nil error; a range that crosses the end of the blob gives what there is and
	// io.ErrUnexpectedEOF. It blocks until done or ctx ends.
	ReadAt(ctx context.Context, p []byte, off uint64) (int, error)
	// Size is the length of the blob in bytes. It may ask the network once.
	Size(ctx context.Context) (uint64, error)
	// Close releases what the blob holds; reads in flight end with an error.
	Close() error
}

// An Opener finds blobs by id.
type Opener interface {
	// Open returns the blob named id. An unknown id may be reported here or by
	// the first read, as an error of class ErrNotFound.
	Open(ctx context.Context, id string) (Blob, error)
}
