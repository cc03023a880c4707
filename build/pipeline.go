package build

import (
	"context"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"

	"vrafs/internal/codec"
	"vrafs/rafs"
)

// pipelineBytes is what a job holds unless chunks are larger: enough to make
// the handing over cheap, small enough to keep every worker busy.
const pipelineBytes = 1 << 20

// progressStep is after how many bytes Progress is called again.
const progressStep = 4 << 20

// minEncryptedBatch is the least size of a batch in an encrypted blob. Readers
// tell by unequal sizes that a batch is compressed, but a cipher makes units of
// fewer than 16 bytes longer (rafs.md 4.6, 4.9).
const minEncryptedBatch = 32

// pipelinePieces bounds the pieces of one job, so that a job of empty or tiny files stays short.
const pipelinePieces = 512

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

// A pipeline turns file data into chunks of one blob. Its channels can hold every
// job there is, so that only the taking of a free job ever waits for memory.
type pipeline struct {
	set     *chunkSet
	out     *blobOut
	o       *Options
	w       io.Writer           // stored bytes; may be io.Discard
	hash    hash.Hash           // hashes stored bytes, nil if nobody needs it
	cache   *cacheWriter        // uncompressed bytes, may be nil
	results []stored            // by the writer, in order of units
	read    func(*job) error    // fills reads of a job, by a worker
	newBlob func() (int, error) // puts the blob into the table at its first chunk
	xts     *codec.XTS
	zero    []byte
	zeroSum map[uint32]zeroSum // by size: only full chunks

	free  chan *job
	work  chan *job
	order chan *job
	store chan *job
	sums  chan *job

	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	batch        []byte
	batchMembers []uint32

	dataSize, dedupSize, dedupCount uint64
	done, told, total               uint64 // for Progress; total is 0 if unknown
}

type zeroSum struct {
	digest rafs.Digest
	crc    uint32
}

// start runs the workers. The producer then calls get and put, and at the end finish.
func (p *pipeline) start(ctx context.Context, workers int) {
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	size := max(pipelineBytes, int(p.o.ChunkSize))
	jobs := max(workers+2, min(4*workers+2, 64<<20/size))
	p.zero = make([]byte, p.o.ChunkSize)
	z := zeroSum{codec.Sum(p.o.Digester, p.zero), codec.CRC32C(p.zero)}
	p.zeroSum = map[uint32]zeroSum{p.o.ChunkSize: z}
	p.free = make(chan *job, jobs+1) // one more may come for the last batch
	p.work = make(chan *job, 2*jobs)
	p.order, p.store, p.sums = make(chan *job, jobs), make(chan *job, jobs), make(chan *job, jobs)
	for range jobs {
		p.free <- &job{ready: make(chan error, 1)}
	}
	p.wg.Add(workers + 2)
	for range workers {
		go p.worker()
	}
	go p.sequencer()
	go p.writer()
	if p.hash != nil {
		p.wg.Add(1)
		go p.hasher()
	}
}

// get takes an empty job; it waits until one is free.
func (p *pipeline) get() (*job, error) {
	select {
	case j := <-p.free:
		if j.buf == nil {
			j.buf = make([]byte, max(pipelineBytes, int(p.o.ChunkSize)))
		}
		return j, nil
	case <-p.ctx.Done():
		return nil, context.Cause(p.ctx)
	}
}

// put hands a filled job over. Jobs are stored in the order of put.
func (p *pipeline) put(j *job) {
	p.order <- j
	p.work <- j
}

// finish waits for everything that was put. It must be called once, also after
// an error of the producer's own, which it then returns.
func (p *pipeline) finish(err error) error {
	if err != nil {
		p.cancel(err)
	}
	close(p.order)
	p.wg.Wait()
	cause := context.Cause(p.ctx)
	p.cancel(nil)
	return cause
}

func (p *pipeline) release(j *job) {
	if j.refs.Add(-1) > 0 {
		return
	}
	j.reset()
	p.free <- j
}

// worker runs the two parallel stages until the sequencer closes the queue.
func (p *pipeline) worker() {
	defer p.wg.Done()
	var enc codec.Encoder
	for j := range p.work {
		if p.ctx.Err() != nil {
			j.ready <- context.Cause(p.ctx)
			continue
		}
		if j.stage == 0 {
			j.stage = 1
			j.ready <- p.digest(j)
		} else {
			j.ready <- p.compress(j, &enc)
		}
	}
}

// digest is the first parallel stage.
func (p *pipeline) digest(j *job) error {
	if len(j.reads) > 0 {
		if err := p.read(j); err != nil {
			return err
		}
	}
	for i := range j.pieces {
		c := &j.pieces[i]
		if c.hole {
			if z, ok := p.zeroSum[uint32(len(c.data))]; ok {
				c.digest, c.crc = z.digest, z.crc
				continue
			}
		}
		c.digest, c.crc = codec.Sum(p.o.Digester, c.data), codec.CRC32C(c.data)
	}
	return nil
}

// compress is the second parallel stage.
func (p *pipeline) compress(j *job, enc *codec.Encoder) error {
	for i := range j.units {
		u := &j.units[i]
		u.out = u.data
		if p.o.Compressor != rafs.CompressorNone {
			start := len(j.out)
			out, ok, err := enc.Compress(j.out, u.data, p.o.Compressor)
			if err != nil {
				return err
			}
			if ok {
				j.out = out
				u.out = out[start:]
				u.flags |= rafs.ChunkCompressed
			}
		}
		if p.xts != nil {
			if u.flags&rafs.ChunkCompressed == 0 {
				// Encryption works in place; the data may be shared (holes).
				start := len(j.out)
				j.out = append(j.out, u.data...)
				u.out = j.out[start:]
			}
			u.out = p.xts.Encrypt(u.out)
		}
	}
	return nil
}

// sequencer decides, in order, which chunks are new.
func (p *pipeline) sequencer() {
	defer p.wg.Done()
	defer close(p.store)
	defer close(p.work)
	for j := range p.order {
		err := <-j.ready
		if err == nil {
			err = p.sequence(j)
		}
		if err != nil {
			p.cancel(err)
			continue
		}
		p.pass(j)
	}
	if len(p.batch) > 0 && p.ctx.Err() == nil {
		j := &job{ready: make(chan error, 1), stage: 1}
		p.flushBatch(j)
		p.pass(j)
	}
}

// pass hands a sequenced job on: to a worker if it has to be compressed.
func (p *pipeline) pass(j *job) {
	j.refs.Store(1)
	if p.hash != nil {
		j.refs.Store(2)
	}
	if p.o.Compressor == rafs.CompressorNone && p.xts == nil {
		for i := range j.units {
			j.units[i].out = j.units[i].data
		}
		j.ready <- nil
	} else {
		p.work <- j
	}
	p.store <- j
}

func (p *pipeline) sequence(j *job) error {
	for i := range j.pieces {
		c := &j.pieces[i]
		id, found, err := p.set.find(c.digest, uint32(len(c.data)), c.off)
		if err != nil {
			return err
		}
		if found {
			p.dedupSize += uint64(len(c.data))
			p.dedupCount++
		} else if id, err = p.addChunk(j, c); err != nil {
			return err
		}
		if c.in.chunks == nil {
			c.in.chunks = make([]uint32, 0, chunkCount(c.in.size, p.o.ChunkSize))
		}
		c.in.chunks = append(c.in.chunks, id)
		p.done += uint64(len(c.data))
	}
	if p.o.Progress != nil && p.done-p.told >= progressStep {
		p.told = p.done
		p.o.Progress(p.done, p.total, "data")
	}
	return nil
}

// addChunk makes c a new chunk of the blob and plans how it is stored.
func (p *pipeline) addChunk(j *job, c *piece) (uint32, error) {
	if p.out.table < 0 {
		t, err := p.newBlob()
		if err != nil {
			return 0, err
		}
		p.out.table = t
	}
	size := uint32(len(c.data))
	index, off, err := p.out.next(size)
	if err != nil {
		return 0, err
	}
	p.dataSize += uint64(size)
	ch := rafs.Chunk{Blob: uint16(p.out.table), Index: index, Off: off, Size: size, CRC32: c.crc, Digest: c.digest, HasDigest: true}
	if c.crc != 0 { // a checksum of 0 can't be told from none
		ch.Flags |= rafs.ChunkHasCRC
	}
	if p.xts != nil {
		ch.Flags |= rafs.ChunkEncrypted
	}
	id := p.set.add(ch, c.off)
	if p.cache != nil {
		j.cached = append(j.cached, cacheWrite{off, c.data})
	}
	p.out.chunks = append(p.out.chunks, id)
	if c.at != nil {
		c.at.apply(&p.set.list[id].Chunk)
		return id, nil
	}
	if s := p.o.BatchSize; s != 0 && c.in.size == uint64(size) && size < s/2 {
		if len(p.batch) > 0 && uint32(len(p.batch))+size >= s {
			p.flushBatch(j)
		}
		ch := &p.set.list[id]
		ch.Flags |= rafs.ChunkBatch | rafs.ChunkCompressed
		ch.Unit, ch.UnitOff = uint32(len(p.out.batches)), uint32(len(p.batch))
		p.batch = append(p.batch, c.data...)
		p.batchMembers = append(p.batchMembers, id)
		return id, nil
	}
	p.flushBatch(j)
	j.units = append(j.units, unit{data: c.data, chunk: id, batch: -1})
	return id, nil
}

// flushBatch ends the open batch and makes it a unit of j.
func (p *pipeline) flushBatch(j *job) {
	if len(p.batch) == 0 {
		return
	}
	data := append([]byte(nil), p.batch...)
	if p.xts != nil && len(data) < minEncryptedBatch {
		data = append(data, make([]byte, minEncryptedBatch-len(data))...)
	}
	first := len(j.members)
	j.members = append(j.members, p.batchMembers...)
	j.units = append(j.units, unit{data: data, batch: len(p.out.batches), first: first, last: len(j.members)})
	for _, id := range p.batchMembers {
		p.set.list[id].UnitSize = uint32(len(data))
	}
	p.out.batches = append(p.out.batches, batchContext{uncompressed: uint32(len(data))})
	p.batch, p.batchMembers = p.batch[:0], p.batchMembers[:0]
}

func chunkCount(size uint64, chunkSize uint32) uint64 {
	return (size + uint64(chunkSize) - 1) / uint64(chunkSize)
}

// writer writes units in order and remembers their sizes. It never touches the
// chunk set, which the sequencer is still changing.
func (p *pipeline) writer() {
	defer p.wg.Done()
	if p.hash != nil {
		defer close(p.sums)
	}
	for j := range p.store {
		err := <-j.ready
		if err == nil && p.ctx.Err() == nil {
			err = p.write(j)
		}
		if err != nil {
			p.cancel(err)
			continue
		}
		p.release(j)
	}
}

func (p *pipeline) write(j *job) error {
	for i := range j.units {
		u := &j.units[i]
		r := stored{chunk: u.chunk, size: uint32(len(u.out)), flags: u.flags}
		if u.batch >= 0 {
			r.chunk, r.batch = uint32(u.batch), true
		}
		p.results = append(p.results, r)
		j.segs = appendSeg(j.segs, u.out)
	}
	if p.hash != nil {
		p.sums <- j
	}
	for _, s := range j.segs {
		if _, err := p.w.Write(s); err != nil {
			return fmt.Errorf("write blob: %w", err)
		}
	}
	for _, c := range j.cached {
		if err := p.cache.write(c); err != nil {
			return err
		}
	}
	return nil
}

// appendSeg appends s, joined to the last segment if it lies right behind it in
// memory.
func appendSeg(segs [][]byte, s []byte) [][]byte {
	if len(s) == 0 {
		return segs
	}
	if n := len(segs); n > 0 {
		last := segs[n-1]
		if l := len(last); cap(last) >= l+len(s) && &last[:l+1][l] == &s[0] {
			segs[n-1] = last[:l+len(s)]
			return segs
		}
	}
	return append(segs, s)
}

// hasher hashes what is written, beside the writing.
func (p *pipeline) hasher() {
	defer p.wg.Done()
	for j := range p.sums {
		for _, s := range j.segs {
			p.hash.Write(s)
		}
		p.release(j)
	}
}

// settle gives every chunk of the blob its stored place, after the pipeline has
// ended.
func (p *pipeline) settle() {
	batchOff := make([]uint64, len(p.out.batches))
	for _, r := range p.results {
		if r.batch {
			batchOff[r.chunk] = p.out.off
			p.out.batches[r.chunk].compressed = r.size
		} else {
			c := &p.set.list[r.chunk]
			c.CompressedOff, c.CompressedSize = p.out.off, r.size
			c.Flags |= r.flags
		}
		p.out.off += uint64(r.size)
	}
	for _, id := range p.out.chunks {
		if c := &p.set.list[id]; c.Flags&rafs.ChunkBatch != 0 {
			c.CompressedOff = batchOff[c.Unit]
			c.CompressedSize = p.out.batches[c.Unit].compressed
		}
	}
	p.results = nil
}

func errShort(path string) error {
	return fmt.Errorf("%w: %q changed while it was read", ErrSource, path)
}
