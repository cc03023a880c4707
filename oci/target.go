package oci

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
)

// A target is what a kind of place must be able to do for writers. It is a store too:
// what was put can be read at once.
type target interface {
	store
	// has reports whether the blob is there.
	has(ctx context.Context, d Descriptor) (bool, error)
	// mount takes the blob over from another repository of the same registry, and
	// reports whether that worked; false is no error.
	mount(ctx context.Context, d Descriptor, from Ref) (bool, error)
	// upload begins a blob whose digest and size are not known yet.
	upload(ctx context.Context) (upload, error)
	// putManifest stores the document under its digest.
	putManifest(ctx context.Context, raw []byte, d Descriptor) error
	// tag lets name stand for the document from now on; "" is a place's only image. It
	// comes last: everything that the document names is there.
	tag(ctx context.Context, raw []byte, d Descriptor, name string) error
	// finish is called once, when everything was put: only then must the place be as it
	// is meant to be.
	finish(ctx context.Context) error
}

// An upload is a blob on its way. It is written by one goroutine.
type upload interface {
	io.Writer
	// commit ends the blob, whose bytes have digest dg and number size.
	commit(ctx context.Context, dg digest.Digest, size int64) error
	// abort gives the blob up. It may be called after commit, and does nothing then.
	abort()
}

// create opens the place that ref is in, for writing; what is missing of it is made.
// from are references whose blobs may be mounted.
func create(ctx context.Context, ref Ref, a *Access, from ...Ref) (target, error) {
	var t target
	var err error
	switch ref.Kind {
	case KindRegistry:
		var scopes []string
		for _, f := range from {
			if f.Kind == KindRegistry && f.Registry == ref.Registry && f.Repo != ref.Repo {
				scopes = append(scopes, "repository:"+f.Repo+":pull")
			}
		}
		t, err = dialRegistry(ctx, ref, a, pushScope, scopes...)
	case KindLayout:
		t, err = createLayout(ref.Path)
	case KindArchive, KindDocker:
		t, err = createArchive(ref)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s for writing: %w", ref.Place(), err)
	}
	return t, nil
}

// put stores bytes that are at hand, unless they are there.
func put(ctx context.Context, t target, raw []byte, d Descriptor) error {
	there, err := t.has(ctx, d)
	if err != nil || there {
		return err
	}
	u, err := t.upload(ctx)
	if err != nil {
		return err
	}
	defer u.abort()
	if _, err := u.Write(raw); err != nil {
		return err
	}
	return u.commit(ctx, d.Digest, d.Size)
}

// checkDest refuses what cannot name an image that is to be made.
func checkDest(ref Ref) error {
	if ref.Digest != "" {
		return fmt.Errorf("%w %s: a digest cannot be chosen for what is made: give a tag or nothing", ErrRef, ref)
	}
	if ref.Kind == KindRegistry && len(ref.Tag) > 128 || strings.ContainsAny(ref.Tag, "\x00\n") {
		return fmt.Errorf("%w: the tag is too long or has control characters", ErrRef)
	}
	return nil
}
