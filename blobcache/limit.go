package blobcache

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// A limiter keeps the files of a store's directory below Options.MaxBytes:
//
//	store a chunk -> room? --no--> the chunk is served, not kept
//	                   | above the high mark: wake
//	pass: measure -> blobs that nobody uses, least recently used first
//	              -> chunks of our own blobs that were not read since the last pass
//	              until below the low mark
//
// Other processes' bytes count, since the directory is measured as a whole.
type limiter struct {
	s         *Store
	high, low uint64
	hard      uint64        // what is stored ends here: maps and proofs grow beside data
	used      atomic.Uint64 // bytes in the directory as last measured, and what we stored since
	booked    atomic.Uint64 // all that was ever added to used
	settled   atomic.Uint64 // of that, what a measurement that starts now sees
	refused   atomic.Bool   // since the last pass: a chunk can be larger than the rest below hard
	evicted   atomic.Uint64
	why       error // of the last refusal; belongs to run
	start     sync.Once
	wake      chan struct{}
	done      chan struct{}
}

const (
	// passPause is how long a pass is from the next, at least: what was fetched in between
	// stays long enough to be read. A pass over a huge directory pauses for as long as
	// it took.
	passPause = 200 * time.Millisecond
	maxSlack  = 64 << 20
	// measurePause is how often the directory is looked at without a reason of ours.
	measurePause = time.Minute
)

func newLimiter(s *Store, limit uint64) *limiter {
	return &limiter{s: s, high: limit - limit/12, low: limit - limit/5, hard: limit - min(limit/16, maxSlack), wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// room books n bytes that are to be stored; false if they would go past the limit.
// Else settle follows when they were stored, or not.
func (l *limiter) room(n uint64) bool {
	if l == nil {
		return true
	}
	l.start.Do(func() {
		l.measure()
		go l.run()
	})
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
	return true
}

func (l *limiter) settle(n uint64) {
	if l != nil {
		l.settled.Add(wholePages(n))
	}
}

// wholePages is what n bytes take on a disk.
func wholePages(n uint64) uint64 { return (n + pageSize - 1) &^ (pageSize - 1) }

// close waits for the goroutine, which ends with the store's context.
func (l *limiter) close() {
	if l == nil {
		return
	}
	l.start.Do(func() { close(l.done) })
	<-l.done
}

func (l *limiter) run() {
	defer close(l.done)
	for {
		begin := time.Now()
		l.pass()
		pause := time.NewTimer(max(passPause, time.Since(begin)))
		select {
		case <-pause.C:
		case <-l.s.ctx.Done():
			pause.Stop()
			return
		}
		again := time.NewTimer(measurePause)
		select {
		case <-l.wake:
		case <-again.C:
		case <-l.s.ctx.Done():
			again.Stop()
			return
		}
		again.Stop()
	}
}

// measure looks at the directory. What is being written at that time counts twice
// rather than not at all.
func (l *limiter) measure() []BlobUse {
	before := l.settled.Load()
	list, err := Survey(l.s.o, l.s.opt.Dir)
	if err != nil {
		l.s.warn("", "the size of the cache can't be measured", err)
		return nil
	}
	list = append(list, l.s.nameless()...)
	total := uint64(0)
	for i := range list {
		total += list[i].Bytes
	}
	l.used.Store(total + l.booked.Load() - before)
	return list
}

// pass evicts until the directory is below the low mark, if it is above the high
// one or something found no room.
func (l *limiter) pass() {
	list := l.measure()
	if !l.refused.Swap(false) && l.used.Load() <= l.high {
		return
	}
	ours := l.s.borrow()
	defer l.s.giveBack(ours)
	for i := range list {
		if id := list[i].ID; ours[id] == nil && l.more() {
			l.note(id, func() (uint64, error) { return Evict(l.s.o, l.s.opt.Dir, id) })
		}
	}
	// Twice, since the first time takes the marks of use off.
	for range 2 {
		for i := range list {
			if id := list[i].ID; ours[id] != nil && l.more() {
				l.note(id, func() (uint64, error) { return l.s.evictCold(ours[id]) })
			}
		}
	}
	if l.used.Load() > l.high {
		l.s.warn("", "the cache is full and what is in it is in use: more is served without being kept", l.why)
	}
}

// more reports whether more is to be evicted.
func (l *limiter) more() bool { return l.used.Load() > l.low && l.s.ctx.Err() == nil }

// note counts what evicting a blob has freed.
func (l *limiter) note(id string, evict func() (uint64, error)) {
	n, err := evict()
	l.evicted.Add(n)
	l.less(n)
	switch {
	case errors.Is(err, ErrInUse):
		l.why = err
	case err != nil:
		l.s.warn(id, "can't be evicted", err)
	}
}

// less takes n off used. A measurement may have forgotten them at the same time, and
// below zero the directory would look full.
func (l *limiter) less(n uint64) {
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

// A Usage is how full a cache directory is.
type Usage struct {
	Bytes   uint64 // on the disk; 0 before anything was stored
	Limit   uint64 // 0: none
	Evicted uint64 // bytes, by this store
}

// Usage says how full the directory is, as last measured.
func (s *Store) Usage() Usage {
	if s.limit == nil {
		return Usage{}
	}
	return Usage{Bytes: s.limit.used.Load(), Limit: s.opt.MaxBytes, Evicted: s.limit.evicted.Load()}
}
