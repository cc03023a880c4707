package imagefs

import (
	"slices"
	"sync/atomic"
	"testing"

	"vrafs/rafs"
)

func traceOf(chunks int) *trace {
	return &trace{seen: [][]atomic.Pointer[tracePage]{make([]atomic.Pointer[tracePage], (chunks+pageChunks-1)/pageChunks)}}
}

func TestTraceHasEachChunkOnceInTheOrderOfReads(t *testing.T) {
	tr := traceOf(100)
	small, big := traced{7, 5000, 4096}, traced{9, 1 << 20, 4096}
	chunk := func(i int, n uint32) rafs.Span { return rafs.Span{Index: rafs.ChunkIndex(i), Len: n} }
	tr.note(big, 8192+100, []rafs.Span{chunk(12, 3996), chunk(13, 100)})
	tr.note(small, 4096, []rafs.Span{chunk(51, 904)})
	tr.note(big, 8192, []rafs.Span{chunk(12, 4096), chunk(13, 4096), chunk(14, 4096)}) // half of it is known
	tr.note(big, 20480, []rafs.Span{chunk(15, 10)})
	tr.note(small, 0, []rafs.Span{chunk(50, 4096), {Blob: 3, Index: 1, Len: 904}, {Index: 1 << 20, Len: 1}}) // no such blob, no such chunk
	want := []Touch{{9, 8192, 8192}, {7, 4096, 904}, {9, 16384, 8192}, {7, 0, 4096}}
	if !slices.Equal(tr.list, want) {
		t.Errorf("got %v, want %v", tr.list, want)
	}
}

// TestTraceIsBounded: a guest that reads everything in the worst order takes no more
// memory than that.
func TestTraceIsBounded(t *testing.T) {
	tr := traceOf(1 << 18)
	for i := range 1 << 18 {
		tr.note(traced{rafs.Ino(i % 2), 1 << 40, 4096}, uint64(i)*8192, []rafs.Span{{Index: rafs.ChunkIndex(i), Len: 1}})
	}
	if len(tr.list) != maxTouches {
		t.Errorf("%d entries, want %d", len(tr.list), maxTouches)
	}
}
