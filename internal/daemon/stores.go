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
	dir      string
	amplify  uint64
	prefetch prefetchKey
	limit    limitKey
}

// A prefetchKey is how prefetches ask: a rate in bytes per second (0: none), requests at
// once, the bytes of each, and whether whole blobs are streamed.
type prefetchKey struct {
	rate, requests, bytes uint64
	stream                bool
}

// A limitKey is a cache directory, with what is beneath it, and its limit; 0 for none.
type limitKey struct {
	root string
	max  uint64
}

// stores are the cache directories in use, each with the number of its users.
type stores struct {
	o      opener.Opener
	log    *slog.Logger
	limits Limits

	mu    sync.Mutex
	m     map[storeKey]*leasedStore
	bound map[limitKey]*leasedLimit
}

type leasedStore struct {
	*blobcache.Store
	users int
}

type leasedLimit struct {
	*blobcache.Limit
	users int
}

// lease returns the store for a configuration with a file cache, and what gives
// it back. root is the cache directory that the user named, which the store's may be
// beneath: its limit is for both.
func (s *stores) lease(c *config.Config, root string) (*blobcache.Store, func(), error) {
	dir, err := filepath.Abs(c.Cache.FileCache.WorkDir)
	if err != nil {
		return nil, nil, err
	}
	if root, err = filepath.Abs(root); err != nil {
		return nil, nil, err
	}
	key := storeKey{dir: dir, amplify: c.Rafs.BatchSize, prefetch: prefetchOf(c),
		limit: limitKey{root, cmp.Or(c.Cache.FileCache.SizeLimit, s.limits.CacheBytes)}}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.m[key]
	if st == nil {
		bs, err := blobcache.NewStore(s.o, blobcache.Options{
			Dir: dir, Workers: int(s.limits.Decompressors), MaxFetchBytes: s.limits.FetchBytes,
			Amplify: key.amplify, MaxRequestBytes: min(max(defaultRequest, key.amplify), maxRequest), Limit: s.limit(key.limit), Log: s.log,
			PrefetchRate: key.prefetch.rate, PrefetchRequests: int(key.prefetch.requests), PrefetchBytes: min(key.prefetch.bytes, maxRequest),
			PrefetchStream: key.prefetch.stream,
		})
		if err != nil {
			s.unlimit(key.limit)()
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
	if !last {
		return
	}
	_ = st.Close()
	s.mu.Lock()
	end := s.unlimit(key.limit)
	s.mu.Unlock()
	end()
}

// limit gives the limit of a store, nil for none. Preconditions: mu is held.
func (s *stores) limit(key limitKey) *blobcache.Limit {
	if key.max == 0 {
		return nil
	}
	l := s.bound[key]
	if l == nil {
		l = &leasedLimit{Limit: blobcache.NewLimit(s.o, key.max, s.log, key.root, filepath.Join(key.root, blobcache.Uncompressed))}
		if s.bound == nil {
			s.bound = map[limitKey]*leasedLimit{}
		}
		s.bound[key] = l
	}
	l.users++
	return l.Limit
}

// unlimit takes a store from its limit and gives what is to be done without the lock
// then. Preconditions: mu is held.
func (s *stores) unlimit(key limitKey) func() {
	l := s.bound[key]
	if l == nil {
		return func() {}
	}
	if l.users--; l.users > 0 {
		return func() {}
	}
	delete(s.bound, key)
	return l.Close
}

// families are the counters of the directories that have a limit.
func (s *stores) families(f *familySet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, l := range s.bound {
		u := l.Usage()
		label := []string{"dir", key.root}
		f.gauge("vrafs_cache_limit_bytes", "What a cache directory may take on the disk.", float64(u.Limit), label...)
		f.gauge("vrafs_cache_used_bytes", "What a cache directory takes on the disk, as last measured.", float64(u.Bytes), label...)
		f.counter("vrafs_cache_evicted_bytes_total", "What was freed in a cache directory to keep its limit.", u.Evicted, label...)
	}
}

const (
	defaultRequest = 1 << 20
	// maxRequest bounds one request whatever a configuration says: its bytes are held in
	// memory.
	maxRequest = 16 << 20
)

// prefetchOf is the table of the cache, or that of the file system where the cache has
// none.
func prefetchOf(c *config.Config) prefetchKey {
	p := &c.Cache.Prefetch
	if !p.Enable {
		p = &c.Rafs.Prefetch
	}
	if !p.Enable {
		return prefetchKey{}
	}
	return prefetchKey{rate: p.BandwidthLimit, requests: p.Threads, bytes: p.BatchSize, stream: p.StreamPrefetch}
}
