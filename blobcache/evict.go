package blobcache

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/opener"
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
		if err := b.side.retain(keep.has); err != nil {
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
	ranges []byteRange // sorted; they may overlap
}

func (k *keepSet) has(i rafs.ChunkIndex) bool { return k.chunks[i] }

// sweep gives the chunks that were read since the last sweep and takes the marks
// off all others. Preconditions: mu is held.
func (b *blobFile) sweep() *keepSet {
	k := &keepSet{chunks: map[rafs.ChunkIndex]bool{}}
	for m := range b.views {
		m.each(func(i rafs.ChunkIndex, off, size uint64, used bool) {
			if used {
				k.chunks[i] = true
				k.ranges = append(k.ranges, byteRange{off, off + size})
			}
		})
	}
	for m := range b.views {
		m.retain(k.has)
	}
	slices.SortFunc(k.ranges, func(a, b byteRange) int { return cmp.Compare(a.off, b.off) })
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

// Evict frees what the blob named id takes of the cache directory dir, if no
// process uses it, and gives the bytes. Else it is an error of class ErrInUse.
//
// Both shared files are leased, so nobody has looked at the bits and will read the
// data. A process that is waiting for one of them when the leases end finds no
// bits, no proofs and no data; then the empty files stay. Where there are neither data
// nor a map, other files of that name are not a cache's and stay, too.
func Evict(o opener.Opener, dir, id string) (freed uint64, err error) {
	if err := fileName(id); err != nil {
		return 0, err
	}
	cmap, err := leaseFile(o, filepath.Join(dir, id+mapSuffix))
	if err != nil {
		return 0, err
	}
	defer cmap.close()
	data, err := leaseFile(o, filepath.Join(dir, id+dataSuffix))
	if err != nil {
		return 0, err
	}
	defer data.close()
	if cmap.f == nil && data.f == nil {
		return 0, nil
	}
	if cmap.f != nil {
		if err := ourKind(cmap.f); err != nil {
			return 0, err
		}
	}
	if err := removeAll(o, dir, id, sidecarSuffix); err != nil { // before what it vouches for
		return 0, err
	}
	if cmap.f != nil {
		if err := blankMap(cmap.f); err != nil {
			return 0, err
		}
	}
	if data.f != nil {
		if freed, err = blocks(data.f); err != nil {
			return 0, err
		}
		if err := data.f.Truncate(0); err != nil {
			return 0, err
		}
	}
	if cmap.awaited() || data.awaited() {
		return freed, nil
	}
	return freed, removeAll(o, dir, id, metaSuffix, digestSuffix, mapSuffix, dataSuffix)
}

// Idle is nil if no process has the blob named id open, else an error of class
// ErrInUse.
func Idle(o opener.Opener, dir, id string) error {
	if err := fileName(id); err != nil {
		return err
	}
	for _, suffix := range []string{mapSuffix, dataSuffix} {
		f, err := leaseFile(o, filepath.Join(dir, id+suffix))
		if err != nil {
			return err
		}
		f.close()
	}
	return nil
}

// A leasedFile is a file with its lease; f is nil if there is none.
type leasedFile struct{ f *os.File }

func leaseFile(o opener.Opener, path string) (leasedFile, error) {
	f, err := o.Open(path, os.O_RDWR|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return leasedFile{}, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return leasedFile{}, fmt.Errorf("%w: %w", ErrInUse, err)
	case err != nil:
		return leasedFile{}, err
	}
	if err := lease(f); err != nil {
		f.Close()
		return leasedFile{}, err
	}
	return leasedFile{f}, nil
}

func (l leasedFile) awaited() bool { return l.f != nil && awaited(l.f) }

// close ends the lease, too.
func (l leasedFile) close() {
	if l.f != nil {
		l.f.Close()
	}
}

// ourKind refuses a file that has the name of a chunk map and is none.
func ourKind(f *os.File) error {
	var magic [4]byte
	n, err := f.ReadAt(magic[:], chunkMapMagicAt)
	switch {
	case err == io.EOF && n == 0, magic == [4]byte{}:
		return nil
	case err != nil && err != io.EOF:
		return err
	case n < len(magic) || binary.NativeEndian.Uint32(magic[:]) != chunkMapMagic:
		return fmt.Errorf("%w: %s is none; is this a cache directory?", errChunkMap, f.Name())
	}
	return nil
}

// blankMap takes all bits and the mark of a finished map out of a map file, on the
// disk as well.
func blankMap(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if n := fi.Size() - chunkMapHeader; n > 0 {
		if _, err := f.WriteAt(make([]byte, min(n, chunkMapSize(rafs.MaxChunksPerBlob))), chunkMapHeader); err != nil {
			return err
		}
		if _, err := f.WriteAt(make([]byte, 4), chunkMapReadyAt); err != nil {
			return err
		}
	}
	return f.Sync()
}

// removeAll removes files of a blob; those that are not there are no error.
func removeAll(o opener.Opener, dir, id string, suffixes ...string) error {
	for _, suffix := range suffixes {
		if err := o.Remove(filepath.Join(dir, id+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
