package blobcache

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vrafs/internal/opener"
)

// A Limit keeps cache directories below a number of bytes, together:
//
//	store a chunk -> room? --no--> the chunk is served, not kept
//	                   | above the high mark: wake
//	pass: measure -> blobs that nobody uses, least recently used first
//	              -> chunks of our own blobs that were not read since the last pass
//	              until below the low mark
//
// Other processes' bytes count, since the directories are measured as a whole. The
// stores of a process that share them share the Limit (Options.Limit).
type Limit struct {
	o         opener.Opener
	max       uint64
	high, low uint64
	hard      uint64        // what is stored ends here: maps and proofs grow beside data
	used      atomic.Uint64 // bytes in the directories as last measured, and what we stored since
	booked    atomic.Uint64 // all that was ever added to used
	settled   atomic.Uint64 // of that, what a measurement that starts now sees
	since     atomic.Uint64 // what we stored since the directories were last measured
	refused   atomic.Bool   // since the last pass: a chunk can be larger than the rest below hard
	evicted   atomic.Uint64
	why       error // of the last refusal; belongs to run
	start     sync.Once
	wake      chan struct{}
	done      chan struct{}
	ctx       context.Context
	cancel    context.CancelFunc
	warned    warnings
	leaving   atomic.Int32 // stores that wait for the end of a pass

	mu     sync.Mutex // held by a pass
	dirs   []string
	stores []*Store
}

const (
	// passPause is how long a pass is from the next, at least: what was fetched in between
	// stays long enough to be read. A pass over a huge directory pauses for as long as
	// it took.
	passPause = 200 * time.Millisecond
	maxSlack  = 64 << 20
	// sharers is how many processes may store until they measure the directories anew, without
	// going past the limit together.
	sharers = 4
	// measurePause is how often the directories are looked at without a reason of ours.
	measurePause = time.Minute
)

// NewLimit makes a limit of max bytes for directories, which need not be there yet. A
// store that has the limit adds its own. It starts nothing before something is
// stored. log may be nil.
func NewLimit(o opener.Opener, max uint64, log *slog.Logger, dirs ...string) *Limit {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Limit{
		o: o, max: max, high: max - max/12, low: max - max/5, hard: max - min(max/16, maxSlack),
		wake: make(chan struct{}, 1), done: make(chan struct{}), ctx: ctx, cancel: cancel, dirs: dirs,
	}
	l.warned.log = log
	return l
}

// join puts a store's directory under the limit, and its chunks up for eviction.
func (l *Limit) join(s *Store) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stores = append(l.stores, s)
	if !slices.Contains(l.dirs, s.opt.Dir) {
		l.dirs = append(l.dirs, s.opt.Dir)
	}
}

// leave is the end of join; the directory counts on. A pass ends early.
func (l *Limit) leave(s *Store) {
	if l == nil {
		return
	}
	l.leaving.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaving.Add(-1)
	l.stores = slices.DeleteFunc(l.stores, func(other *Store) bool { return other == s })
}

// room books n bytes that are to be stored; false if they would go past the limit.
// Else settle follows when they were stored, or not.
func (l *Limit) room(n uint64) bool {
	if l == nil {
		return true
	}
	l.start.Do(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.measure()
		go l.run()
	})
	if l.mu.TryLock() { // else somebody measures, or evicts and measures meanwhile
		l.look()
		l.mu.Unlock()
	}
	n = wholePages(n)
	l.booked.Add(n)
	used := l.used.Add(n)
	full := used > l.hard
	if full {
		l.refused.Store(true)
	}
	if used > l.high {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	if full {
		l.less(n)
		l.settled.Add(n)
		return false
	}
	l.since.Add(n)
	return true
}

// look measures the directories if so much was stored since they were measured that other
// processes may have filled them. Preconditions: mu is held.
func (l *Limit) look() {
	if l.since.Load() > (l.max-l.hard)/sharers {
		l.measure()
	}
}

func (l *Limit) settle(n uint64) {
	if l != nil {
		l.settled.Add(wholePages(n))
	}
}

// wholePages is what n bytes take on a disk.
func wholePages(n uint64) uint64 { return (n + pageSize - 1) &^ (pageSize - 1) }

// Close ends what keeps the limit. Its stores have been closed.
func (l *Limit) Close() {
	l.cancel()
	l.start.Do(func() { close(l.done) })
	<-l.done
}

func (l *Limit) run() {
	defer close(l.done)
	for {
		begin := time.Now()
		l.pass()
		pause := time.NewTimer(max(passPause, time.Since(begin)))
		select {
		case <-pause.C:
		case <-l.ctx.Done():
			pause.Stop()
			return
		}
		again := time.NewTimer(measurePause)
		select {
		case <-l.wake:
		case <-again.C:
		case <-l.ctx.Done():
			again.Stop()
			return
		}
		again.Stop()
	}
}

// A usedBlob is what one blob takes of one of the directories.
type usedBlob struct {
	BlobUse
	blobPlace
}

// A blobPlace tells the blobs of several directories apart.
type blobPlace struct{ dir, id string }

// measure lists what is in the directories, least recently used first. What is being
// written at that time counts twice rather than not at all. Preconditions: mu is held.
func (l *Limit) measure() []usedBlob {
	l.since.Store(0)
	before := l.settled.Load()
	var all []usedBlob
	for _, dir := range l.dirs {
		list, err := Survey(l.o, dir)
		if err != nil {
			l.warned.once("", dir, "the size of the cache can't be measured", err)
			return nil
		}
		for _, u := range list {
			all = append(all, usedBlob{u, blobPlace{dir, u.ID}})
		}
	}
	for _, s := range l.stores {
		for _, u := range s.nameless() {
			all = append(all, usedBlob{u, blobPlace{s.opt.Dir, u.ID}})
		}
	}
	slices.SortStableFunc(all, func(a, b usedBlob) int { return a.Used.Compare(b.Used) })
	total := uint64(0)
	for i := range all {
		total += all[i].Bytes
	}
	l.used.Store(total + l.booked.Load() - before)
	return all
}

// An openBlob is one that a store of ours has open.
type openBlob struct {
	store *Store
	file  *blobFile
}

// pass evicts until the directories are below the low mark, if they are above the high
// one or something found no room.
func (l *Limit) pass() {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.measure()
	if !l.refused.Swap(false) && l.used.Load() <= l.high {
		return
	}
	ours := map[blobPlace]openBlob{}
	for _, s := range l.stores {
		open := s.borrow()
		defer s.giveBack(open)
		for id, b := range open {
			ours[blobPlace{s.opt.Dir, id}] = openBlob{s, b}
		}
	}
	for i := range list {
		u := &list[i]
		if _, open := ours[u.blobPlace]; !open && l.more() {
			l.note(u.blobPlace, func() (uint64, error) { return Evict(l.o, u.dir, u.id) })
		}
	}
	// Twice, since the first time takes the marks of use off.
	for range 2 {
		for i := range list {
			u := &list[i]
			if b, open := ours[u.blobPlace]; open && l.more() {
				l.note(u.blobPlace, func() (uint64, error) { return b.store.evictCold(b.file) })
			}
		}
	}
	if l.used.Load() > l.high && l.leaving.Load() == 0 {
		l.warned.once("", strings.Join(l.dirs, " "), "the cache is full and what is in it is in use: more is served without being kept", l.why)
	}
}

// more reports whether more is to be evicted. Preconditions: mu is held.
func (l *Limit) more() bool {
	l.look()
	return l.used.Load() > l.low && l.ctx.Err() == nil && l.leaving.Load() == 0
}

// note counts what evicting a blob has freed.
func (l *Limit) note(p blobPlace, evict func() (uint64, error)) {
	n, err := evict()
	l.evicted.Add(n)
	l.less(n)
	switch {
	case errors.Is(err, ErrInUse):
		l.why = err
	case err != nil:
		l.warned.once(p.id, p.dir, "can't be evicted", err)
	}
}

// less takes n off used. A measurement may have forgotten them at the same time, and
// below zero the directory would look full.
func (l *Limit) less(n uint64) {
	for {
		used := l.used.Load()
		if l.used.CompareAndSwap(used, used-min(n, used)) {
			return
		}
	}
}

// borrow gives the open blobs by id, kept open until giveBack. Of two with one id
// it is either.
func (s *Store) borrow() map[string]*blobFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := map[string]*blobFile{}
	for key, b := range s.files {
		if m[key.id] == nil {
			b.refs++
			m[key.id] = b
		}
	}
	return m
}

func (s *Store) giveBack(m map[string]*blobFile) {
	for _, b := range m {
		s.release(b)
	}
}

// nameless gives what open blobs take whose data file somebody has removed: it stays on
// the disk until we close it.
func (s *Store) nameless() (list []BlobUse) {
	ours := s.borrow()
	defer s.giveBack(ours)
	for id, b := range ours {
		if !b.removed() {
			continue
		}
		if n, err := blocks(b.data); err == nil {
			list = append(list, BlobUse{ID: id, Bytes: n})
		}
	}
	return list
}

// A Usage is how full cache directories are.
type Usage struct {
	Bytes   uint64 // on the disk; 0 before anything was stored
	Limit   uint64
	Evicted uint64 // bytes, by this process
}

// Usage says how full the directories are, as last measured.
func (l *Limit) Usage() Usage {
	return Usage{Bytes: l.used.Load(), Limit: l.max, Evicted: l.evicted.Load()}
}
