package build

import (
	"sync/atomic"

	"vrafs/rafs"
)

// A piece is one chunk of one file on its way through the pipeline.
type piece struct {
	in     *inode
	off    uint64 // in the file
	data   []byte
	hole   bool   // all zeros; data is the shared zero buffer
	at     *place // where the bytes are stored already, nil if they are to be
	digest rafs.Digest
	crc    uint32
}

// A unit is what is stored as one: a chunk, or a batch of them.
type unit struct {
	data  []byte
	chunk uint32 // number of the chunk, unless batch >= 0
	batch int    // index of the batch context, or -1
	first int    // of a batch: its members are members[first:last] of the job
	last  int
	out   []byte
	flags rafs.ChunkFlags
}

// A fileRead is a part of a file that a worker has to read.
type fileRead struct {
	node       *node
	off        uint64
	size       uint64
	start      int // in job.buf
	first, end int // its pieces
}

// A job is a run of pieces in data order. It goes through four hands: the
// producer fills in what is to be read, a worker reads and digests, the sequencer
// decides in order what is new, a worker compresses, the writers write in order.
type job struct {
	buf     []byte
	used    int
	pieces  []piece
	reads   []fileRead
	units   []unit
	members []uint32 // chunk numbers of batch members
	out     []byte
	batches [][]byte
	segs    [][]byte
	stage   uint8
	ready   chan error
	refs    atomic.Int32
	cached  []cacheWrite
}

// A stored unit, as the writer remembers it.
type stored struct {
	chunk uint32 // or index of the batch
	batch bool
	size  uint32
	flags rafs.ChunkFlags
}

func (j *job) reset() {
	clear(j.cached)
	j.cached = j.cached[:0]
	clear(j.pieces)
	clear(j.units)
	clear(j.reads)
	clear(j.segs)
	j.used, j.stage = 0, 0
	j.pieces, j.reads, j.units, j.segs = j.pieces[:0], j.reads[:0], j.units[:0], j.segs[:0]
	j.members, j.out, j.batches = j.members[:0], j.out[:0], j.batches[:0]
}
