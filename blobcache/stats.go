package blobcache

import (
	"sync/atomic"
	"time"
)

// Stats are the counters of an image's view since it was opened.
type Stats struct {
	Dir   string
	Files []string // names in Dir of the data files that were opened

	Reads       uint64 // TryRead calls
	WholeHits   uint64 // TryRead calls that needed nothing else
	PartialHits uint64 // TryRead calls that gave some of the bytes
	Entries     uint64 // chunks that were stored

	Requests      uint64 // back-end requests
	RequestErrors uint64
	RequestBytes  uint64 // stored bytes that came
	FetchBytes    uint64 // stored bytes under way now, in the whole store

	Mismatches uint64 // wrong digests or CRCs, from the back end or in the cache file
	Rejected   uint64 // chunks given up after the second attempt
	Unstored   uint64 // chunks served without caching

	PrefetchBytes  uint64 // stored bytes that came by prefetch
	PrefetchChunks uint64 // chunks that prefetch asked for
	PrefetchMerged uint64 // requests that it took

	PrefetchBegin, PrefetchEnd time.Time // zero: not yet
	PrefetchTime               time.Duration

	Ready bool // every chunk of every blob is verified
}

// BlobState says how much of one blob is local.
type BlobState struct {
	ID       string
	Chunks   uint32 // 0: unknown
	Verified uint32 // chunks that this process has verified for the image
}

// shards is the number of places that read counters are spread over.
const shards = 16

// nextShard numbers Readers.
var nextShard atomic.Uint32

// readCount counts reads of some Readers in cache lines of its own.
type readCount struct {
	whole, partial, none atomic.Uint64
	_                    [128 - 24]byte
}

// counters are what Stats shows.
type counters struct {
	shard [shards]readCount

	entries, unstored, mismatches, rejected       atomic.Uint64
	requests, requestErrors, requestBytes         atomic.Uint64
	prefetchBytes, prefetchChunks, prefetchMerged atomic.Uint64
	prefetchBegin, prefetchEnd                    atomic.Int64 // Unix nanoseconds
}

// read counts a TryRead of r.
func (c *counters) read(r *Reader, n int, err error) {
	if r.shard == 0 {
		r.shard = nextShard.Add(1)%shards + 1
	}
	s := &c.shard[r.shard-1]
	switch {
	case err == nil:
		s.whole.Add(1)
	case n > 0:
		s.partial.Add(1)
	default:
		s.none.Add(1)
	}
}

func (c *counters) begin() { c.prefetchBegin.CompareAndSwap(0, time.Now().UnixNano()) }

func (c *counters) end() { c.prefetchEnd.Store(time.Now().UnixNano()) }

// Stats gives the counters of the view.
func (c *Cache) Stats() Stats {
	n := &c.count
	st := Stats{
		Dir: c.store.opt.Dir, Entries: n.entries.Load(),
		Requests: n.requests.Load(), RequestErrors: n.requestErrors.Load(), RequestBytes: n.requestBytes.Load(),
		FetchBytes: c.store.sched.inflight(),
		Mismatches: n.mismatches.Load(), Rejected: n.rejected.Load(), Unstored: n.unstored.Load(),
		PrefetchBytes: n.prefetchBytes.Load(), PrefetchChunks: n.prefetchChunks.Load(), PrefetchMerged: n.prefetchMerged.Load(),
		Ready: true,
	}
	for i := range n.shard {
		whole, partial := n.shard[i].whole.Load(), n.shard[i].partial.Load()
		st.WholeHits += whole
		st.PartialHits += partial
		st.Reads += whole + partial + n.shard[i].none.Load()
	}
	begin, end := n.prefetchBegin.Load(), n.prefetchEnd.Load()
	if begin != 0 {
		st.PrefetchBegin = time.Unix(0, begin)
	}
	if end != 0 {
		st.PrefetchEnd = time.Unix(0, end)
		st.PrefetchTime = time.Duration(end - begin)
	}
	for _, v := range c.views {
		if v.open.Load() != nil {
			st.Files = append(st.Files, v.fileName())
		}
	}
	for _, b := range c.BlobStates() {
		st.Ready = st.Ready && b.Chunks == b.Verified
	}
	return st
}

func (v *view) fileName() string {
	if v.blob.Features.IsTarfs() {
		return v.blob.ID
	}
	return v.blob.ID + dataSuffix
}

// BlobStates gives the state of every blob in the order of the image's blob table.
func (c *Cache) BlobStates() []BlobState {
	list := make([]BlobState, 0, len(c.views))
	for _, v := range c.views {
		st := BlobState{ID: v.blob.ID, Chunks: v.blob.ChunkCount}
		if o := v.open.Load(); o != nil && !o.plain {
			st.Verified = o.count.Load()
		}
		list = append(list, st)
	}
	return list
}
