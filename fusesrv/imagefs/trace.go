package imagefs

import (
	"slices"
	"sync"
	"sync/atomic"

	"vrafs/rafs"
)

// A Touch is a part of a file that was read, in whole chunks.
type Touch struct {
	Ino       rafs.Ino
	Off, Size uint64 // bytes of the file
}

// A trace is what was read of an image, in the order of first reads. It notes a chunk
// once, whichever file it was read for, so reads of what it has cost a look at a bit.
//
//	blob -> page of pageChunks -> bit per chunk
type trace struct {
	seen [][]atomic.Pointer[tracePage] // by blob; pages are made at first use

	mu   sync.Mutex
	list []Touch
}

const (
	pageChunks = 1 << 15
	// maxTouches bounds what a guest can have us remember; later reads are not noted.
	maxTouches = 1 << 16
)

type tracePage [pageChunks / 64]atomic.Uint64

func newTrace(im *rafs.Image) *trace {
	t := &trace{}
	for i := range im.Blobs() {
		chunks := im.Blobs()[i].ChunkCount
		if chunks == 0 {
			chunks = rafs.MaxChunksPerBlob
		}
		t.seen = append(t.seen, make([]atomic.Pointer[tracePage], (uint64(chunks)+pageChunks-1)/pageChunks))
	}
	return t
}

// has reports whether a chunk is in the trace, or can't be.
func (t *trace) has(s *rafs.Span) bool {
	if int(s.Blob) >= len(t.seen) || int(s.Index)/pageChunks >= len(t.seen[s.Blob]) {
		return true
	}
	p := t.seen[s.Blob][s.Index/pageChunks].Load()
	return p != nil && p[s.Index%pageChunks/64].Load()&(1<<(s.Index%64)) != 0
}

// A traced is the file that a read is of.
type traced struct {
	ino             rafs.Ino
	size, chunkSize uint64
}

// note puts the chunks of a read into the trace that it doesn't have.
func (t *trace) note(f traced, off uint64, spans []rafs.Span) {
	for i := range spans {
		if !t.has(&spans[i]) {
			t.add(f, off, &spans[i])
		}
		off += uint64(spans[i].Len)
	}
}

func (t *trace) add(f traced, off uint64, s *rafs.Span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.list) >= maxTouches || t.has(s) {
		return
	}
	page := &t.seen[s.Blob][s.Index/pageChunks]
	if page.Load() == nil {
		page.Store(new(tracePage))
	}
	page.Load()[s.Index%pageChunks/64].Or(1 << (s.Index % 64))
	begin := off / f.chunkSize * f.chunkSize
	end := min(begin+f.chunkSize, f.size)
	if last := len(t.list) - 1; last >= 0 && t.list[last].Ino == f.ino && t.list[last].Off+t.list[last].Size == begin {
		t.list[last].Size = end - t.list[last].Off
		return
	}
	t.list = append(t.list, Touch{f.ino, begin, end - begin})
}

// Trace gives the parts of files that were read so far, in the order of first reads.
// What was read twice is there once, and so is data that several files share.
func (f *FS) Trace() []Touch {
	f.trace.mu.Lock()
	defer f.trace.mu.Unlock()
	return slices.Clone(f.trace.list)
}
