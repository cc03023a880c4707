package build

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"vrafs/rafs"
)

// An output is one file being written. A regular file is written under its own
// name, or under a temporary one and renamed when its name is known; it is removed
// if the operation fails.
type output struct {
	f      *os.File
	path   string // final path, or the directory until commit names it
	temp   string // path to remove on failure, empty for special files
	rename bool
}

// createOutput opens path for writing from its start. Special files are neither
// truncated nor removed.
func createOutput(path string) (*output, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_NOCTTY, 0o644)
	if err != nil {
		return nil, err
	}
	o := &output{f: f, path: path}
	st, err := f.Stat()
	if err == nil && st.Mode().IsRegular() {
		o.temp = path
		err = f.Truncate(0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return o, nil
}

// createTemp opens a new file in dir that commit gives its name.
func createTemp(dir string) (*output, error) {
	f, err := os.CreateTemp(dir, ".build-*.tmp")
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o644); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, err
	}
	return &output{f: f, path: dir, temp: f.Name(), rename: true}, nil
}

// commit closes the file and, if it has none yet, gives it the name in its
// directory. A later abort still removes it, unless it took the place of a file
// that was there before: that has the same content and may be in use.
func (o *output) commit(name string) error {
	if err := o.f.Close(); err != nil {
		return err
	}
	if !o.rename {
		return nil
	}
	path := filepath.Join(o.path, name)
	_, missing := os.Lstat(path)
	if err := os.Rename(o.temp, path); err != nil {
		return err
	}
	o.path, o.temp = path, path
	if missing == nil {
		o.temp = ""
	}
	return nil
}

// abort closes the file and removes it if it is regular.
func (o *output) abort() {
	if o == nil {
		return
	}
	o.f.Close()
	if o.temp != "" {
		os.Remove(o.temp)
		o.temp = ""
	}
}

// A blobWriter writes the sections of one data blob and computes its id.
type blobWriter struct {
	out  *output   // nil if the blob goes to a writer or nowhere
	w    io.Writer // never nil
	id   hash.Hash // nil if the id is given
	file hash.Hash // of everything, nil while it is the same as id
	size uint64    // bytes written
	toc  []tocEntry
}

type tocEntry struct {
	name               string
	flags              uint32
	digest             rafs.Digest
	off, stored, plain uint64
}

// newBlobWriter opens the place for the data blob.
func newBlobWriter(s *Sink, wantID bool) (*blobWriter, error) {
	b := &blobWriter{w: io.Discard}
	var err error
	switch {
	case s.Blob != "":
		b.out, err = createOutput(s.Blob)
	case s.BlobDir != "":
		b.out, err = createTemp(s.BlobDir)
	case s.BlobWriter != nil:
		b.w = s.BlobWriter
	}
	if err != nil {
		return nil, fmt.Errorf("create blob: %w", err)
	}
	if b.out != nil {
		b.w = b.out.f
	}
	if wantID {
		b.id = sha256.New()
	}
	return b, nil
}

// write appends bytes that count for the id.
func (b *blobWriter) write(p []byte) error {
	if b.id != nil {
		b.id.Write(p)
	}
	return b.append(p)
}

// writePlain appends bytes that do not: the digest array (rafs.md 4.10).
func (b *blobWriter) writePlain(p []byte) error {
	if b.id != nil && b.file == nil {
		both, err := b.id.(hash.Cloner).Clone()
		if err != nil {
			return fmt.Errorf("hash of the blob: %w", err)
		}
		b.file = both
	}
	return b.append(p)
}

// append writes and counts.
func (b *blobWriter) append(p []byte) error {
	if b.file != nil {
		b.file.Write(p)
	}
	b.size += uint64(len(p))
	if _, err := b.w.Write(p); err != nil {
		return fmt.Errorf("write blob: %w", err)
	}
	return nil
}

// digest is SHA-256 of everything so far, zero if the id was given.
func (b *blobWriter) digest() (d rafs.Digest) {
	if b.id != nil {
		b.id.Sum(d[:0])
	}
	return d
}

// fileDigest is SHA-256 of every byte so far, zero if the id was given.
func (b *blobWriter) fileDigest() (d rafs.Digest) {
	if b.file == nil {
		return b.digest()
	}
	b.file.Sum(d[:0])
	return d
}

// abort removes what can be removed. b may be nil.
func (b *blobWriter) abort() {
	if b != nil {
		b.out.abort()
	}
}

// sum is the id so far.
func (b *blobWriter) sum() string {
	return hex.EncodeToString(b.id.Sum(nil))
}

// section appends the last bytes of a section of size bytes and, if header is
// set, its tar header.
func (b *blobWriter) section(name string, p []byte, size uint64, header bool) error {
	if err := b.write(p); err != nil {
		return err
	}
	if !header {
		return nil
	}
	return b.write(sectionHeader(name, size))
}

// sectionHeader is the tar header that follows a section (rafs.md 4.1): GNU
// format with name, size, mtime, checksum, type and magic only.
func sectionHeader(name string, size uint64) []byte {
	h := make([]byte, rafs.TarHeaderSize)
	copy(h, name)
	if size < 1<<33 {
		copy(h[124:], fmt.Sprintf("%011o", size))
	} else {
		h[124] = 0x80
		for i := range 8 {
			h[135-i] = byte(size >> (8 * i))
		}
	}
	copy(h[136:], "00000000000")
	copy(h[148:], "        ")
	h[156] = '0'
	copy(h[257:], "ustar  \x00")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%07o\x00", sum))
	return h
}

// encodeTOC is the table of contents without its header.
func encodeTOC(entries []tocEntry) []byte {
	p := make([]byte, 0, len(entries)*rafs.TOCEntrySize)
	for i := range entries {
		e := &entries[i]
		var b [rafs.TOCEntrySize]byte
		le.PutUint32(b[rafs.TOCFlagsAt:], e.flags)
		copy(b[rafs.TOCNameAt:][:rafs.TOCNameSize], e.name)
		copy(b[rafs.TOCDigestAt:], e.digest[:])
		le.PutUint64(b[rafs.TOCCompressedOffAt:], e.off)
		le.PutUint64(b[rafs.TOCCompressedSizeAt:], e.stored)
		le.PutUint64(b[rafs.TOCUncompressedAt:], e.plain)
		p = append(p, b[:]...)
	}
	return p
}

// A cacheWriter fills a cache directory in nydusd's format (rafs.md 5.1, 5.2).
type cacheWriter struct {
	data, meta *output
}

// A cacheWrite is one uncompressed chunk and its place.
type cacheWrite struct {
	off  uint64
	data []byte
}

func newCacheWriter(dir string) (*cacheWriter, error) {
	data, err := createTemp(dir)
	if err != nil {
		return nil, fmt.Errorf("create cache file: %w", err)
	}
	meta, err := createTemp(dir)
	if err != nil {
		data.abort()
		return nil, fmt.Errorf("create cache file: %w", err)
	}
	return &cacheWriter{data, meta}, nil
}

func (c *cacheWriter) write(w cacheWrite) error {
	if isZero(w.data) {
		return nil
	}
	if _, err := c.data.f.WriteAt(w.data, int64(w.off)); err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	return nil
}

// commit sets the size, writes the meta file and gives both their names.
func (c *cacheWriter) commit(id string, size uint64, array, header []byte) error {
	if err := c.data.f.Truncate(int64(size)); err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	pad := make([]byte, alignUp(uint64(len(array)), rafs.BlobMetaArrayCacheAligns)-uint64(len(array)))
	for _, p := range [][]byte{array, pad, header} {
		if _, err := c.meta.f.Write(p); err != nil {
			return fmt.Errorf("write cache: %w", err)
		}
	}
	if err := c.data.commit(id + ".blob.data"); err != nil {
		return err
	}
	return c.meta.commit(id + ".blob.meta")
}

func (c *cacheWriter) abort() {
	if c != nil {
		c.data.abort()
		c.meta.abort()
	}
}

// writeBootstrap stores a finished bootstrap as the sink says and returns its path.
func writeBootstrap(s *Sink, data []byte) (string, error) {
	var (
		out *output
		err error
	)
	switch {
	case s.Bootstrap != "":
		out, err = createOutput(s.Bootstrap)
	case s.BootstrapWriter != nil:
		_, err = s.BootstrapWriter.Write(data)
		return "", err
	case s.BlobDir != "":
		out, err = createTemp(s.BlobDir)
	default:
		return "", fmt.Errorf("%w: no place for the bootstrap", ErrOptions)
	}
	if err != nil {
		return "", fmt.Errorf("create bootstrap: %w", err)
	}
	sum := sha256.Sum256(data)
	for p := range slices.Chunk(data, 8<<20) {
		if _, err := out.f.Write(p); err != nil {
			out.abort()
			return "", fmt.Errorf("write bootstrap: %w", err)
		}
	}
	if err := out.commit(hex.EncodeToString(sum[:])); err != nil {
		out.abort()
		return "", fmt.Errorf("write bootstrap: %w", err)
	}
	return out.path, nil
}
