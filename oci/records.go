package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Records remember what layers were converted to, so that a conversion goes on where it
// was killed, and the next image with the same layers needs them only once. They hold
// names only: the blob itself is where it was put.
//
//	DIR/<digest of the layer and the recipe>.json
type records struct {
	dir string // "" keeps nothing
}

// A record is the conversion of one layer.
type record struct {
	Source digest.Digest `json:"source"`
	Recipe string        `json:"recipe"`
	Blob   digest.Digest `json:"blob"`
	Size   int64         `json:"size"`
	// Boot is the digest of the bootstrap inside the blob.
	Boot digest.Digest `json:"boot"`
	// TOC is that of the entries of its table of contents, if it has one.
	TOC digest.Digest `json:"toc,omitempty"`
	// Places are repositories that have the blob, newest first.
	Places []string `json:"places,omitempty"`
}

// maxPlaces and maxRecord bound a record.
const (
	maxPlaces = 8
	maxRecord = 64 << 10
)

func (r *records) path(source digest.Digest, recipe string) string {
	sum := sha256.Sum256([]byte(source.String() + "\n" + recipe))
	return filepath.Join(r.dir, hex.EncodeToString(sum[:])+".json")
}

// find looks for a conversion. What cannot be read or is damaged is as good as missing:
// the layer is converted again.
func (r *records) find(source digest.Digest, recipe string) (*record, bool) {
	if r.dir == "" {
		return nil, false
	}
	raw, err := readLimited(r.path(source, recipe), maxRecord)
	if err != nil {
		return nil, false
	}
	var rec record
	if err := json.Unmarshal(raw, &rec); err != nil || rec.Source != source || rec.Recipe != recipe || rec.check() != nil {
		return nil, false
	}
	return &rec, true
}

func (rec *record) check() error {
	_, err := parseDigest(rec.Blob.String())
	_, berr := parseDigest(rec.Boot.String())
	if err = errors.Join(err, berr); err == nil && rec.Size <= 0 {
		err = fmt.Errorf("size %d", rec.Size)
	}
	return err
}

// keep stores a conversion that place has now.
func (r *records) keep(rec record, place Ref) error {
	if r.dir == "" {
		return nil
	}
	if place.Kind == KindRegistry {
		name := place.Registry + "/" + place.Repo
		rec.Places = slices.DeleteFunc(slices.Clone(rec.Places), func(p string) bool { return p == name })
		rec.Places = slices.Insert(rec.Places, 0, name)
		rec.Places = rec.Places[:min(len(rec.Places), maxPlaces)]
	}
	raw, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	path := r.path(rec.Source, rec.Recipe)
	if old, err := os.ReadFile(path); err == nil && string(old) == string(raw) {
		return nil
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("records: %w", err)
	}
	f, err := os.CreateTemp(r.dir, ".record-")
	if err != nil {
		return fmt.Errorf("records: %w", err)
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("records: %w", err)
	}
	return nil
}

// DefaultRecords is the directory for records of conversions in the user's cache, ""
// if there is none.
func DefaultRecords() string {
	dir, err := os.UserCacheDir()
	if errors.Is(err, fs.ErrNotExist) || err != nil {
		return ""
	}
	return filepath.Join(dir, "vrafs", "conversions")
}
