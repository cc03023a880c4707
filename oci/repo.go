package oci

import (
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
)

// Options say how a place is reached and which of its images are meant. The zero
// value uses what other tools are configured with.
type Options struct {
	Access
	// Platform chooses an image of an index; nil is this machine's.
	Platform *Platform
	// Want chooses between an image and its conversion where a reference has both.
	Want Want
}

// A Want says which image a reference that has several for one platform means.
type Want uint8

// What a reference with an OCI image and its Nydus conversion means.
const (
	WantAny   Want = iota // the first that fits
	WantOCI               // the one that is no Nydus image
	WantNydus             // the Nydus image, also as a referrer of the other
)

// A store is what a kind of place must be able to do for readers. Implementations
// verify nothing but what they can say about themselves.
type store interface {
	// manifest returns the document with a tag or a digest ("" is the only one there),
	// and its descriptor as far as the place knows it.
	manifest(ctx context.Context, ref Ref) ([]byte, Descriptor, error)
	// blob opens the content from byte off to before byte end.
	blob(ctx context.Context, d Descriptor, off, end int64) (io.ReadCloser, error)
	close() error
}

// A Repo is an opened place: a repository, a layout or an archive.
type Repo struct {
	ref   Ref // without tag and digest
	store store
}

// Open opens the place that ref is in, for reading. A registry is asked for its way
// of authentication. Close the Repo after use.
func Open(ctx context.Context, ref Ref, o Options) (*Repo, error) {
	var s store
	var err error
	switch ref.Kind {
	case KindRegistry:
		s, err = openRegistry(ctx, ref, &o.Access)
	case KindLayout:
		s, err = openLayout(ref.Path)
	case KindArchive, KindDocker:
		s, err = openArchive(ctx, ref.Path)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", ref.Place(), err)
	}
	return &Repo{ref: ref.Place(), store: s}, nil
}

// Close releases the place. Readers that it gave out end with an error.
func (r *Repo) Close() error { return r.store.close() }

// Document reads what ref names: its bytes, its descriptor, and the index if it is one.
func (r *Repo) Document(ctx context.Context, ref Ref) ([]byte, Descriptor, *Index, error) {
	raw, d, err := r.document(ctx, ref, nil)
	var x *Index
	if err == nil && d.IsIndex() {
		x, err = parseIndex(raw)
	}
	if err != nil {
		return nil, d, nil, fmt.Errorf("%s: %w", ref, err)
	}
	return raw, d, x, nil
}

// document reads a manifest or an index and compares it with the digest that names it.
func (r *Repo) document(ctx context.Context, ref Ref, told *Descriptor) ([]byte, Descriptor, error) {
	raw, d, err := r.store.manifest(ctx, ref)
	if err != nil {
		return nil, d, err
	}
	if len(raw) > maxManifest {
		return nil, d, fmt.Errorf("%w: manifest of more than %d bytes", ErrCorrupt, maxManifest)
	}
	want := ref.Digest
	if want == "" {
		want = d.Digest
	}
	got := digest.FromBytes(raw)
	if want != "" && got != want {
		return nil, d, fmt.Errorf("%w: manifest %s: the bytes are %s", ErrCorrupt, want, got)
	}
	typ := d.MediaType
	if told != nil {
		if told.Size != int64(len(raw)) {
			return nil, d, fmt.Errorf("%w: manifest %s: %d bytes, its descriptor says %d", ErrCorrupt, got, len(raw), told.Size)
		}
		typ, d.Platform, d.Annotations, d.ArtifactType = told.MediaType, told.Platform, told.Annotations, told.ArtifactType
	}
	if d.MediaType, err = mediaTypeOf(raw, typ); err != nil {
		return nil, d, err
	}
	d.Digest, d.Size = got, int64(len(raw))
	return raw, d, nil
}

// blob opens a blob from its beginning. The reader says io.EOF only after the bytes
// matched digest and size.
func (r *Repo) blob(ctx context.Context, d Descriptor) (io.ReadCloser, error) {
	if d.Data != nil && int64(len(d.Data)) == d.Size {
		return verified(nopCloser(d.Data), d), nil
	}
	rc, err := r.store.blob(ctx, d, 0, d.Size)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	return verified(rc, d), nil
}

// small reads a blob that must fit into limit bytes.
func (r *Repo) small(ctx context.Context, d Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, fmt.Errorf("%w: blob %s: %d bytes, at most %d are read", ErrCorrupt, d.Digest, d.Size, limit)
	}
	rc, err := r.blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}
