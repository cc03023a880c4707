package blobcache

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"sort"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/rafs"
)

// evictGrace is how long bits are cleared before the data go: who mapped the chunk
// map earlier and is about to open the data file shows up in that time.
const evictGrace = 5 * time.Millisecond

// evictCold takes the chunks out of the data file that were not read since the last
// call, and gives the bytes that this freed. Nobody else may have the data file
// open: then it is an error of class ErrInUse and nothing happens.
//
// The order is: lease, our marks, the store's epoch (see Cache.tryRead), proofs,
// shared bits forced to the disk, holes.
func (s *Store) evictCold(b *blobFile) (freed uint64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.usable() || !b.writable {
		return 0, nil
	}
	if err := lease(b.data); err != nil {
		return 0, err
	}
	defer unlease(b.data)
	if err := s.silence(b); err != nil {
		return 0, err
	}
	before, err := blocks(b.data)
	if err != nil {
		return 0, err
	}
	keep := b.sweep()
	s.epoch.Add(1)
	b.epoch++
	if b.side != nil {
		if err := b.side.retain(keep.covers); err != nil {
			return 0, err
		}
	}
	if b.cmap != nil {
		if err := b.cmap.retain(keep.has); err != nil {
			return 0, err
		}
	}
	time.Sleep(evictGrace)
	if awaited(b.data) {
		return 0, fmt.Errorf("%w: %s: somebody opens it", ErrInUse, b.data.Name())
	}
	if err := b.punch(keep.ranges); err != nil {
		return 0, err
	}
	after, err := blocks(b.data)
	return before - min(before, after), err
}

// blocks gives the bytes that a file takes on its disk.
func blocks(f *os.File) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return uint64(st.Blocks) * 512, nil
}

// A byteRange is a part of a data file.
type byteRange struct{ off, end uint64 }

// A keepSet is what stays of a blob.
type keepSet struct {
	chunks map[rafs.ChunkIndex]bool
	ranges []byteRange // sorted, with gaps between them
}

func (k *keepSet) has(i rafs.ChunkIndex) bool { return k.chunks[i] }

// covers reports whether all of a place stays.
func (k *keepSet) covers(off, size uint64) bool {
	i := sort.Search(len(k.ranges), func(i int) bool { return k.ranges[i].end > off })
	return i < len(k.ranges) && off >= k.ranges[i].off && size <= k.ranges[i].end-off
}

// merge puts the ranges into the order that covers needs.
func (k *keepSet) merge() {
	slices.SortFunc(k.ranges, func(a, b byteRange) int { return cmp.Compare(a.off, b.off) })
	out := k.ranges[:0]
	for _, r := range k.ranges {
		if n := len(out); n > 0 && r.off <= out[n-1].end {
			out[n-1].end = max(out[n-1].end, r.end)
		} else {
			out = append(out, r)
		}
	}
	k.ranges = out
}

// sweep gives the chunks that were read since the last sweep and takes the marks off
// all bytes that are not theirs: two images may give one number different places.
// Preconditions: mu is held.
func (b *blobFile) sweep() *keepSet {
	k := &keepSet{chunks: map[rafs.ChunkIndex]bool{}}
	for m := range b.views {
		m.each(func(i rafs.ChunkIndex, at byteRange, used bool) {
			if used {
				k.chunks[i] = true
				k.ranges = append(k.ranges, at)
			}
		})
	}
	k.merge()
	for m := range b.views {
		m.retain(k.covers)
	}
	return k
}

// punch frees what lies between the ranges.
func (b *blobFile) punch(keep []byteRange) error {
	fi, err := b.data.Stat()
	if err != nil {
		return err
	}
	at, size := uint64(0), uint64(fi.Size())
	for _, r := range append(keep, byteRange{size, size}) {
		if r.off > at {
			const mode = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
			if err := unix.Fallocate(b.fd, mode, int64(at), int64(r.off-at)); err != nil {
				return &os.PathError{Op: "punch", Path: b.data.Name(), Err: err}
			}
		}
		at = max(at, r.end)
	}
	return nil
}
