package config

import "math"

// readV1 reads the legacy shape and converts it as it goes.
func readV1(t table) *Config {
	c := defaults()
	c.Rafs.Mode = ""
	t.strReq("mode", &c.Rafs.Mode)
	t.bool("digest_validate", &c.Rafs.Validate)
	t.bool("iostats_files", &c.Rafs.IOStatsFiles)
	t.bool("access_pattern", &c.Rafs.AccessPattern)
	t.bool("latest_read_files", &c.Rafs.LatestReadFiles)
	t.bool("enable_xattr", &c.Rafs.EnableXattr)
	t.uint("amplify_io", &c.Rafs.BatchSize, math.MaxInt64)

	p := defaultPrefetch(true)
	if s, ok := t.table("fs_prefetch"); ok {
		s.bool("enable", &p.Enable)
		s.uint("threads_count", &p.Threads, math.MaxInt64)
		s.uint("merging_size", &p.BatchSize, math.MaxInt64)
		s.uint("bandwidth_rate", &p.BandwidthLimit, math.MaxInt64)
		s.bool("prefetch_all", &p.PrefetchAll)
		s.bool("stream_prefetch", &p.StreamPrefetch)
	}
	c.Rafs.Prefetch, c.Cache.Prefetch = p, p

	dev, ok := t.table("device")
	if !ok {
		t.missing("device")
		return c
	}
	dev.str("id", &c.ID)
	c.Backend = readBackendV1(dev)
	for _, e := range dev.tables("external_backends") {
		c.ExternalBackends = append(c.ExternalBackends, readExternal(e))
	}
	if s, ok := dev.table("cache"); ok {
		readCacheV1(s, &c.Cache)
	}
	return c
}

func readBackendV1(dev table) *Backend {
	b := &Backend{}
	t, ok := dev.table("backend")
	if !ok {
		dev.missing("backend")
		return b
	}
	t.strReq("type", &b.Type)
	s, ok := t.table("config")
	if !ok {
		t.missing("config")
		return b
	}
	switch b.Type {
	case LocalFSType, LocalDiskType, OSSType, S3Type, RegistryType:
		b.read(b.Type, s)
	default:
		t.r.fail(t.at("type"), "unsupported backend type")
	}
	return b
}

func readCacheV1(t table, c *Cache) {
	t.str("type", &c.Type)
	t.bool("compressed", &c.Compressed)
	t.bool("validate", &c.Validate)
	t.strs("allow_unverified", &c.AllowUnverified)
	if c.Kind() == NoCache {
		return
	}
	s, ok := t.table("config")
	if !ok {
		t.missing("config")
		return
	}
	if c.Kind() == FSCacheOn {
		c.FSCache = readFSCache(s)
	} else {
		c.FileCache = readFileCache(s)
	}
}
