package blobcache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"vrafs/internal/opener"
	"vrafs/rafs"
)

// Evict frees what the blob named id takes of the cache directory dir, if no
// process uses it, and gives the bytes. Else it is an error of class ErrInUse.
//
// Both shared files are leased, so nobody has looked at the bits and will read the
// data. A process that is waiting for one of them when the leases end finds no
// bits, no proofs and no data; then the empty files stay. The data lose their name before
// the map: who comes in between, map first like a nydusd, must not set bits in a new map
// for data that nobody else will see. Where there are neither data nor a map, other files
// of that name are not a cache's and stay, too.
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
	return freed, removeAll(o, dir, id, metaSuffix, digestSuffix, dataSuffix, mapSuffix)
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
	const bits = int64(rafs.MaxChunksPerBlob) / 8
	if err := rewrite(f, chunkMapHeader, bits, blank); err != nil {
		return err
	}
	if err := rewrite(f, chunkMapReadyAt, 4, blank); err != nil {
		return err
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
