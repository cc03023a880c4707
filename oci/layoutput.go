package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
)

// tempPrefix begins the names of blobs that are being written, beside the index and not
// among the blobs, where other tools take every file for one. Its writer holds a lock on
// such a file: one without was left by a process that was killed.
const tempPrefix = ".vrafs-upload-"

// indexPrefix begins the names of index files that are being written, which only happens
// under the lock of the directory.
const indexPrefix = ".vrafs-index-"

// createLayout opens a layout for writing, and makes it if dir is missing or empty.
func createLayout(dir string) (*layoutTarget, error) {
	exists, err := looksLikeLayout(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, blobsDir, digest.SHA256.String()), 0o755); err != nil {
		return nil, err
	}
	t := &layoutTarget{layout{dir}}
	return t, t.locked(func() error {
		if !exists {
			// The index comes first: what has the other file is taken for a layout.
			if err := t.change(func(*Index) {}); err != nil {
				return err
			}
			if err := t.replace(layoutFile, []byte(layoutVersion)); err != nil {
				return err
			}
		}
		return t.sweep()
	})
}

// A layoutTarget is a layout that is written to, perhaps by several processes at once.
type layoutTarget struct{ layout }

// locked runs f while no other of our processes does the like in this layout.
func (t *layoutTarget) locked(f func() error) error {
	dir, err := os.Open(t.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", t.dir, err)
	}
	return errors.Join(f(), dir.Sync())
}

// sweep removes what killed processes left.
func (t *layoutTarget) sweep() error {
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(t.dir, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), indexPrefix):
			os.Remove(path)
		case strings.HasPrefix(e.Name(), tempPrefix):
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				continue // committed meanwhile
			}
			if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
				os.Remove(path)
			}
			f.Close()
		}
	}
	return nil
}

func (t *layoutTarget) has(_ context.Context, d Descriptor) (bool, error) {
	fi, err := os.Lstat(t.blobPath(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && fi.Mode().IsRegular() && fi.Size() == d.Size, err
}

func (t *layoutTarget) mount(context.Context, Descriptor, Ref) (bool, error) { return false, nil }

func (t *layoutTarget) finish(context.Context) error { return nil }

func (t *layoutTarget) upload(context.Context) (upload, error) {
	for {
		f, err := os.CreateTemp(t.dir, tempPrefix)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if _, err := os.Lstat(f.Name()); err == nil {
			return &layoutUpload{t, f}, nil
		}
		f.Close() // another process took it for one that was left
	}
}

// A layoutUpload is a file that gets its name when it is whole and on the disk.
type layoutUpload struct {
	t *layoutTarget
	f *os.File // nil after commit or abort
}

// Write appends to the file.
func (u *layoutUpload) Write(p []byte) (int, error) { return u.f.Write(p) }

func (u *layoutUpload) commit(_ context.Context, dg digest.Digest, size int64) error {
	fi, err := u.f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() != size {
		return fmt.Errorf("%w: %d bytes were written, %d announced", ErrCorrupt, fi.Size(), size)
	}
	if err := errors.Join(u.f.Chmod(0o644), u.f.Sync()); err != nil {
		return err
	}
	if err := os.Rename(u.f.Name(), u.t.blobPath(dg)); err != nil {
		return err
	}
	err = u.f.Close()
	u.f = nil
	return err
}

func (u *layoutUpload) abort() {
	if u.f != nil {
		os.Remove(u.f.Name())
		u.f.Close()
		u.f = nil
	}
}

func (t *layoutTarget) putManifest(ctx context.Context, raw []byte, d Descriptor) error {
	return put(ctx, t, raw, d)
}

func (t *layoutTarget) tag(ctx context.Context, raw []byte, d Descriptor, name string) error {
	if err := put(ctx, t, raw, d); err != nil {
		return err
	}
	return t.locked(func() error {
		return t.change(func(x *Index) { x.rename(d, name) })
	})
}

// rename lets name stand for d in a layout's index.
func (x *Index) rename(d Descriptor, name string) {
	x.Manifests = slices.DeleteFunc(x.Manifests, func(e Descriptor) bool {
		if name == "" {
			return e.Digest == d.Digest && len(names(&e)) == 0
		}
		return slices.Contains(names(&e), name)
	})
	e := Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Platform: d.Platform, ArtifactType: d.ArtifactType}
	if name != "" {
		e.Annotations = map[string]string{AnnotationRefName: name}
	}
	x.Manifests = append(x.Manifests, e)
}

// change rewrites the index. The caller holds the lock.
func (t *layoutTarget) change(f func(*Index)) error {
	x, err := t.index()
	if errors.Is(err, ErrNotFound) {
		x, err = &Index{SchemaVersion: 2, MediaType: MediaTypeIndex, Manifests: []Descriptor{}}, nil
	}
	if err != nil {
		return err
	}
	f(x)
	raw, err := json.Marshal(x)
	if err != nil {
		return err
	}
	return t.replace(indexFile, raw)
}

// replace writes a file so that it is whole whenever it can be seen. The caller holds
// the lock.
func (t *layoutTarget) replace(name string, data []byte) error {
	f, err := os.CreateTemp(t.dir, indexPrefix)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(t.dir, name))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
