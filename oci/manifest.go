package oci

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/opencontainers/go-digest"
)

// Bounds of what is read into memory. Registries take manifests of 4 MiB at most
// (distribution-spec, "Pushing manifests").
const (
	maxManifest = 4 << 20
	maxConfig   = 8 << 20
	maxLayers   = 4096
	maxEntries  = 4096 // of an index
)

// shape is what tells the kinds of documents apart.
type shape struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Layers        json.RawMessage `json:"layers"`
	Manifests     json.RawMessage `json:"manifests"`
	FSLayers      json.RawMessage `json:"fsLayers"`
}

// mediaTypeOf finds out what a document is: told is what its descriptor or the
// registry says of it. A document that could be read as two kinds, or as another than
// is told, is refused.
func mediaTypeOf(raw []byte, told string) (string, error) {
	var s shape
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("%w: manifest: %w", ErrCorrupt, err)
	}
	if s.FSLayers != nil || s.SchemaVersion == 1 {
		return "", fmt.Errorf("%w: a manifest of schema 1, which has no configuration: push the image again with a current client", ErrUnsupported)
	}
	if s.SchemaVersion != 2 {
		return "", fmt.Errorf("%w: manifest of schema version %d", ErrUnsupported, s.SchemaVersion)
	}
	index := s.Manifests != nil
	if index == (s.Layers != nil) {
		return "", fmt.Errorf("%w: manifest: it has layers and manifests, or neither", ErrCorrupt)
	}
	typ := s.MediaType
	if typ == "" {
		typ = told
	}
	d := Descriptor{MediaType: typ}
	if typ == "" || typ == "application/json" || typ == "text/plain" {
		d.MediaType = MediaTypeManifest
		if index {
			d.MediaType = MediaTypeIndex
		}
	}
	t := Descriptor{MediaType: told}
	switch {
	case index && !d.IsIndex() || !index && !d.IsManifest():
		return "", fmt.Errorf("%w: manifest: %.100q does not fit its content", ErrCorrupt, typ)
	case (t.IsIndex() || t.IsManifest()) && told != d.MediaType:
		return "", fmt.Errorf("%w: manifest: it says to be %.100q, whoever names it says %.100q", ErrCorrupt, d.MediaType, told)
	}
	return d.MediaType, nil
}

// parseManifest reads a manifest of a known kind.
func parseManifest(raw []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", ErrCorrupt, err)
	}
	if len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("%w: manifest: %d layers, at most %d are read", ErrCorrupt, len(m.Layers), maxLayers)
	}
	if err := m.Config.check("configuration"); err != nil {
		return nil, err
	}
	for i := range m.Layers {
		if err := m.Layers[i].check(fmt.Sprintf("layer %d", i+1)); err != nil {
			return nil, err
		}
	}
	if m.Subject != nil {
		if err := m.Subject.check("subject"); err != nil {
			return nil, err
		}
	}
	return &m, nil
}

// parseIndex reads an index of a known kind.
func parseIndex(raw []byte) (*Index, error) {
	var x Index
	if err := json.Unmarshal(raw, &x); err != nil {
		return nil, fmt.Errorf("%w: index: %w", ErrCorrupt, err)
	}
	if len(x.Manifests) > maxEntries {
		return nil, fmt.Errorf("%w: index: %d entries, at most %d are read", ErrCorrupt, len(x.Manifests), maxEntries)
	}
	for i := range x.Manifests {
		if err := x.Manifests[i].check(fmt.Sprintf("entry %d", i+1)); err != nil {
			return nil, err
		}
	}
	return &x, nil
}

// LayersSize is what the layers take as they are stored, in bytes.
func (m *Manifest) LayersSize() int64 {
	var n int64
	for i := range m.Layers {
		n += min(m.Layers[i].Size, math.MaxInt64-n) // sizes may be any
	}
	return n
}

// newIndex is an index without entries, or Docker's list.
func newIndex(docker bool) Index {
	if docker {
		return Index{SchemaVersion: 2, MediaType: MediaTypeDockerList}
	}
	return Index{SchemaVersion: 2, MediaType: MediaTypeIndex}
}

// encode is the document as it is stored, and its descriptor.
func encode(doc any, mediaType string) ([]byte, Descriptor, error) {
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, Descriptor{}, err
	}
	return raw, Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, nil
}
