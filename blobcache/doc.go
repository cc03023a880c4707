// Package blobcache keeps verified chunk data in local files and fetches what is
// missing.
//
//	<id>.blob.data            chunks at their uncompressed offsets, sparse    shared with nydusd
//	<id>.blob.data.chunk_map  bit i: somebody says that chunk i is there      shared with nydusd
//	<id>.blob.meta, .digest   chunk info array and header; digests            shared with nydusd
//	<id>.chunk_map            entry i: the proof chunk i passed               ours (verified.go)
//
//	TryRead   private bits of the image --all set--> preadv2 into the caller's buffers
//	             | ErrMiss
//	Fetch     proof in the sidecar? -> chunk in the file, digest right? -> back end:
//	             one flight per chunk, merged ranges -> decode, digest, store
//	Read      blocking preadv2; what could not be stored comes from a memory file
//
// Trusted for nothing: the back end, the files of the directory (any process may
// write there, a nydusd at the same time as we), and the image beyond its
// digests. A chunk is served only if an image that is served here names its digest
// and the bytes in the file had it after this boot. The order of writing is
//
//	data visible, digest checked, then our proof, then the shared bit
//
// and no proof of another boot, or of another data file, is believed. Proofs are
// bound to place, size and digest, so images that call different chunks by one
// number do not vouch for each other.
//
// Limits, on purpose. A foreign nydusd, or whoever else may write to the
// directory, can overwrite a chunk after we verified it: a cache that must hold
// against that needs a directory of its own.
//
// Eviction (evict.go, silence.go, idleblob.go, limit.go) clears bits and punches chunks
// out of a data file only under the kernel's write lease: nobody else has the file open
// or mapped. The lease does not count copies of our own descriptor, so none ever leaves
// this package.
//
// Survey, Evict, Idle and Verify (survey.go, idleblob.go, verify.go) look after a
// directory from outside of the daemons that use it.
//
// Goroutines and locks. TryRead takes no lock and writes memory that other readers
// use only for the first read of a chunk after an eviction; Store.epoch tells it when
// what it read may be gone. blobFile.mu is held by an eviction and shared by who stores
// or marks a chunk; nothing else is taken under it. A Fetch waits without holding
// anything. view.mu is held while the files of a blob are opened and its tables loaded,
// also from the network, and may be waited for with a context, as may another view that
// is opening the same files. Store.mu, Cache.mu and scheduler.mu are short, held over no
// opening and no closing, and are taken in the order view.mu, Store.mu, scheduler.mu,
// Cache.mu. Limit.mu is held while chunks are evicted and comes before all of them.
//
// Source: RAFS, sections 4 (data blobs), 5 (local cache files) and 8.3 (data
// validation); docs/design/cache.md.
package blobcache
