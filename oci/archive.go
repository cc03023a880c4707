package oci

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/opencontainers/go-digest"

	"vrafs/build"
	"vrafs/internal/opener"
	"vrafs/rafs"
)

// Bounds of an archive's list of members: what a hostile one can make us remember.
const (
	maxMembers     = 100_000
	maxMemberName  = 1024
	dockerManifest = "manifest.json"
)

// An archive is a tar with a layout in it, or one that docker save wrote. It is read
// in place: a list of its members is made once, and each is a range of the file.
type archive struct {
	f       io.ReaderAt
	length  int64
	closer  io.Closer
	members map[string]member
	index   *Index                   // as in a layout, made up for docker save's
	made    map[digest.Digest][]byte // manifests and configurations that were made up
	places  map[digest.Digest]member // layers of docker save, by digest
}

// A member is the content of a file in the archive.
type member struct{ off, size int64 }

func openArchive(ctx context.Context, file string) (*archive, error) {
	f, fi, err := opener.Regular(opener.Local(), file)
	if err != nil {
		return nil, err
	}
	a, err := readArchive(ctx, f, fi.Size())
	if err != nil {
		f.Close()
		return nil, err
	}
	a.closer = f
	return a, nil
}

func readArchive(ctx context.Context, f io.ReaderAt, size int64) (*archive, error) {
	a := &archive{f: f, length: size, members: map[string]member{}, made: map[digest.Digest][]byte{}, places: map[digest.Digest]member{}}
	return a, a.load(ctx)
}

func (a *archive) close() error { return a.closer.Close() }

// load lists the members and finds out what kind of archive it is. docker save since
// version 25 writes both, and then the layout has what was really there.
func (a *archive) load(ctx context.Context) error {
	if err := a.list(ctx); err != nil {
		return err
	}
	if _, ok := a.members[indexFile]; ok {
		raw, err := a.read(indexFile, maxManifest)
		if err != nil {
			return err
		}
		a.index, err = parseIndex(raw)
		return err
	}
	if _, ok := a.members[dockerManifest]; ok {
		return a.loadDocker(ctx)
	}
	return fmt.Errorf("%w: neither %s nor %s is in the archive", ErrCorrupt, indexFile, dockerManifest)
}

// list reads the headers. The content of the members is passed over.
func (a *archive) list(ctx context.Context) error {
	head := make([]byte, 4)
	if _, err := a.f.ReadAt(head, 0); err == nil && build.CompressorOf(head) == rafs.CompressorGzip {
		return fmt.Errorf("%w: the archive is compressed, so nothing in it can be found: uncompress it with gunzip", ErrUnsupported)
	}
	in := io.NewSectionReader(a.f, 0, a.length)
	tr := tar.NewReader(in)
	links := map[string]string{}
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: archive: %w", ErrCorrupt, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		name := path.Clean("/" + h.Name)[1:]
		if len(a.members)+len(links) >= maxMembers || len(name) > maxMemberName {
			return fmt.Errorf("%w: archive: more than %d members, or a name of more than %d bytes", ErrCorrupt, maxMembers, maxMemberName)
		}
		switch h.Typeflag {
		case tar.TypeReg:
			off, err := in.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			a.members[name] = member{off, h.Size}
		case tar.TypeSymlink:
			links[name] = path.Clean("/" + path.Join(path.Dir(name), h.Linkname))[1:]
		case tar.TypeLink:
			links[name] = path.Clean("/" + h.Linkname)[1:]
		}
	}
	// Older versions of docker save link a layer that occurs twice to its first place.
	for name, to := range links {
		if m, ok := a.members[to]; ok {
			a.members[name] = m
		}
	}
	return nil
}

// read reads a small member.
func (a *archive) read(name string, limit int64) ([]byte, error) {
	m, ok := a.members[name]
	if !ok {
		return nil, fmt.Errorf("%w: %.200q is not in the archive", ErrNotFound, name)
	}
	if m.size > limit {
		return nil, fmt.Errorf("%w: archive: %.200q has %d bytes, at most %d are read", ErrCorrupt, name, m.size, limit)
	}
	p := make([]byte, m.size)
	if _, err := a.f.ReadAt(p, m.off); err != nil {
		return nil, fmt.Errorf("%w: archive: %.200q: %w", ErrCorrupt, name, err)
	}
	return p, nil
}

func blobName(d digest.Digest) string {
	return path.Join(blobsDir, d.Algorithm().String(), d.Encoded())
}

func (a *archive) manifest(_ context.Context, ref Ref) ([]byte, Descriptor, error) {
	d := Descriptor{Digest: ref.Digest}
	if ref.Digest == "" {
		var err error
		if d, err = named(a.index.Manifests, ref.Tag); err != nil {
			return nil, d, err
		}
	}
	if raw, ok := a.made[d.Digest]; ok {
		return raw, d, nil
	}
	raw, err := a.read(blobName(d.Digest), maxManifest)
	return raw, d, err
}

func (a *archive) blob(_ context.Context, d Descriptor, off, end int64) (io.ReadCloser, error) {
	if raw, ok := a.made[d.Digest]; ok {
		if int64(len(raw)) != d.Size {
			return nil, fmt.Errorf("%w: %d bytes instead of %d", ErrCorrupt, len(raw), d.Size)
		}
		return nopCloser(raw[off:end]), nil
	}
	m, ok := a.places[d.Digest]
	if !ok {
		if m, ok = a.members[blobName(d.Digest)]; !ok {
			return nil, fmt.Errorf("%w in the archive", ErrNotFound)
		}
	}
	if m.size != d.Size {
		return nil, fmt.Errorf("%w: the member has %d bytes instead of %d", ErrCorrupt, m.size, d.Size)
	}
	return io.NopCloser(io.NewSectionReader(a.f, m.off+off, end-off)), nil
}

// dockerEntry is one image of manifest.json.
type dockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// loadDocker makes a manifest for each image that docker save wrote.
func (a *archive) loadDocker(ctx context.Context) error {
	raw, err := a.read(dockerManifest, maxManifest)
	if err != nil {
		return err
	}
	var entries []dockerEntry
	if err := json.Unmarshal(raw, &entries); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, dockerManifest, err)
	}
	if len(entries) > maxEntries {
		return fmt.Errorf("%w: %s: %d images", ErrCorrupt, dockerManifest, len(entries))
	}
	a.index = &Index{SchemaVersion: 2}
	for i := range entries {
		d, err := a.dockerImage(ctx, &entries[i])
		if err != nil {
			return fmt.Errorf("%s: image %d: %w", dockerManifest, i+1, err)
		}
		tags := entries[i].RepoTags
		if len(tags) == 0 {
			tags = []string{""}
		}
		for _, tag := range tags[:min(len(tags), maxEntries)] {
			e := d
			if tag != "" {
				e.Annotations = map[string]string{AnnotationRefName: tag}
			}
			a.index.Manifests = append(a.index.Manifests, e)
		}
	}
	return nil
}

// dockerImage makes the manifest of one image. The configuration has the digests of
// the layers, which lie there uncompressed or, from other writers, compressed.
func (a *archive) dockerImage(ctx context.Context, e *dockerEntry) (d Descriptor, err error) {
	raw, err := a.read(path.Clean("/" + e.Config)[1:], maxConfig)
	if err != nil {
		return d, err
	}
	c, err := parseConfig(raw)
	if err != nil {
		return d, err
	}
	if len(e.Layers) != len(c.RootFS.DiffIDs) || len(e.Layers) > maxLayers {
		return d, fmt.Errorf("%w: %d layers, the configuration has %d", ErrCorrupt, len(e.Layers), len(c.RootFS.DiffIDs))
	}
	m := Manifest{SchemaVersion: 2, MediaType: MediaTypeDockerManifest}
	m.Config = Descriptor{MediaType: MediaTypeDockerConfig, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	a.made[m.Config.Digest] = raw
	for i, name := range e.Layers {
		l, err := a.dockerLayer(ctx, path.Clean("/" + name)[1:], c.RootFS.DiffIDs[i])
		if err != nil {
			return d, fmt.Errorf("layer %d: %w", i+1, err)
		}
		m.Layers = append(m.Layers, l)
	}
	raw, d, err = encode(m, MediaTypeDockerManifest)
	if err == nil {
		a.made[d.Digest] = raw
	}
	return d, err
}

// dockerLayer finds a layer. An uncompressed one has its diff id as its digest, a
// compressed one must be read for it.
func (a *archive) dockerLayer(ctx context.Context, name string, diffID digest.Digest) (d Descriptor, err error) {
	if _, err := parseDigest(diffID.String()); err != nil {
		return d, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	m, ok := a.members[name]
	if !ok {
		return d, fmt.Errorf("%w: %.200q is not in the archive", ErrNotFound, name)
	}
	d = Descriptor{MediaType: MediaTypeDockerTar, Digest: diffID, Size: m.size}
	head := make([]byte, 4)
	n, err := a.f.ReadAt(head, m.off)
	if err != nil && !errors.Is(err, io.EOF) {
		return d, err
	}
	switch build.CompressorOf(head[:n]) {
	case rafs.CompressorGzip:
		d.MediaType = MediaTypeDockerLayer
	case rafs.CompressorZstd:
		d.MediaType = MediaTypeLayerZstd
	}
	if d.MediaType != MediaTypeDockerTar {
		r := &contextReader{ctx, io.NewSectionReader(a.f, m.off, m.size)}
		if d.Digest, err = digest.SHA256.FromReader(r); err != nil {
			return d, err
		}
	}
	a.places[d.Digest] = m
	return d, nil
}

// A contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// Read reads unless the context has ended.
func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// size is that of the blob's member.
func (a *archive) size(_ context.Context, d digest.Digest) (int64, error) {
	m, ok := a.members[blobName(d)]
	if !ok {
		return 0, ErrNotFound
	}
	return m.size, nil
}
