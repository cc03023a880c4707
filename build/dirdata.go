package build

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// dump hands the data of files to the pipeline, in order.
func (s *dirSource) dump(p *pipeline, files []*node) error {
	j, err := p.get()
	if err != nil {
		return err
	}
	cs := uint64(p.o.ChunkSize)
	for _, n := range files {
		in := n.in
		if chunkCount(in.size, p.o.ChunkSize) > maxFileChunks {
			return fmt.Errorf("%w: %q has more than %d chunks", ErrSource, n.path(), maxFileChunks)
		}
		for off := uint64(0); off < in.size; {
			// A run of chunks that fits into the job; the last may be short.
			room := uint64(len(j.buf) - j.used)
			left := in.size - off
			size := min(left, room)
			if size < left {
				size -= size % cs
			}
			if size == 0 || len(j.pieces) >= pipelinePieces {
				p.put(j)
				if j, err = p.get(); err != nil {
					return err
				}
				continue
			}
			size = min(size, cs*uint64(pipelinePieces))
			r := fileRead{node: n, off: off, size: size, start: j.used, first: len(j.pieces)}
			for end := off + size; off < end; {
				c := min(cs, end-off)
				j.pieces = append(j.pieces, piece{in: in, off: off, data: j.buf[j.used:][:c]})
				j.used += int(c)
				off += c
			}
			r.end = len(j.pieces)
			j.reads = append(j.reads, r)
		}
	}
	p.put(j)
	return nil
}

// readJob fills the pieces of a job from their files. It is called by workers.
func (s *dirSource) readJob(p *pipeline, j *job) error {
	for i := range j.reads {
		if err := s.readFile(p, j, &j.reads[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *dirSource) readFile(p *pipeline, j *job, r *fileRead) error {
	path := r.node.path()
	fd, err := openat(int(s.root.Fd()), path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return fmt.Errorf("open %s: %w", s.name+path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", s.name+path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || uint64(st.Size) != r.node.in.size {
		return errShort(s.name + path)
	}
	if r.node.in.flags&inodeSparse != 0 {
		return s.readSparse(p, j, r, fd, s.name+path)
	}
	return readFull(fd, j.buf[r.start:][:r.size], r.off, s.name+path)
}

// readSparse reads chunk by chunk and passes over chunks that lie in a hole.
func (s *dirSource) readSparse(p *pipeline, j *job, r *fileRead, fd int, path string) error {
	data := int64(-1) // where data is known to begin, at or after the chunk
	for i := r.first; i < r.end; i++ {
		c := &j.pieces[i]
		if data < int64(c.off) {
			next, err := unix.Seek(fd, int64(c.off), unix.SEEK_DATA)
			switch {
			case err == unix.ENXIO:
				next = int64(r.node.in.size)
			case err != nil:
				next = int64(c.off)
			}
			data = next
		}
		if uint64(data) >= c.off+uint64(len(c.data)) {
			c.hole = true
			c.data = p.zero[:len(c.data)]
			continue
		}
		if err := readFull(fd, c.data, c.off, path); err != nil {
			return err
		}
	}
	return nil
}

// readFull fills p from off.
func readFull(fd int, p []byte, off uint64, path string) error {
	for len(p) > 0 {
		n, err := unix.Pread(fd, p, int64(off))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if n == 0 {
			return errShort(path)
		}
		p, off = p[n:], off+uint64(n)
	}
	return nil
}

// errShort says that a file is not what it was when the tree was read.
func errShort(path string) error {
	return fmt.Errorf("%w: %q changed while it was read", ErrSource, path)
}
