package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// tarBuffer is how much of a stream is read at once.
const tarBuffer = 256 << 10

// tarLimits bound what a tar may make of few bytes: a compressed one grows a
// thousandfold and more, and need never end.
type tarLimits struct {
	size     uint64 // bytes of the plain tar
	tail     uint64 // bytes after the end of the archive, and of zeros after a gzip stream
	names    uint64 // entries, and directories that only their paths name
	metadata uint64 // bytes of names, link targets and extended attributes
	holes    uint64 // chunks of the holes of all sparse files together
}

// defaultTarLimits are far above what images have: a tar of a tebibyte takes a
// quarter of an hour to read.
var defaultTarLimits = tarLimits{size: 1 << 40, tail: 1 << 30, names: 1 << 23, metadata: 1 << 30, holes: 1 << 24}

// A tarSource turns a tar into a tree and hands its data to a pipeline, strictly
// in order.
type tarSource struct {
	t     *tarReader
	p     *pipeline
	b     *builder
	tree  *tarTree
	job   *job
	holes uint64 // chunks of holes that may still come

	names, metadata uint64 // so far
}

func (b *builder) dumpTar(ctx context.Context) error {
	began := time.Now()
	r, closeReader, err := b.openTar()
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSource, b.src.path, err)
	}
	defer closeReader()
	s := &tarSource{t: newTarReader(r), p: b.pipeline(), b: b, tree: b.tarTree(), holes: b.limits.holes}
	s.t.limits = b.limits
	s.p.start(ctx, b.o.Workers)
	if err := s.p.finish(s.read()); err != nil {
		if errors.Is(err, ErrSource) {
			return fmt.Errorf("%s: %w", b.src.path, err)
		}
		return err
	}
	s.tree.sort()
	if err := b.stack(s.tree.root); err != nil {
		return err
	}
	b.stage("build_tree", began)
	b.settle(s.p)
	return nil
}

// openTar gives the plain tar of the source.
func (b *builder) openTar() (r io.Reader, closeReader func(), err error) {
	if b.src.foreign() {
		r, err := b.archive.open(b.src, b.blob)
		return r, func() {}, err
	}
	return Decompressed(b.src.r)
}

// read takes every entry and passes on the last job.
func (s *tarSource) read() error {
	for {
		e, err := s.t.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if s.b.src.estargz() && estargzEntry(e.name) {
			continue
		}
		if err := s.account(e); err != nil {
			return err
		}
		in, err := s.tree.add(e)
		if err != nil {
			return s.t.errAt(e.off, "%q: %v", e.name, err)
		}
		if in == nil || e.typ != tarReg || e.size == 0 {
			continue
		}
		if chunkCount(e.size, s.p.o.ChunkSize) > maxFileChunks {
			return s.t.errAt(e.off, "%q has more than %d chunks", e.name, maxFileChunks)
		}
		if s.b.src.typ == TypeTarfs {
			err = s.refer(e, in)
		} else {
			err = s.data(e, in)
		}
		if err != nil {
			return err
		}
	}
	if s.job != nil {
		s.p.put(s.job)
	}
	return nil
}

// account refuses more entries, or more about them, than the limits allow.
func (s *tarSource) account(e *tarEntry) error {
	l := &s.b.limits
	s.names++
	s.metadata += uint64(len(e.name) + len(e.link))
	for _, x := range e.xattrs {
		s.metadata += uint64(len(x.name) + len(x.value))
	}
	switch {
	case s.names+s.tree.implied > l.names:
		return s.t.errAt(e.off, "more than %d entries, with the directories above them", l.names)
	case s.metadata > l.metadata:
		return s.t.errAt(e.off, "more than %d bytes of names, link targets and extended attributes", l.metadata)
	}
	return nil
}

// estargz reports whether the source has entries that belong to eStargz.
func (s *Source) estargz() bool { return s.typ == TypeEStargz || s.typ == TypeEStargzRef }

// estargzEntry reports whether name is one of the entries that eStargz adds.
func estargzEntry(name string) bool {
	switch cleanPath(name) {
	case "/stargz.index.json", "/.prefetch.landmark", "/.no.prefetch.landmark":
		return true
	}
	return false
}

// data cuts the content of e into chunks.
func (s *tarSource) data(e *tarEntry, in *inode) error {
	cs := uint64(s.p.o.ChunkSize)
	ranges := e.sparse
	if !e.isSparse {
		ranges = []extent{{0, e.size}}
	} else if s.b.src.foreign() {
		return s.t.errAt(e.off, "%q is sparse, which cannot be referred to", e.name)
	}
	for off := uint64(0); off < e.size; off += cs {
		size := min(cs, e.size-off)
		for len(ranges) > 0 && ranges[0].off+ranges[0].len <= off {
			ranges = ranges[1:]
		}
		if err := s.room(size); err != nil {
			return err
		}
		c := piece{in: in, off: off}
		if len(ranges) == 0 || ranges[0].off >= off+size {
			if s.holes == 0 {
				return s.t.errAt(e.off, "too many chunks of holes")
			}
			s.holes--
			c.hole, c.data = true, s.p.zero[:size]
		} else {
			c.data = s.job.buf[s.job.used:][:size]
			s.job.used += int(size)
			var err error
			if s.b.src.ref() {
				c.at, err = s.b.archive.locate(e.dataOff+off, size, func() error { return s.fill(c.data, off, ranges) })
			} else {
				err = s.fill(c.data, off, ranges)
			}
			if err != nil {
				return s.t.errAt(e.off, "%q: %v", e.name, err)
			}
		}
		s.job.pieces = append(s.job.pieces, c)
	}
	return nil
}

// room makes sure that the job can take one more chunk of size bytes.
func (s *tarSource) room(size uint64) (err error) {
	if j := s.job; j != nil {
		if len(j.pieces) < pipelinePieces && uint64(len(j.buf)-j.used) >= size {
			return nil
		}
		s.p.put(j)
	}
	s.job, err = s.p.get()
	return err
}

// fill reads the bytes at off of a file whose data lies in ranges; between them
// are zeros.
func (s *tarSource) fill(p []byte, off uint64, ranges []extent) error {
	end := off + uint64(len(p))
	done := off
	for _, x := range ranges {
		if x.off >= end {
			break
		}
		from, to := max(x.off, off), min(x.off+x.len, end)
		clear(p[done-off : from-off])
		if _, err := io.ReadFull(s.t, p[from-off:to-off]); err != nil {
			return noEOF(err)
		}
		done = to
	}
	clear(p[done-off:])
	return nil
}
