package build

import "vrafs/rafs"

// progressStep is after how many bytes Progress is called again.
const progressStep = 4 << 20

// minEncryptedBatch is the least size of a batch in an encrypted blob. Readers
// tell by unequal sizes that a batch is compressed, but a cipher makes units of
// fewer than 16 bytes longer (rafs.md 4.6, 4.9).
const minEncryptedBatch = 32

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
