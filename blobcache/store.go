package blobcache

import (
	"cmp"
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"vrafs/internal/opener"
)

// Options are the circumstances of a Store.
type Options struct {
	// Dir is the cache directory (work_dir in nydusd's configuration). It is made if
	// missing. If it can't be written, what is there is used and nothing is added.
	// Empty: nothing is kept, every read goes to the back end (dummycache).
	Dir string
	// Workers is the number of decompressors; more than one per core are of no use. Each
	// is a locked thread of low priority. Default: one per core.
	Workers int
	// Requests bounds the back-end requests under way. Default 16.
	Requests int
	// MaxFetchBytes bounds the stored bytes of requests under way; one request
	// may always run. Default 64 MiB.
	MaxFetchBytes uint64
	// MaxRequestBytes bounds one merged request; one chunk may always be asked for.
	// Default 1 MiB.
	MaxRequestBytes uint64
	// Amplify lets a miss take neighbouring missing chunks along until the request has
	// so many stored bytes (amplify_io), or as many as a round trip is worth if that is
	// less. 0: off.
	Amplify uint64
	// RequestTimeout ends a back-end request. Default 60 s.
	RequestTimeout time.Duration
	// Limit bounds what the files in Dir take on the disk, those of other processes
	// included, and may bound other directories with it. What would go past it is served
	// without being kept. It is closed after the store. nil: no bound.
	Limit *Limit
	// PrefetchBytes bounds one request of a prefetch like MaxRequestBytes. Default 1 MiB.
	PrefetchBytes uint64
	// PrefetchRequests bounds the requests of prefetches under way. Default 8.
	PrefetchRequests int
	// PrefetchStream has whole blobs (Prefetch.AddBlob) read in order, one request after the
	// other, for back ends that make one of them (backend.InStream).
	PrefetchStream bool
	// PrefetchRate bounds prefetch in stored bytes per second; 0: no bound.
	PrefetchRate uint64
	// Log gets what an operator should know, once per blob and kind. Default: nothing.
	Log *slog.Logger
}

// defaults fills in what is not set.
func (opt Options) defaults() Options {
	opt.Workers = cmp.Or(max(0, opt.Workers), runtime.NumCPU())
	opt.Requests = cmp.Or(max(0, opt.Requests), 16)
	opt.MaxFetchBytes = cmp.Or(opt.MaxFetchBytes, 64<<20)
	opt.MaxRequestBytes = cmp.Or(opt.MaxRequestBytes, 1<<20)
	opt.PrefetchBytes = cmp.Or(opt.PrefetchBytes, 1<<20)
	opt.PrefetchRequests = cmp.Or(max(0, opt.PrefetchRequests), 8)
	opt.RequestTimeout = cmp.Or(max(0, opt.RequestTimeout), time.Minute)
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return opt
}

// A Store is one cache directory, shared by the images of a process. All methods
// may be called from any goroutine.
type Store struct {
	opt    Options
	o      opener.Opener
	boot   [16]byte // zero: unknown, proofs end with the process
	ctx    context.Context
	cancel context.CancelCauseFunc
	sched  *scheduler
	limit  *Limit // nil: none
	// epoch grows with every eviction, after marks were cleared and before bytes go.
	epoch atomic.Uint64

	mu      sync.Mutex
	files   map[blobKey]*blobFile
	opening map[blobKey]chan struct{} // closed when the files are open

	warned warnings
}

// NewStore prepares a cache directory. It starts nothing: workers come with the
// first miss and leave with Close. What is wrong with the directory is logged: images
// can be served without it.
func NewStore(o opener.Opener, opt Options) (*Store, error) {
	opt = opt.defaults()
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &Store{
		opt: opt, o: o, ctx: ctx, cancel: cancel, sched: newScheduler(ctx, opt),
		files: map[blobKey]*blobFile{}, opening: map[blobKey]chan struct{}{},
	}
	s.warned.log = opt.Log
	s.sched.warn = s.warn
	if opt.Dir == "" {
		return s, nil
	}
	if err := o.MkdirAll(opt.Dir, 0o755); err != nil {
		s.warn("", "the cache directory can't be made", err)
	}
	var err error
	if s.boot, err = readBootID(o); err != nil {
		s.warn("", "the boot id can't be read", err)
	}
	if s.limit = opt.Limit; s.limit != nil {
		s.limit.join(s)
	}
	return s, nil
}

// Close ends all fetches, waits for the workers and closes the files. Views must
// have been closed.
func (s *Store) Close() error {
	s.cancel(ErrClosed)
	s.sched.close()
	s.limit.leave(s)
	s.mu.Lock()
	files := s.files
	s.files = map[blobKey]*blobFile{}
	s.mu.Unlock()
	for _, b := range files {
		b.close()
	}
	return nil
}

// acquire gives the files of a blob, opened if nobody has them. missing says what is
// not there of them; err is that of ctx, which ended while somebody else opened them.
func (s *Store) acquire(ctx context.Context, key blobKey) (b *blobFile, missing, err error) {
	for {
		b, wait := s.find(key)
		switch {
		case b != nil:
			return b, nil, nil
		case wait == nil:
			b, missing = s.open(key)
			return b, missing, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// find gives the open files of a blob, or what to wait for while they are opened. If it
// gives neither, the caller has to open them.
func (s *Store) find(key blobKey) (*blobFile, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.files[key]; b != nil {
		b.refs++
		return b, nil
	}
	if wait := s.opening[key]; wait != nil {
		return nil, wait
	}
	s.opening[key] = make(chan struct{})
	return nil, nil
}

// open opens the files that find has left to the caller. It may wait for an eviction of
// another process, so it holds no lock.
func (s *Store) open(key blobKey) (b *blobFile, missing error) {
	b = &blobFile{key: key}
	if s.opt.Dir != "" {
		b, missing = openBlobFile(s.o, s.opt.Dir, key, s.boot)
	}
	b.refs = 1
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[key] = b
	close(s.opening[key])
	delete(s.opening, key)
	return b, missing
}

// release gives files back; the last user closes them, which for removed ones may take
// as long as freeing what they have on the disk.
func (s *Store) release(b *blobFile) {
	s.mu.Lock()
	b.refs--
	last := b.refs == 0 && s.files[b.key] == b
	if last {
		delete(s.files, b.key)
	}
	s.mu.Unlock()
	if last {
		b.close()
	}
}

// warn logs a condition of a blob the first time it is met.
func (s *Store) warn(blob, what string, err error) { s.warned.once(blob, s.opt.Dir, what, err) }
