package oci

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
)

// A Config is what this package reads of an image's configuration (image-spec,
// "config.md"). Everything else in it is kept when it is written again.
type Config struct {
	Platform
	Created *time.Time `json:"created,omitempty"`
	Author  string     `json:"author,omitempty"`
	RootFS  RootFS     `json:"rootfs"`
	History []History  `json:"history,omitempty"`
	// Config is the part for the runtime, as it is in the image.
	Config json.RawMessage `json:"config,omitempty"`
}

// A RootFS lists the digests of the uncompressed layers.
type RootFS struct {
	Type    string          `json:"type"`
	DiffIDs []digest.Digest `json:"diff_ids"`
}

// A History entry says how a layer came about.
type History struct {
	Created    *time.Time `json:"created,omitempty"`
	CreatedBy  string     `json:"created_by,omitempty"`
	Author     string     `json:"author,omitempty"`
	Comment    string     `json:"comment,omitempty"`
	EmptyLayer bool       `json:"empty_layer,omitempty"`
}

func parseConfig(raw []byte) (*Config, error) {
	var c Config
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("%w: configuration: %w", ErrCorrupt, err)
	}
	if len(c.RootFS.DiffIDs) > maxLayers {
		return nil, fmt.Errorf("%w: configuration: %d layers, at most %d are read", ErrCorrupt, len(c.RootFS.DiffIDs), maxLayers)
	}
	return &c, nil
}

// rewriteConfig is the configuration raw with other layers and history. What this
// package does not know stays as it is.
func rewriteConfig(raw []byte, diffIDs []digest.Digest, history []History) ([]byte, error) {
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("%w: configuration: %w", ErrCorrupt, err)
	}
	rootfs, err := json.Marshal(RootFS{"layers", diffIDs})
	if err != nil {
		return nil, err
	}
	doc["rootfs"] = rootfs
	if len(history) == 0 {
		delete(doc, "history")
	} else if doc["history"], err = json.Marshal(history); err != nil {
		return nil, err
	}
	return json.Marshal(doc)
}
