package blobcache

import "time"

// Stats are counters of a view or of a store since it was opened.
type Stats struct {
	Files []string // names in Dir of the data files that were opened
	Dir   string

	Reads       uint64 // TryRead calls
	WholeHits   uint64 // TryRead calls that needed nothing else
	PartialHits uint64 // TryRead calls that gave some bytes
	Entries     uint64 // chunks that were stored

	Requests       uint64 // back-end requests
	RequestErrors  uint64
	RequestBytes   uint64 // stored bytes that came
	Mismatches     uint64 // wrong digests or CRCs, of the back end or in the cache file
	Rejected       uint64 // chunks given up after the second attempt
	Unstored       uint64 // chunks served without caching
	FetchBytes     uint64 // bytes in flight now
	PrefetchBytes  uint64 // stored bytes that came by prefetch
	PrefetchChunks uint64 // chunks that prefetch asked for
	PrefetchMerged uint64 // requests that it took

	PrefetchBegin, PrefetchEnd time.Time // zero: not yet
	Ready                      bool      // every chunk of every blob is verified
}

// BlobState says how much of one blob is local.
type BlobState struct {
	ID       string
	Chunks   uint32 // 0: unknown
	Verified uint32 // chunks that this image can read without the back end
}

// Stats gives the counters of the view.
func (c *Cache) Stats() Stats { return Stats{} }

// BlobStates gives the state of every blob in the order of the image's blob table.
func (c *Cache) BlobStates() []BlobState { return nil }
