package blobcache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vrafs/internal/opener"
	"vrafs/rafs"
)

// A blobKey tells blobs apart. Images that disagree about the shape of a blob
// don't share it; at most one of them finds a data file of the right size.
type blobKey struct {
	id     string
	size   uint64 // of the data file, 0 if unknown
	chunks uint32 // 0 if unknown
}

// A blobFile is the set of open files of one blob, shared by the images of a
// Store. Each part may be missing: without data nothing is kept, without the map
// nothing is said to others, without the sidecar proofs end with the process.
type blobFile struct {
	key      blobKey
	refs     int // guarded by Store.mu
	data     *os.File
	fd       int // of data
	writable bool
	cmap     *chunkMap
	side     *sidecar
	// dead is set when the data file was found cut short. Nothing is read from it
	// or written to it any more: who extends it again would turn verified bytes into
	// zeros.
	dead atomic.Bool

	// mu is held by an eviction, and shared by who stores a chunk or marks one.
	mu    sync.RWMutex
	epoch uint32              // evictions so far; guarded by mu
	views map[*marks]struct{} // of the images that have the blob open; guarded by mu
}

// openBlobFile opens or makes the files. It always gives a blobFile; the error
// says which part is missing and why.
func openBlobFile(o opener.Opener, dir string, key blobKey, boot [16]byte) (*blobFile, error) {
	b := &blobFile{key: key}
	if err := fileName(key.id); err != nil {
		return b, err
	}
	fresh, err := b.openData(o, filepath.Join(dir, key.id+dataSuffix))
	if err != nil {
		return b, err
	}
	return b, errors.Join(
		b.openMap(o, filepath.Join(dir, key.id+mapSuffix)),
		b.openSide(o, filepath.Join(dir, key.id+sidecarSuffix), boot, fresh))
}

// openData opens the data file and gives it its size. fresh says that it did not
// have it, so that proofs about it are void.
func (b *blobFile) openData(o opener.Opener, path string) (fresh bool, err error) {
	f, err := patient{o}.Open(path, os.O_RDWR|os.O_CREATE, 0o644)
	writable := err == nil
	if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
		f, err = readOnly(o, path, err)
	}
	if err != nil {
		return false, err
	}
	fi, err := f.Stat()
	if err == nil {
		fresh, err = fitData(f, fi, b.key.size, writable)
	}
	if err != nil {
		f.Close()
		return false, fmt.Errorf("%s: %w", path, err)
	}
	b.data, b.fd, b.writable = f, int(f.Fd()), writable
	return fresh, nil
}

// readOnly opens a data file that may not be written. If there is none, what forbids to
// make one is the trouble.
func readOnly(o opener.Opener, path string, forbidden error) (*os.File, error) {
	f, err := patient{o}.Open(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		err = forbidden
	}
	return f, err
}

// fitData extends a data file that is too short (section 5.1).
func fitData(f *os.File, fi fs.FileInfo, want uint64, writable bool) (fresh bool, err error) {
	size := uint64(fi.Size())
	switch {
	case !fi.Mode().IsRegular():
		return false, errors.New("not a regular file")
	case want == 0 || size == want:
		return size == 0, nil
	case size > want:
		return false, fmt.Errorf("%d bytes, want %d: it belongs to another blob", size, want)
	case !writable:
		return false, fmt.Errorf("%d bytes, want %d, and read-only", size, want)
	}
	return true, f.Truncate(int64(want))
}

func (b *blobFile) openMap(o opener.Opener, path string) error {
	if b.key.chunks == 0 {
		return nil // v5 without extended table: there is no map file (section 5.3)
	}
	flags := os.O_RDWR | os.O_CREATE
	if !b.writable {
		flags = os.O_RDONLY
	}
	f, err := patient{o}.Open(path, flags, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if b.cmap, err = openChunkMap(f, b.key.chunks, !b.writable); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (b *blobFile) openSide(o opener.Opener, path string, boot [16]byte, fresh bool) error {
	if !b.writable {
		return nil
	}
	id, err := identify(b.data, boot)
	if err == nil {
		b.side, err = openSidecar(o, path, id, !fresh)
	}
	if err != nil {
		return fmt.Errorf("%s: proofs end with this process: %w", path, err)
	}
	return nil
}

// usable reports whether chunks may be read from the data file.
func (b *blobFile) usable() bool { return b.data != nil && !b.dead.Load() }

// removed reports whether the data file has no name any more.
func (b *blobFile) removed() bool {
	var st unix.Stat_t
	return b.data != nil && unix.Fstat(b.fd, &st) == nil && st.Nlink == 0
}

// join adds the marks of an image to those that an eviction takes off.
func (b *blobFile) join(m *marks) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.views == nil {
		b.views = map[*marks]struct{}{}
	}
	b.views[m] = struct{}{}
}

// part is the end of join.
func (b *blobFile) part(m *marks) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.views, m)
}

// proven reports whether this boot's proof of chunk i is p.
func (b *blobFile) proven(i rafs.ChunkIndex, p proof) bool {
	return b.usable() && b.side != nil && b.side.read(i) == p
}

// claimed reports whether chunk i may be in the data file: somebody said so, or
// nobody could.
func (b *blobFile) claimed(i rafs.ChunkIndex) bool {
	switch {
	case !b.usable():
		return false
	case b.cmap == nil:
		return true
	}
	return b.cmap.has(i) || b.side != nil && b.side.read(i) != proof{}
}

// readChunk fills p with the chunk's bytes in the data file.
func (b *blobFile) readChunk(c *rafs.Chunk, p []byte) error {
	_, err := b.data.ReadAt(p, int64(c.Off))
	if errors.Is(err, io.EOF) {
		b.intact()
	}
	return err
}

// intact reports whether the data file is as long as it was made, and marks it
// dead if not.
func (b *blobFile) intact() bool {
	fi, err := b.data.Stat()
	if err != nil || uint64(fi.Size()) < b.key.size {
		b.dead.Store(true)
		return false
	}
	return true
}

// store writes the verified bytes of a chunk and says so, in the order of the
// package comment. It reports whether they can be read from the data file now. A
// chunk that has another proof is left alone: another image calls other bytes by
// its number, and they did not pass for ours. Preconditions: mu is shared.
func (b *blobFile) store(c *rafs.Chunk, p proof, bytes []byte) (bool, error) {
	if !b.usable() || !b.writable || !b.intact() {
		return false, nil // a write would extend a file that was cut short, with zeros
	}
	if b.side != nil {
		if old := b.side.read(c.Index); old != (proof{}) && old != p {
			return false, nil
		}
	}
	if _, err := b.data.WriteAt(bytes, int64(c.Off)); err != nil || !b.intact() {
		return false, err
	}
	return true, b.confirm(c.Index, p)
}

// confirm notes the proof of a chunk whose bytes are in the data file, then tells
// the others. The chunk can be served whatever comes of that. Preconditions: mu is
// shared.
func (b *blobFile) confirm(i rafs.ChunkIndex, p proof) error {
	var err error
	if b.side != nil {
		err = b.side.write(i, p)
	}
	if b.cmap != nil && b.writable {
		err = errors.Join(err, b.cmap.set(i))
	}
	return err
}

// close closes what is open.
func (b *blobFile) close() {
	if b.cmap != nil {
		_ = b.cmap.close()
	}
	if b.side != nil {
		_ = b.side.close()
	}
	if b.data != nil {
		b.data.Close()
	}
}
