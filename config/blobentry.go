package config

import (
	"fmt"
	"strings"
)

// A BlobEntry is one image bound to a singleton daemon (PUT /api/v2/blobs).
type BlobEntry struct {
	Type         string // "bootstrap", or "datablob" inside the daemon
	ID           string
	DomainID     string
	MetadataPath string
	Config       *Config
}

// ParseBlobEntry reads one entry in either form. Errors are those of Parse.
func ParseBlobEntry(text []byte) (*BlobEntry, error) {
	r, err := readJSON(text)
	if err != nil {
		return nil, err
	}
	return readBlobEntry(r, r.root())
}

// readJSON opens a document that can't be TOML.
func readJSON(text []byte) (*reader, error) {
	if len(text) > MaxSize {
		return nil, ErrTooBig
	}
	doc, err := parseJSON(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParse, err)
	}
	return &reader{doc: doc}, nil
}

// ParseBlobEntries reads {"blobs":[...]}, the start-up file of a singleton daemon.
func ParseBlobEntries(text []byte) ([]*BlobEntry, error) {
	r, err := readJSON(text)
	if err != nil {
		return nil, err
	}
	var out []*BlobEntry
	for _, t := range r.root().tables("blobs") {
		e, err := readBlobEntry(r, t)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParse, r.err)
	}
	return out, nil
}

func readBlobEntry(r *reader, t table) (*BlobEntry, error) {
	e := &BlobEntry{}
	t.strReq("type", &e.Type)
	t.strReq("id", &e.ID)
	t.str("domain_id", &e.DomainID)
	if v2, ok := t.table("config_v2"); ok {
		v2.str("metadata_path", &e.MetadataPath)
		// The object may come without a version: it is known to be of version 2.
		if v2.m["version"] == nil {
			v2.m["version"] = uint64(2)
		}
		e.Config = readV2(v2)
	} else if v1, ok := t.table("config"); ok {
		e.Config = readEntryV1(v1)
		v1.str("metadata_path", &e.MetadataPath)
	} else {
		t.missing("config_v2")
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParse, r.err)
	}
	if err := e.Config.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	for _, id := range []string{e.ID, e.DomainID} {
		if strings.Contains(id, "/") {
			return nil, fmt.Errorf("%w: an id contains a slash", ErrInvalid)
		}
	}
	return e, nil
}

// readEntryV1 reads the flat legacy form, which implies prefetch_all.
func readEntryV1(t table) *Config {
	c := defaults()
	t.str("id", &c.ID)
	b := &Backend{}
	t.strReq("backend_type", &b.Type)
	if s, ok := t.table("backend_config"); ok {
		b.read(b.Type, s)
	} else {
		t.missing("backend_config")
	}
	c.Backend = b
	t.str("cache_type", &c.Cache.Type)
	if s, ok := t.table("cache_config"); ok {
		switch c.Cache.Kind() {
		case FSCacheOn:
			c.Cache.FSCache = readFSCache(s)
		case FileCacheOn:
			c.Cache.FileCache = readFileCache(s)
		}
	}
	p := defaultPrefetch(true)
	if s, ok := t.table("prefetch_config"); ok {
		s.bool("enable", &p.Enable)
		s.uint("threads_count", &p.Threads, maxThreads)
		s.uint("merging_size", &p.BatchSize, maxBatch)
		s.uint("bandwidth_rate", &p.BandwidthLimit, 1<<63-1)
	}
	c.Cache.Prefetch, c.Rafs.Prefetch = p, p
	return c
}
