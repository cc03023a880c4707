package chunkread

import (
	"context"
	"iter"
	"runtime"
	"sync"

	"vrafs/rafs"
)

// An Item is one step of a stream: a chunk to read, as Inode.Chunk gives it, or,
// if its Size is 0, only a Tag that keeps its place among the chunks.
type Item struct {
	Chunk rafs.Chunk
	Tag   any
}

// A Piece is an item that was read. Its slices are valid during the call of emit.
type Piece struct {
	Item          // with its Chunk completed
	Data   []byte // the chunk's bytes, proved
	Stored []byte // as the blob has them, decrypted; nil for a slice of a unit
}

// A slot carries one piece through a worker and back.
type slot struct {
	piece    Piece
	req      request
	buf, raw []byte // memory of Data and of stored bytes
	err      error
	done     chan struct{}
}

// Stream reads the chunks of items and hands each to emit, in order. items runs
// ahead of emit in the same goroutine. It blocks until all are emitted or something
// fails. workers 0 means one per processor.
func (r *Reader) Stream(ctx context.Context, workers int, items iter.Seq2[Item, error], emit func(Piece) error) error {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	slots := make([]slot, 2*workers+1)
	for i := range slots {
		slots[i].done = make(chan struct{}, 1)
	}
	work := make(chan *slot, len(slots))
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	// Deferred, so that workers end also if a mapping faults under pump.
	defer wg.Wait()
	defer close(work)
	defer cancel()
	wg.Add(workers)
	for range workers {
		go func() {
			defer wg.Done()
			var w worker
			for s := range work {
				if s.err = ctx.Err(); s.err == nil {
					s.err = w.read(ctx, s)
				}
				s.done <- struct{}{}
			}
		}()
	}
	return r.pump(ctx, slots, work, items, emit)
}

// pump fills free slots and empties finished ones, oldest first. Only it touches
// the bootstrap.
func (r *Reader) pump(ctx context.Context, slots []slot, work chan<- *slot, items iter.Seq2[Item, error], emit func(Piece) error) error {
	var head, tail int
	drain := func() error {
		s := &slots[tail%len(slots)]
		tail++
		<-s.done
		if s.err != nil {
			return s.err
		}
		return emit(s.piece)
	}
	for item, err := range items {
		if err != nil {
			return err
		}
		if head-tail == len(slots) {
			if err := drain(); err != nil {
				return err
			}
		}
		s := &slots[head%len(slots)]
		head++
		if s.piece = (Piece{Item: item}); item.Chunk.Size == 0 {
			s.err = ctx.Err()
			s.done <- struct{}{}
			continue
		}
		if s.piece.Chunk, err = r.Resolve(ctx, item.Chunk); err != nil {
			return err
		}
		if s.req, err = r.request(s.piece.Chunk); err != nil {
			return err
		}
		work <- s
	}
	for tail < head {
		if err := drain(); err != nil {
			return err
		}
	}
	return nil
}

// FileChunks gives the chunks of a regular file in order. They cover it exactly,
// or the last step is an error.
func FileChunks(im *rafs.Image, n *rafs.Inode) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		var spans [1]rafs.Span
		for off := uint64(0); off < n.Size(); {
			s, err := n.AppendSpans(spans[:0], off, uint64(im.ChunkSize()))
			if err != nil {
				yield(Item{}, err)
				return
			}
			c := rafs.Chunk{Blob: s[0].Blob, Index: s[0].Index, Off: s[0].Off, Size: s[0].Len}
			if im.Version() == rafs.V5 {
				if c, err = im.ChunkAt(s[0].Ref); err == nil && c.Off != s[0].Off {
					err = &rafs.FormatError{Off: s[0].Ref, Field: "chunk.file_offset", Why: "chunks overlap"}
				}
			}
			if !yield(Item{Chunk: c}, err) || err != nil {
				return
			}
			off += uint64(c.Size)
		}
	}
}

// BlobChunks gives the chunks of blob i that the image refers to, by number. Only
// images that count the blob's chunks have an index; the oldest v5 ones don't.
func (r *Reader) BlobChunks(i uint16) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		t, err := r.index.Table(i)
		if err != nil {
			yield(Item{}, err)
			return
		}
		for k := range t.Len() {
			if c, ok := t.Chunk(rafs.ChunkIndex(k)); ok && !yield(Item{Chunk: c}, nil) {
				return
			}
		}
	}
}
