package blobcache

import (
	"fmt"
	"time"

	"vrafs/rafs"
)

// A flightKey names a fetch. Images that disagree about a chunk fetch it apart.
type flightKey struct {
	file  *blobFile
	index rafs.ChunkIndex
	proof proof
}

// A flight is the fetching of one chunk, for all who wait for it. Its fields
// belong to the scheduler until it is taken, then to whoever runs it.
type flight struct {
	key   flightKey
	view  *view
	chunk rafs.Chunk

	urgency Urgency   // guarded by scheduler.mu
	batch   *batch    // that is to bring it; guarded by scheduler.mu, nil while it is pending
	ripe    time.Time // when it may be asked for without its neighbours

	stream uint64           // part of a pass over the blob that goes on to this byte; 0: it isn't
	got    []byte           // the first of its stored bytes, from a request that made way
	along  bool             // read along with another
	local  bool             // look into the data file first
	unsure bool             // led by chunk infos that may be wrong
	origin bool             // second attempt, from the origin
	zran   rafs.ZranContext // of a zran chunk's unit

	epoch uint32 // after done: when it was put into the data file

	done chan struct{}
	err  error  // after done
	held []byte // after done: the chunk, if it could not be stored
}

// end is the end of the flight's stored bytes.
func (f *flight) end() uint64 { return f.chunk.CompressedOff + uint64(f.chunk.CompressedSize) }

// sameUnit reports whether f and g are slices of one batch or zran unit.
func (f *flight) sameUnit(g *flight) bool { return f.sharesUnit(&g.chunk) }

// sharesUnit reports whether a chunk is a slice of the unit that the flight's is of.
func (f *flight) sharesUnit(c *rafs.Chunk) bool {
	return f.chunk.UnitSize != 0 && c.UnitSize != 0 &&
		f.chunk.Unit == c.Unit && f.chunk.UnitSize == c.UnitSize && f.chunk.CompressedOff == c.CompressedOff
}

// errorf wraps err with the name of the chunk.
func (f *flight) errorf(err error) error {
	return fmt.Errorf("blob %s: chunk %d: %w", f.key.file.key.id, f.chunk.Index, err)
}
