package daemon

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"vrafs/api"
	"vrafs/blobcache"
	"vrafs/internal/filelist"
	"vrafs/rafs"
)

// A prefetcher warms the cache of one image: with what its mount asked for, then with
// what comes over the API, one after the other.
type prefetcher struct {
	im    *rafs.Image
	cache *blobcache.Cache
	log   *slog.Logger
	ctx   context.Context
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu     sync.Mutex
	queue  []task
	busy   bool // a goroutine works on the queue
	paused bool
	total  uint64 // bytes of files and blobs that are to be there
	done   uint64 // of them, those that are there or were given up
}

// A task is one prefetch. plan finds out what is to be done and how many bytes that is;
// the image's metadata are only read there and in feed.
type task struct {
	urgency blobcache.Urgency
	plan    func() (size uint64)
	feed    func(p *blobcache.Prefetch)
}

// maxTasks bounds what clients can have us remember.
const maxTasks = 64

func newPrefetcher(im *rafs.Image, cache *blobcache.Cache, log *slog.Logger) *prefetcher {
	p := &prefetcher{im: im, cache: cache, log: log}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// begin prefetches what a mount asks for. files replaces the image's own table unless
// it is nil.
func (p *prefetcher) begin(w warmUp, files []filelist.File) {
	if w.lists {
		p.add(p.blobRanges())
		p.add(p.list(func(w *warmer) []piece {
			if files == nil {
				return w.table()
			}
			return w.resolve(files)
		}))
	} else if files != nil {
		p.log.Warn("the list of files is not fetched: set enable in the prefetch section of the configuration")
	}
	if w.all {
		p.add(p.blobs())
	}
}

// blobRanges is the prefetch of what the image says of its blobs.
func (p *prefetcher) blobRanges() task {
	w := &warmer{im: p.im, log: p.log}
	plan := func() (size uint64) {
		w.ranges(func(_ int, n uint64) bool {
			size += n
			return true
		})
		return size
	}
	return task{blobcache.Soon, plan, w.feedRanges}
}

// list is the prefetch of files.
func (p *prefetcher) list(find func(*warmer) []piece) task {
	w := &warmer{im: p.im, log: p.log}
	var list []piece
	plan := func() uint64 {
		list = find(w)
		return w.size(list)
	}
	return task{blobcache.Soon, plan, func(f *blobcache.Prefetch) { w.each(list, f.Add) }}
}

// blobs is the prefetch of everything.
func (p *prefetcher) blobs() task {
	w := &warmer{im: p.im, log: p.log}
	plan := func() (size uint64) {
		for i := range p.im.Blobs() {
			size += p.im.Blobs()[i].UncompressedSize
		}
		return size
	}
	return task{blobcache.Sometime, plan, w.feedBlobs}
}

// add puts a task into the queue; false if that is full or closed.
func (p *prefetcher) add(t task) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) >= maxTasks || p.ctx.Err() != nil {
		return false
	}
	p.queue = append(p.queue, t)
	if !p.busy {
		p.busy = true
		p.wg.Go(p.work)
	}
	return true
}

// work does what is in the queue.
func (p *prefetcher) work() {
	for {
		p.mu.Lock()
		if p.busy = len(p.queue) > 0 && p.ctx.Err() == nil; !p.busy {
			p.mu.Unlock()
			return
		}
		t := p.queue[0]
		p.queue = p.queue[1:]
		p.mu.Unlock()
		if err := guarded(func() error { return p.do(&t) }); err != nil && p.ctx.Err() == nil {
			p.log.Error("prefetch ended", "err", err)
		}
	}
}

func (p *prefetcher) do(t *task) error {
	size := t.plan()
	if size == 0 {
		return nil
	}
	p.mu.Lock()
	p.total += size
	end := p.total
	p.mu.Unlock()
	defer p.progress(size, end) // what a task adds up to isn't always what was said before
	return p.cache.Prefetch(p.ctx, t.urgency, func(n uint64) { p.progress(n, end) }, t.feed)
}

// progress counts n bytes of a task that ends at end.
func (p *prefetcher) progress(n, end uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = min(p.done+n, end)
}

// pause stops or continues.
func (p *prefetcher) pause(on bool) {
	p.mu.Lock()
	p.paused = on
	p.mu.Unlock()
	p.cache.PausePrefetch(on)
}

// status says how far prefetch is.
func (p *prefetcher) status() api.PrefetchStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := api.PrefetchStatus{Total: p.total, Done: p.done, State: "none"}
	switch {
	case p.busy && p.paused:
		s.State = "paused"
	case p.busy:
		s.State = "running"
	case p.total > 0:
		s.State = "done"
	}
	s.Paused = p.paused
	return s
}

// families are how far prefetch is.
func (p *prefetcher) families(s *familySet, place string) {
	st := p.status()
	label := []string{"mountpoint", place}
	s.gauge("vrafs_prefetch_wanted_bytes", "Bytes, decompressed, that prefetches were to bring so far.", float64(st.Total), label...)
	s.gauge("vrafs_prefetch_left_bytes", "Of them, those that are still to come.", float64(st.Total-st.Done), label...)
	s.gauge("vrafs_prefetch_running", "Whether a prefetch is under way, paused or not.", truth(st.State == "running" || st.State == "paused"), label...)
	s.gauge("vrafs_prefetch_paused", "Whether prefetch is paused.", truth(st.Paused), label...)
}

// truth is a Boolean as a number.
func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// imageAt finds the image that is mounted at a place.
func (d *Daemon) imageAt(mountpoint string) (*image, error) {
	place, err := cleanPlace(mountpoint)
	if err != nil {
		return nil, err
	}
	m := d.mounts.get(place)
	if m == nil || m.image == nil {
		return nil, errNoCounter
	}
	return m.image, nil
}

// Prefetch says how far the prefetch of an image is.
func (d *Daemon) Prefetch(mountpoint string) (api.PrefetchStatus, error) {
	im, err := d.imageAt(mountpoint)
	if err != nil {
		return api.PrefetchStatus{}, err
	}
	return im.prefetch.status(), nil
}

var errQueueFull = errors.New("too many prefetches of this image wait already; wait for their end")

// SetPrefetch pauses or continues prefetch, and adds to it.
func (d *Daemon) SetPrefetch(mountpoint string, cmd api.PrefetchCmd) error {
	im, err := d.imageAt(mountpoint)
	if err != nil {
		return err
	}
	p := im.prefetch
	if cmd.Paused != nil {
		p.pause(*cmd.Paused)
	}
	if len(cmd.Files) > 0 && !p.add(p.list(func(w *warmer) []piece { return w.resolve(cmd.Files) })) ||
		cmd.All && !p.add(p.blobs()) {
		return errQueueFull
	}
	return nil
}

// fileList reads the files of a mount request, which may name ranges.
func fileList(lines []string) []filelist.File {
	if lines == nil {
		return nil
	}
	list := make([]filelist.File, 0, len(lines))
	for _, l := range lines {
		list = append(list, filelist.ParseLine(l))
	}
	return list
}
