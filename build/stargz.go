package build

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"vrafs/rafs"
)

const (
	stargzVersion = 1       // of the table of contents that is understood
	maxStargzTOC  = 1 << 30 // bytes of a table of contents
	stargzWhole   = "reg"   // first chunk of a file, with the file's attributes
	stargzMore    = "chunk" // another chunk of the file before
)

// A stargzEntry is one entry of an eStargz layer's table of contents
// (stargz-snapshotter, docs/estargz.md, "TOC, TOCEntries and Footer").
type stargzEntry struct {
	Name        string            `json:"name"`
	Type        string            `json:"type"`
	Size        uint64            `json:"size"`
	ModTime     string            `json:"modtime"`
	LinkName    string            `json:"linkName"`
	Mode        uint32            `json:"mode"`
	UID         uint32            `json:"uid"`
	GID         uint32            `json:"gid"`
	DevMajor    uint32            `json:"devMajor"`
	DevMinor    uint32            `json:"devMinor"`
	Xattrs      map[string][]byte `json:"xattrs"`
	Digest      string            `json:"digest"`
	Offset      uint64            `json:"offset"`
	InnerOffset uint64            `json:"innerOffset"`
	ChunkOffset uint64            `json:"chunkOffset"`
	ChunkSize   uint64            `json:"chunkSize"`
	ChunkDigest string            `json:"chunkDigest"`
}

// stargzTypes are the tar types of entries.
var stargzTypes = map[string]byte{
	stargzWhole: tarReg, "dir": tarDir, "symlink": tarSymlink, "hardlink": tarLink,
	"char": tarChar, "block": tarBlock, "fifo": tarFifo,
}

// A stargzSource makes a tree of a table of contents. Its chunks are gzip members of
// the layer, which is not read, so their stored sizes are upper bounds (rafs.md 4.13).
type stargzSource struct {
	b    *builder
	tree *tarTree
	last struct { // the file whose chunks come
		name string
		in   *inode
		next uint64 // offset of its next chunk
	}
	from    []uint64 // where the members of the layer begin
	ignored bool     // the last file is none of the layer's
}

func (b *builder) dumpStargz() error {
	began := time.Now()
	if b.o.Version == rafs.V6 {
		b.own.align = true
	}
	s := &stargzSource{b: b, tree: b.tarTree()}
	if err := s.read(io.LimitReader(b.src.r, maxStargzTOC)); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSource, b.src.path, err)
	}
	if err := s.settle(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSource, b.src.path, err)
	}
	s.tree.sort()
	if err := b.stack(s.tree.root); err != nil {
		return err
	}
	b.stage("build_tree", began)
	return nil
}

// read takes the entries one by one: a table of contents may be large.
func (s *stargzSource) read(r io.Reader) error {
	d := json.NewDecoder(r)
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("no table of contents: not a JSON object")
	}
	version := 0
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return noEOF(err)
		}
		switch key {
		case "version":
			err = d.Decode(&version)
		case "entries":
			err = s.entries(d)
		default:
			err = d.Decode(new(json.RawMessage))
		}
		if err != nil {
			return fmt.Errorf("%v: %w", key, noEOF(err))
		}
	}
	if _, err := d.Token(); err != nil { // More is false at the end of what can be read, too
		return noEOF(err)
	}
	if version != stargzVersion {
		return fmt.Errorf("table of contents of version %d, want %d", version, stargzVersion)
	}
	return s.complete()
}

func (s *stargzSource) entries(d *json.Decoder) error {
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return errors.New("not a list")
	}
	for i := 0; d.More(); i++ {
		var e stargzEntry
		if err := d.Decode(&e); err != nil {
			return err
		}
		if err := s.entry(&e); err != nil {
			return fmt.Errorf("entry %d, %.80q: %w", i, e.Name, err)
		}
	}
	_, err := d.Token()
	return err
}

func (s *stargzSource) entry(e *stargzEntry) error {
	if e.Type == stargzMore {
		if cleanPath(e.Name) != s.last.name {
			return errors.New("a chunk of another file than the one before")
		}
		return s.chunk(e)
	}
	if err := s.complete(); err != nil {
		return err
	}
	s.last.name, s.last.in, s.last.next = cleanPath(e.Name), nil, 0
	if s.ignored = estargzEntry(e.Name); s.ignored {
		return nil
	}
	t, err := e.tar()
	if err != nil {
		return err
	}
	if s.last.in, err = s.tree.add(t); err != nil || e.Type != stargzWhole || e.Size == 0 {
		return err
	}
	if chunkCount(e.Size, s.b.o.ChunkSize) > maxFileChunks {
		return fmt.Errorf("more than %d chunks", maxFileChunks)
	}
	return s.chunk(e)
}

// complete refuses a file of which chunks are missing.
func (s *stargzSource) complete() error {
	if in := s.last.in; in != nil && in.isReg() && s.last.next < in.size {
		return fmt.Errorf("%.80q: chunks for %d of %d bytes", s.last.name, s.last.next, in.size)
	}
	return nil
}

// tar is e as an entry of a tar.
func (e *stargzEntry) tar() (*tarEntry, error) {
	t := &tarEntry{name: e.Name, link: e.LinkName, mode: e.Mode & 0o7777, uid: e.UID, gid: e.GID,
		size: e.Size, major: e.DevMajor, minor: e.DevMinor}
	var ok bool
	if t.typ, ok = stargzTypes[e.Type]; !ok {
		return nil, fmt.Errorf("type %.20q", e.Type)
	}
	if e.Size > math.MaxInt64 {
		return nil, fmt.Errorf("size %d", e.Size)
	}
	if e.ModTime != "" {
		at, err := time.Parse(time.RFC3339, e.ModTime)
		if err != nil {
			return nil, fmt.Errorf("modtime %.40q", e.ModTime)
		}
		t.mtime, t.nsec = at.Unix(), uint32(at.Nanosecond())
	}
	for name, value := range e.Xattrs {
		t.xattrs = append(t.xattrs, xattr{name, value})
	}
	return t, nil
}

// chunk adds the part of the last file that e describes.
func (s *stargzSource) chunk(e *stargzEntry) error {
	in := s.last.in
	if s.ignored {
		return nil
	}
	if in == nil || !in.isReg() {
		return errors.New("a chunk without a file")
	}
	cs := uint64(s.b.o.ChunkSize)
	if s.last.next >= in.size {
		return fmt.Errorf("more chunks than the %d bytes of the file", in.size)
	}
	size := min(cs, in.size-s.last.next)
	stated := cmp.Or(e.ChunkSize, in.size-s.last.next) // 0 is all that is left
	if e.ChunkOffset != s.last.next || stated != size {
		return fmt.Errorf("chunk of %d bytes at %d, want %d at %d: give the layer's chunk size with --chunk-size",
			stated, e.ChunkOffset, size, s.last.next)
	}
	if e.InnerOffset != 0 {
		return errors.New("chunks that share a gzip stream can't be referred to")
	}
	digest, err := e.chunkDigest(size == in.size)
	if err != nil {
		return err
	}
	s.last.next += size
	s.from = append(s.from, e.Offset)
	id, found, err := s.b.set.find(digest, uint32(size), e.ChunkOffset)
	if err != nil {
		return err
	}
	if !found {
		if id, err = s.add(digest, e, uint32(size)); err != nil {
			return err
		}
		s.b.res.DataSize += size
	} else {
		s.b.res.DedupSize += size
		s.b.res.DedupCount++
	}
	in.chunks = append(in.chunks, id)
	return nil
}

// add makes a new chunk of the layer.
func (s *stargzSource) add(digest rafs.Digest, e *stargzEntry, size uint32) (uint32, error) {
	b := s.b
	if e.Offset > rafs.V6MaxCompressed {
		return 0, fmt.Errorf("offset %d", e.Offset)
	}
	if b.own.table < 0 {
		var err error
		if b.own.table, err = b.ownBlob(); err != nil {
			return 0, err
		}
	}
	index, off, err := b.own.next(size)
	if err != nil {
		return 0, err
	}
	id := b.set.add(rafs.Chunk{
		Blob: uint16(b.own.table), Index: index, Flags: rafs.ChunkCompressed, Off: off, Size: size,
		CompressedOff: e.Offset, Digest: digest, HasDigest: true,
	}, e.ChunkOffset)
	b.own.chunks = append(b.own.chunks, id)
	return id, nil
}

// chunkDigest is the digest of e's bytes; whole says that they are the whole file.
func (e *stargzEntry) chunkDigest(whole bool) (d rafs.Digest, err error) {
	text := e.ChunkDigest
	if text == "" && whole {
		text = e.Digest
	}
	digits, ok := strings.CutPrefix(text, "sha256:")
	if ok && len(digits) == hex.EncodedLen(len(d)) {
		_, err = hex.Decode(d[:], []byte(digits))
	}
	if !ok || err != nil || d.IsZero() {
		return d, fmt.Errorf("chunk digest %.80q is no SHA-256 digest: nothing could be verified", text)
	}
	return d, nil
}

// settle gives every chunk its stored size: what lies before the next member, but
// not more than gzip can make of it.
func (s *stargzSource) settle() error {
	slices.Sort(s.from)
	s.from = slices.Compact(s.from)
	a := &s.b.archive
	a.name, a.size = s.b.o.BlobID, s.b.o.BlobDataSize
	grow := a.size == 0
	for _, id := range s.b.own.chunks {
		c := &s.b.set.list[id]
		room := uint64(math.MaxUint64)
		if i, _ := slices.BinarySearch(s.from, c.CompressedOff+1); i < len(s.from) {
			room = s.from[i] - c.CompressedOff
		} else if !grow {
			if c.CompressedOff >= a.size {
				return fmt.Errorf("chunk at %d of a layer of %d bytes (--blob-data-size)", c.CompressedOff, a.size)
			}
			room = a.size - c.CompressedOff
		}
		size := min(room, maxGzip(uint64(c.Size)))
		if size == uint64(c.Size) {
			size++ // equal sizes say that a chunk is stored as it is
		}
		if size > rafs.MaxUnitSize {
			return fmt.Errorf("chunk size %#x is too large for gzip", s.b.o.ChunkSize)
		}
		c.CompressedSize = uint32(size)
		if grow {
			a.size = max(a.size, c.CompressedOff+size)
		}
	}
	return nil
}

// maxGzip is the most bytes that gzip makes of n (rafs.md 4.13).
func maxGzip(n uint64) uint64 { return n + 10 + 8 + 5 + n/16384*5 + 128 }
