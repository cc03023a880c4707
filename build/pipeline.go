package build

import (
	"context"
	"hash"
	"io"
	"sync"

	"vrafs/internal/codec"
	"vrafs/rafs"
)

// pipelineBytes is what a job holds unless chunks are larger: enough to make
// the handing over cheap, small enough to keep every worker busy.
const pipelineBytes = 1 << 20

// pipelinePieces bounds the pieces of one job, so that a job of empty or tiny files stays short.
const pipelinePieces = 512

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
