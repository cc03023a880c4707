package daemon

import (
	"cmp"
	"log/slog"
	"path/filepath"
	"sync"

	"vrafs/blobcache"
	"vrafs/config"
	"vrafs/internal/opener"
)

// A storeKey says which images share a cache directory and the way it is filled.
type storeKey struct {
	dir          string
	amplify      uint64
	prefetchRate uint64
	limit        uint64
}

// stores are the cache directories in use, each with the number of its users.
type stores struct {
	o      opener.Opener
	log    *slog.Logger
	limits Limits

	mu sync.Mutex
	m  map[storeKey]*leasedStore
}

type leasedStore struct {
	*blobcache.Store
	users int
}

// lease returns the store for a configuration with a file cache, and what gives
// it back.
func (s *stores) lease(c *config.Config) (*blobcache.Store, func(), error) {
	dir, err := filepath.Abs(c.Cache.FileCache.WorkDir)
	if err != nil {
		return nil, nil, err
	}
	key := storeKey{dir: dir, amplify: c.Rafs.BatchSize, prefetchRate: prefetchRate(c),
		limit: cmp.Or(c.Cache.FileCache.SizeLimit, s.limits.CacheBytes)}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.m[key]
	if st == nil {
		bs, err := blobcache.NewStore(s.o, blobcache.Options{
			Dir: dir, Workers: int(s.limits.Decompressors), MaxFetchBytes: s.limits.FetchBytes,
			Amplify: key.amplify, PrefetchRate: key.prefetchRate, MaxBytes: key.limit, Log: s.log,
		})
		if err != nil {
			return nil, nil, err
		}
		st = &leasedStore{Store: bs}
		if s.m == nil {
			s.m = map[storeKey]*leasedStore{}
		}
		s.m[key] = st
	}
	st.users++
	return st.Store, sync.OnceFunc(func() { s.release(key, st) }), nil
}

// release closes a store after its last user. Closing waits for its workers, so
// it happens without the lock.
func (s *stores) release(key storeKey, st *leasedStore) {
	s.mu.Lock()
	st.users--
	last := st.users == 0
	if last {
		delete(s.m, key)
	}
	s.mu.Unlock()
	if last {
		_ = st.Close()
	}
}

// families are the counters of the directories that have a limit.
func (s *stores) families(f *familySet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, st := range s.m {
		if key.limit == 0 {
			continue
		}
		u := st.Usage()
		label := []string{"dir", key.dir}
		f.gauge("vrafs_cache_limit_bytes", "What a cache directory may take on the disk.", float64(u.Limit), label...)
		f.gauge("vrafs_cache_used_bytes", "What a cache directory takes on the disk, as last measured.", float64(u.Bytes), label...)
		f.counter("vrafs_cache_evicted_bytes_total", "What was freed in a cache directory to keep its limit.", u.Evicted, label...)
	}
}

// prefetchRate is the limit in bytes per second, 0 for none.
func prefetchRate(c *config.Config) uint64 {
	if r := c.Cache.Prefetch.BandwidthLimit; r != 0 {
		return r
	}
	return c.Rafs.Prefetch.BandwidthLimit
}
