package backend

import (
	"context"
	"io"
)

// A Streamer is a Blob that hands bytes over while they come. Wrappers of blobs
// pass it on where they can; who reads uses ReadTo, which does with any Blob.
type Streamer interface {
	// ReadTo writes the n bytes from byte off to w, in order and each once, and returns
	// how many w has taken: n, or fewer with an error like one of ReadAt. Where w is
	// an io.ReaderFrom its ReadFrom is called instead of Write. An error of w ends the
	// read; one of class ErrPermanent is returned as it is. It blocks until done or ctx
	// ends; the time that w takes doesn't count for the deadlines of the back end.
	ReadTo(ctx context.Context, w io.Writer, off, n uint64) (uint64, error)
}

// piece is what is read at once of a blob that is no Streamer, in bytes.
const piece = 1 << 20

// ReadTo is what Streamer says, for any blob.
func ReadTo(ctx context.Context, b Blob, w io.Writer, off, n uint64) (done uint64, err error) {
	if s, ok := b.(Streamer); ok {
		return s.ReadTo(ctx, w, off, n)
	}
	p := make([]byte, min(n, piece))
	for done < n {
		got, err := b.ReadAt(ctx, p[:min(n-done, piece)], off+done)
		wrote, werr := w.Write(p[:got])
		done += uint64(wrote)
		if werr != nil {
			return done, werr
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
