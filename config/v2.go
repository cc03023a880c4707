package config

import "math"

func readV2(t table) *Config {
	c := defaults()
	if !t.has("version") {
		t.missing("version")
	}
	version := uint64(2)
	t.uint("version", &version, math.MaxInt32)
	c.Version = int(version)
	t.str("id", &c.ID)
	if b, ok := t.table("backend"); ok {
		c.Backend = readBackendV2(b)
	}
	for _, e := range t.tables("external_backends") {
		c.ExternalBackends = append(c.ExternalBackends, readExternal(e))
	}
	if s, ok := t.table("cache"); ok {
		readCacheV2(s, &c.Cache)
	}
	if s, ok := t.table("rafs"); ok {
		readRafsV2(s, &c.Rafs)
	}
	if s, ok := t.table("overlay"); ok {
		c.Overlay = &Overlay{}
		s.strReq("upper_dir", &c.Overlay.UpperDir)
		s.strReq("work_dir", &c.Overlay.WorkDir)
	}
	return c
}

func readBackendV2(t table) *Backend {
	b := &Backend{}
	t.strReq("type", &b.Type)
	for _, name := range []string{LocalDiskType, LocalFSType, OSSType, S3Type, RegistryType, HTTPProxyType} {
		if s, ok := t.table(name); ok {
			b.read(name, s)
		}
	}
	return b
}

func readExternal(t table) ExternalBackend {
	var e ExternalBackend
	t.str("type", &e.Type)
	t.table("patch")
	t.table("config")
	return e
}

func readCacheV2(t table, c *Cache) {
	t.str("type", &c.Type)
	t.bool("compressed", &c.Compressed)
	t.bool("validate", &c.Validate)
	t.strs("allow_unverified", &c.AllowUnverified)
	readPrefetchV2(t, &c.Prefetch)
	if s, ok := t.table("filecache"); ok {
		c.FileCache = readFileCache(s)
	}
	if s, ok := t.table("fscache"); ok {
		c.FSCache = readFSCache(s)
	}
}

func readFileCache(t table) *FileCache {
	f := &FileCache{WorkDir: "."}
	t.str("work_dir", &f.WorkDir)
	t.bool("disable_indexed_map", &f.DisableIndexedMap)
	t.bool("enable_encryption", &f.EnableEncryption)
	t.bool("enable_convergent_encryption", &f.EnableConvergentEncryption)
	t.secret("encryption_key", &f.EncryptionKey)
	t.uint("size_limit", &f.SizeLimit, math.MaxInt64)
	return f
}

func readFSCache(t table) *FSCache {
	f := &FSCache{WorkDir: "."}
	t.str("work_dir", &f.WorkDir)
	return f
}

func readRafsV2(t table, c *Rafs) {
	t.str("mode", &c.Mode)
	t.uint("batch_size", &c.BatchSize, math.MaxInt64)
	t.bool("validate", &c.Validate)
	t.bool("enable_xattr", &c.EnableXattr)
	t.bool("iostats_files", &c.IOStatsFiles)
	t.bool("access_pattern", &c.AccessPattern)
	t.bool("latest_read_files", &c.LatestReadFiles)
	readPrefetchV2(t, &c.Prefetch)
}

// readPrefetchV2 reads the prefetch table below t, in which enable is required.
func readPrefetchV2(t table, p *Prefetch) {
	s, ok := t.table("prefetch")
	if !ok {
		return
	}
	if !s.has("enable") {
		s.missing("enable")
	}
	s.bool("enable", &p.Enable)
	s.uint("threads", &p.Threads, math.MaxInt64)
	s.uint("batch_size", &p.BatchSize, math.MaxInt64)
	s.uint("bandwidth_limit", &p.BandwidthLimit, math.MaxInt64)
	s.bool("prefetch_all", &p.PrefetchAll)
	s.bool("stream_prefetch", &p.StreamPrefetch)
}
