package build

import (
	"fmt"

	"vrafs/rafs"
)

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
