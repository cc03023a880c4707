package config

import (
	"errors"
	"fmt"
)

// Parse reads a configuration in any of the three formats. The error is of class
// ErrTooBig, ErrParse or ErrInvalid and, where one key is to blame, a *KeyError.
func Parse(text []byte) (*Config, error) {
	if len(text) > MaxSize {
		return nil, ErrTooBig
	}
	doc, jsonErr := parseJSON(text)
	if jsonErr == nil {
		return fromJSON(doc)
	}
	doc, tomlErr := parseTOML(text)
	if tomlErr == nil {
		return fromV2(doc)
	}
	if looksLikeJSON(text) {
		return nil, fmt.Errorf("%w: %w", ErrParse, jsonErr)
	}
	return nil, fmt.Errorf("%w: %w", ErrParse, tomlErr)
}

// fromJSON decides between the two JSON shapes. A text that has the marks of both
// is taken as version 2 if it makes a usable one.
func fromJSON(doc *document) (*Config, error) {
	_, v1 := doc.root["device"]
	if isInteger(doc.root["version"]) {
		c, err := fromV2(doc)
		if !v1 || (err == nil && c.Backend != nil) {
			return c, err
		}
	}
	if v1 {
		return fromV1(doc)
	}
	if _, ok := doc.root["version"]; ok {
		return fromV2(doc)
	}
	return nil, fmt.Errorf("%w: %w", ErrParse, errors.New("neither version nor device is given"))
}

func fromV2(doc *document) (*Config, error) {
	r := &reader{doc: doc}
	c := readV2(r.root())
	return finish(c, r)
}

func fromV1(doc *document) (*Config, error) {
	r := &reader{doc: doc}
	c := readV1(r.root())
	return finish(c, r)
}

func finish(c *Config, r *reader) (*Config, error) {
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParse, r.err)
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return c, nil
}

func looksLikeJSON(text []byte) bool {
	for _, b := range text {
		switch b {
		case ' ', '\t', '\r', '\n':
			continue
		}
		return b == '{'
	}
	return false
}

func defaults() *Config {
	return &Config{
		Version:          2,
		ExternalBackends: []ExternalBackend{},
		Cache:            Cache{Prefetch: defaultPrefetch(false)},
		Rafs: Rafs{
			Mode:      "direct",
			BatchSize: defaultBatch,
			Prefetch:  defaultPrefetch(false),
		},
	}
}

const (
	defaultBatch   = 1 << 20
	defaultThreads = 8
)

func defaultPrefetch(all bool) Prefetch {
	return Prefetch{Threads: defaultThreads, BatchSize: defaultBatch, PrefetchAll: all}
}
