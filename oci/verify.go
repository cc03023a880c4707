package oci

import (
	"bytes"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
)

// verified reads the content of d out of rc.
func verified(rc io.ReadCloser, d Descriptor) io.ReadCloser {
	return &verifier{rc: rc, want: d, hash: digest.SHA256.Hash()}
}

// A verifier says io.EOF only after as many bytes as there should be, with the right
// digest.
type verifier struct {
	rc   io.ReadCloser
	want Descriptor
	hash hash.Hash
	n    int64
	err  error
}

// Read reads on.
func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.rc.Read(p)
	v.n += int64(n)
	_, _ = v.hash.Write(p[:n])
	switch {
	case v.n > v.want.Size:
		err = fmt.Errorf("%w: blob %s: more than the %d bytes it should have", ErrCorrupt, v.want.Digest, v.want.Size)
	case err == io.EOF && v.n < v.want.Size:
		err = fmt.Errorf("%w: blob %s: ends at %d of %d bytes", ErrCorrupt, v.want.Digest, v.n, v.want.Size)
	case err == io.EOF:
		if got := digest.NewDigest(digest.SHA256, v.hash); got != v.want.Digest {
			err = fmt.Errorf("%w: blob %s: the bytes are %s", ErrCorrupt, v.want.Digest, got)
		}
	case err != nil:
		err = fmt.Errorf("blob %s at %d: %w", v.want.Digest, v.n, err)
	}
	v.err = err
	return n, err
}

// Close closes what it reads from.
func (v *verifier) Close() error { return v.rc.Close() }

func nopCloser(p []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(p)) }
