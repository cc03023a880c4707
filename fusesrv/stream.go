package fusesrv

// A stream is a run of bytes in any number of pieces.
type stream struct {
	parts [][]byte
	total int
}

func newStream(parts [][]byte) stream {
	s := stream{parts: parts}
	for _, p := range parts {
		s.total += len(p)
	}
	return s
}

// get copies the bytes at off into p; they must be there.
func (s *stream) get(off int, p []byte) {
	for _, part := range s.parts {
		if off >= len(part) {
			off -= len(part)
			continue
		}
		n := copy(p, part[off:])
		if p = p[n:]; len(p) == 0 {
			return
		}
		off = 0
	}
}

// put copies p to off; there must be room.
func (s *stream) put(off int, p []byte) {
	w := s.writer(off)
	w.write(p)
}

// A writer fills a stream from some place on.
type writer struct {
	parts [][]byte
	off   int // in parts[0]
}

func (s *stream) writer(off int) writer {
	w := writer{s.parts, off}
	w.skip()
	return w
}

// skip leaves the parts behind that are full.
func (w *writer) skip() {
	for len(w.parts) > 0 && w.off >= len(w.parts[0]) {
		w.off -= len(w.parts[0])
		w.parts = w.parts[1:]
	}
}

// write copies p on; there must be room.
func (w *writer) write(p []byte) {
	for len(p) > 0 && len(w.parts) > 0 {
		n := copy(w.parts[0][w.off:], p)
		p = p[n:]
		w.off += n
		w.skip()
	}
}

// slice appends the pieces of the n bytes at off, fewer if the stream ends
// before.
func (s *stream) slice(dst [][]byte, off, n int) [][]byte {
	for _, part := range s.parts {
		if n <= 0 {
			break
		}
		if off >= len(part) {
			off -= len(part)
			continue
		}
		part = part[off:]
		part = part[:min(n, len(part))]
		n -= len(part)
		off = 0
		dst = append(dst, part)
	}
	return dst
}
