package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"vrafs/internal/opener"
)

// Names in a layout (image-spec, "image-layout.md").
const (
	layoutFile    = "oci-layout"
	layoutVersion = `{"imageLayoutVersion":"1.0.0"}`
	indexFile     = "index.json"
	blobsDir      = "blobs"
)

// A layout is a directory of blobs named by their digests, with an index of what has
// a name.
//
//	oci-layout  index.json  blobs/sha256/<hex>
type layout struct{ dir string }

func openLayout(dir string) (*layout, error) {
	l := &layout{dir}
	if _, err := l.index(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *layout) close() error { return nil }

// blobPath is where the blob lies. Only digests that were checked get here.
func (l *layout) blobPath(d digest.Digest) string {
	return filepath.Join(l.dir, blobsDir, d.Algorithm().String(), d.Encoded())
}

func (l *layout) index() (*Index, error) {
	raw, err := readLimited(filepath.Join(l.dir, indexFile), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s has no %s: it is no OCI layout", ErrNotFound, l.dir, indexFile)
	}
	if err != nil {
		return nil, err
	}
	return parseIndex(raw)
}

func (l *layout) manifest(_ context.Context, ref Ref) ([]byte, Descriptor, error) {
	d := Descriptor{Digest: ref.Digest}
	if ref.Digest == "" {
		x, err := l.index()
		if err != nil {
			return nil, d, err
		}
		if d, err = named(x.Manifests, ref.Tag); err != nil {
			return nil, d, err
		}
	}
	raw, err := readLimited(l.blobPath(d.Digest), maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: manifest %s", ErrNotFound, d.Digest)
	}
	return raw, d, err
}

// names are those that an entry of a layout's index can be asked for by.
func names(d *Descriptor) []string {
	var out []string
	if n := d.Annotations[AnnotationRefName]; n != "" {
		out = append(out, n)
	}
	if n := d.Annotations[annotationContainerdName]; n != "" {
		out = append(out, n)
	}
	return out
}

// named finds the entry called tag: by its whole name, else by the end of a name, as
// writers put a registry before it; without a tag, the only entry.
func named(list []Descriptor, tag string) (Descriptor, error) {
	var found []Descriptor
	have := []string{}
	match := func(f func(name string) bool) {
		for i := range list {
			if slices.ContainsFunc(names(&list[i]), f) {
				found = append(found, list[i])
			}
		}
	}
	for i := range list {
		have = append(have, names(&list[i])...)
	}
	if tag == "" {
		found = list
	} else if match(func(n string) bool { return n == tag }); len(found) == 0 {
		match(func(n string) bool { return strings.HasSuffix(n, ":"+tag) || strings.HasSuffix(n, "/"+tag) })
	}
	if len(found) > 0 && !slices.ContainsFunc(found, func(d Descriptor) bool { return d.Digest != found[0].Digest }) {
		return found[0], nil
	}
	all := strings.Join(have[:min(len(have), 20)], ", ")
	switch {
	case len(list) == 0:
		return Descriptor{}, fmt.Errorf("%w: there is no image", ErrNotFound)
	case tag == "":
		return Descriptor{}, fmt.Errorf("%w: there are %d images: name one of %s", ErrNotFound, len(list), all)
	case len(found) > 1:
		return Descriptor{}, fmt.Errorf("%w: %q is the name of %d images: choose one by its digest", ErrNotFound, tag, len(found))
	}
	return Descriptor{}, fmt.Errorf("%w: no image is called %q, there are: %s", ErrNotFound, tag, all)
}

func (l *layout) blob(_ context.Context, d Descriptor, off, end int64) (io.ReadCloser, error) {
	f, fi, err := opener.Regular(opener.Local(), l.blobPath(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNotFound, l.dir)
	}
	if err != nil {
		return nil, err
	}
	if fi.Size() != d.Size {
		f.Close()
		return nil, fmt.Errorf("%w: the file has %d bytes instead of %d", ErrCorrupt, fi.Size(), d.Size)
	}
	return &section{io.NewSectionReader(f, off, end-off), f}, nil
}

// A section is a range of a file that it closes.
type section struct {
	*io.SectionReader
	io.Closer
}

// readLimited reads a small file.
func readLimited(path string, limit int64) ([]byte, error) {
	f, _, err := opener.Regular(opener.Local(), path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%w: %s is larger than %d bytes", ErrCorrupt, path, limit)
	}
	return raw, err
}

// looksLikeLayout reports whether dir is an OCI layout or empty, so that images can
// be written to it.
func looksLikeLayout(dir string) (exists bool, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	raw, err := readLimited(filepath.Join(dir, layoutFile), 4096)
	if err != nil {
		return false, fmt.Errorf("%s is neither empty nor an OCI layout: %w", dir, err)
	}
	var v struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := json.Unmarshal(raw, &v); err != nil || !strings.HasPrefix(v.Version, "1.") {
		return false, fmt.Errorf("%w: %s: layout version %.20q", ErrUnsupported, dir, v.Version)
	}
	return true, nil
}

// size is that of the blob's file.
func (l *layout) size(_ context.Context, d digest.Digest) (int64, error) {
	fi, err := os.Lstat(l.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, ErrNotFound
	}
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}
