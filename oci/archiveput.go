package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
)

// An archiveTarget writes a tar with a layout in it, and with what docker load reads.
// Blobs follow each other; the header of each is written when its name and size are
// known. The file gets its name when everything is in it.
//
//	[header][blob][header][blob] ... [index.json][oci-layout][manifest.json]
type archiveTarget struct {
	path   string
	f      *os.File
	index  Index
	docker bool // must be readable by docker load

	mu      sync.Mutex
	free    sync.Cond // signalled when no upload is under way
	busy    bool
	off     int64
	members map[digest.Digest]member
	done    bool
}

func createArchive(ref Ref) (*archiveTarget, error) {
	f, err := os.CreateTemp(filepath.Dir(ref.Path), ".vrafs-archive-")
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o644); err != nil {
		os.Remove(f.Name())
		f.Close()
		return nil, err
	}
	t := &archiveTarget{path: ref.Path, f: f, docker: ref.Kind == KindDocker, members: map[digest.Digest]member{}}
	t.index = Index{SchemaVersion: 2, MediaType: MediaTypeIndex, Manifests: []Descriptor{}}
	t.free.L = &t.mu
	return t, nil
}

func (t *archiveTarget) close() error {
	if t.f == nil {
		return nil
	}
	if !t.done {
		os.Remove(t.f.Name())
	}
	err := t.f.Close()
	t.f = nil
	return err
}

func (t *archiveTarget) member(d digest.Digest) (member, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, ok := t.members[d]
	return m, ok
}

func (t *archiveTarget) has(_ context.Context, d Descriptor) (bool, error) {
	_, ok := t.member(d.Digest)
	return ok, nil
}

func (t *archiveTarget) mount(context.Context, Descriptor, Ref) (bool, error) { return false, nil }

func (t *archiveTarget) manifest(_ context.Context, ref Ref) ([]byte, Descriptor, error) {
	if ref.Digest == "" {
		d, err := named(t.index.Manifests, ref.Tag)
		if err != nil {
			return nil, d, err
		}
		ref = ref.WithDigest(d.Digest)
	}
	m, ok := t.member(ref.Digest)
	if !ok {
		return nil, Descriptor{}, ErrNotFound
	}
	raw := make([]byte, m.size)
	_, err := t.f.ReadAt(raw, m.off)
	return raw, Descriptor{Digest: ref.Digest}, err
}

func (t *archiveTarget) blob(_ context.Context, d Descriptor, off, end int64) (io.ReadCloser, error) {
	m, ok := t.member(d.Digest)
	if !ok {
		return nil, ErrNotFound
	}
	return io.NopCloser(io.NewSectionReader(t.f, m.off+off, end-off)), nil
}

// upload waits until no other is under way: a tar has one end.
func (t *archiveTarget) upload(ctx context.Context) (upload, error) {
	stop := context.AfterFunc(ctx, t.free.Broadcast)
	defer stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.busy && ctx.Err() == nil {
		t.free.Wait()
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	t.busy = true
	return &archiveUpload{t: t, start: t.off + tarBlock}, nil
}

const tarBlock = 512

// An archiveUpload is the last member of the tar, whose header is still missing.
type archiveUpload struct {
	t     *archiveTarget
	start int64
	n     int64
	done  bool
}

// Write appends to the member.
func (u *archiveUpload) Write(p []byte) (int, error) {
	n, err := u.t.f.WriteAt(p, u.start+u.n)
	u.n += int64(n)
	return n, err
}

func (u *archiveUpload) commit(_ context.Context, dg digest.Digest, size int64) error {
	if u.n != size {
		return fmt.Errorf("%w: %d bytes were written, %d announced", ErrCorrupt, u.n, size)
	}
	if err := u.t.header(blobName(dg), u.start-tarBlock, size); err != nil {
		return err
	}
	u.t.mu.Lock()
	defer u.t.mu.Unlock()
	if _, twice := u.t.members[dg]; !twice {
		u.t.members[dg] = member{u.start, size}
		u.t.off = (u.start + size + tarBlock - 1) &^ (tarBlock - 1)
	}
	u.release()
	return nil
}

func (u *archiveUpload) abort() {
	u.t.mu.Lock()
	defer u.t.mu.Unlock()
	u.release()
}

// release lets the next upload begin; what this one wrote is written over unless it was
// committed. The lock is held.
func (u *archiveUpload) release() {
	if !u.done {
		u.done, u.t.busy = true, false
		u.t.free.Broadcast()
	}
}

// header writes the header of a member.
func (t *archiveTarget) header(name string, at, size int64) error {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, Format: tar.FormatGNU}); err != nil {
		return err
	}
	_, err := t.f.WriteAt(b.Bytes(), at)
	return err
}

// add appends a small member.
func (t *archiveTarget) add(name string, data []byte) error {
	if err := t.header(name, t.off, int64(len(data))); err != nil {
		return err
	}
	if _, err := t.f.WriteAt(data, t.off+tarBlock); err != nil {
		return err
	}
	t.off = (t.off + tarBlock + int64(len(data)) + tarBlock - 1) &^ (tarBlock - 1)
	return nil
}

func (t *archiveTarget) putManifest(ctx context.Context, raw []byte, d Descriptor) error {
	return put(ctx, t, raw, d)
}

func (t *archiveTarget) tag(ctx context.Context, raw []byte, d Descriptor, name string) error {
	if t.docker && !d.IsManifest() {
		return fmt.Errorf("%w: docker-archive: holds images for one platform: choose one", ErrUnsupported)
	}
	if err := put(ctx, t, raw, d); err != nil {
		return err
	}
	t.index.rename(d, name)
	return nil
}

// finish writes what makes a layout of the blobs, and gives the file its name.
func (t *archiveTarget) finish(ctx context.Context) error {
	index, err := json.Marshal(t.index)
	if err != nil {
		return err
	}
	docker, err := t.dockerManifest(ctx)
	if err != nil {
		return err
	}
	// A blob that was given up may have left bytes behind the last member.
	err = errors.Join(t.f.Truncate(t.off), t.add(indexFile, index), t.add(layoutFile, []byte(layoutVersion)))
	if docker != nil {
		err = errors.Join(err, t.add(dockerManifest, docker))
	}
	err = errors.Join(err, t.f.Truncate(t.off+2*tarBlock), t.f.Sync())
	if err != nil {
		return err
	}
	if err := os.Rename(t.f.Name(), t.path); err != nil {
		return err
	}
	t.done = true
	return nil
}

// dockerManifest is the list of images for docker load; nil if there is one that it
// cannot read.
func (t *archiveTarget) dockerManifest(ctx context.Context) ([]byte, error) {
	var list []dockerEntry
	for i := range t.index.Manifests {
		d := &t.index.Manifests[i]
		if !d.IsManifest() {
			return nil, nil
		}
		raw, _, err := t.manifest(ctx, Ref{Digest: d.Digest})
		if err != nil {
			return nil, err
		}
		m, err := parseManifest(raw)
		if err != nil {
			return nil, err
		}
		e := dockerEntry{Config: blobName(m.Config.Digest), Layers: []string{}, RepoTags: []string{}}
		for _, l := range m.Layers {
			if l.IsNydusBlob() {
				return nil, nil
			}
			e.Layers = append(e.Layers, blobName(l.Digest))
		}
		for _, n := range names(d) {
			if _, err := parseRegistry(n); err == nil && bytes.ContainsRune([]byte(n), ':') {
				e.RepoTags = append(e.RepoTags, n)
			}
		}
		list = append(list, e)
	}
	return json.Marshal(list)
}
