package daemon

import (
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
	key := storeKey{dir: dir, amplify: c.Rafs.BatchSize, prefetchRate: prefetchRate(c)}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.m[key]
	if st == nil {
		bs, err := blobcache.NewStore(s.o, blobcache.Options{
			Dir: dir, Workers: int(s.limits.Decompressors), MaxFetchBytes: s.limits.FetchBytes,
			Amplify: key.amplify, PrefetchRate: key.prefetchRate, Log: s.log,
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

// prefetchRate is the limit in bytes per second, 0 for none.
func prefetchRate(c *config.Config) uint64 {
	if r := c.Cache.Prefetch.BandwidthLimit; r != 0 {
		return r
	}
	return c.Rafs.Prefetch.BandwidthLimit
}
