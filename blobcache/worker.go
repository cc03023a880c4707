package blobcache

import (
	"bytes"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"vrafs/internal/codec"
	"vrafs/rafs"
)

// workerNice is the nice value of decompressor threads: queues that serve hits go
// first.
const workerNice = 15

// A worker decodes, verifies and stores chunks on a thread of its own.
type worker struct {
	s    *scheduler
	dec  codec.Decoder
	out  []byte // decoded unit
	temp []byte // decrypted unit
}

// run serves jobs until the store's context ends. The thread is never unlocked, so
// it ends with the goroutine and its nice value with it.
func (w *worker) run() {
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, workerNice)
	for {
		select {
		case j := <-w.s.urgent:
			w.do(j)
			continue
		default:
		}
		select {
		case j := <-w.s.urgent:
			w.do(j)
		case j := <-w.s.jobs:
			w.do(j)
		case <-w.s.ctx.Done():
			return
		}
	}
}

func (w *worker) do(j job) {
	if j.buf == nil {
		w.local(j.flights[0])
		return
	}
	defer w.s.release(j.buf)
	unit, err := w.decode(j.flights, j.stored)
	for _, f := range j.flights {
		if err != nil {
			w.wrong(f, fmt.Errorf("%w: %w", ErrDigest, err))
			continue
		}
		w.deliver(f, slice(f, unit))
	}
}

// slice gives a chunk's bytes in the unit.
func slice(f *flight, unit []byte) []byte {
	if f.chunk.UnitSize == 0 {
		return unit
	}
	return unit[f.chunk.UnitOff:][:f.chunk.Size]
}

// decode turns stored bytes into those of the unit, or of as much of it as the
// flights need.
func (w *worker) decode(flights []*flight, stored []byte) ([]byte, error) {
	c := &flights[0].chunk
	v := flights[0].view
	if c.Flags&rafs.ChunkEncrypted != 0 || c.UnitSize != 0 && v.blob.Encrypted() {
		x, err := v.xts()
		if err != nil {
			return nil, err
		}
		if x == nil {
			return nil, fmt.Errorf("%w: encrypted chunk in a blob without key", rafs.ErrCorrupt)
		}
		w.temp = append(w.temp[:0], stored...)
		if stored, err = x.Decrypt(w.temp); err != nil {
			return nil, err
		}
	}
	size, compressed := c.Size, c.Flags&rafs.ChunkCompressed != 0
	switch {
	case c.Flags&rafs.ChunkZran != 0:
		for _, f := range flights {
			size = max(size, f.chunk.UnitOff+f.chunk.Size)
		}
		z := &flights[0].zran
		out := w.scratch(size)
		return out, w.dec.Zran(out, stored, codec.ZranContext{Byte: z.CtxByte, Bits: z.CtxBits, Dict: z.Dict})
	case c.UnitSize != 0: // told by the plaintext's size: encryption may have padded it
		size, compressed = c.UnitSize, uint32(len(stored)) != c.UnitSize
	}
	if !compressed {
		if uint32(len(stored)) != size {
			return nil, fmt.Errorf("%w: %d stored bytes of %d", codec.ErrData, len(stored), size)
		}
		return stored, nil
	}
	out := w.scratch(size)
	return out, w.dec.Decompress(out, stored, v.blob.Compressor)
}

func (w *worker) scratch(size uint32) []byte {
	if uint32(cap(w.out)) < size {
		w.out = make([]byte, size)
	}
	return w.out[:size]
}

// check compares digest and CRC, whichever there are.
func check(f *flight, p []byte) error {
	c := &f.chunk
	if c.HasDigest && codec.Sum(f.view.blob.Digester, p) != c.Digest {
		return ErrDigest
	}
	if c.Flags&rafs.ChunkHasCRC != 0 && codec.CRC32C(p) != c.CRC32 {
		return fmt.Errorf("%w: CRC", ErrDigest)
	}
	return nil
}

// local looks for a chunk in the data file. One that isn't there, or isn't right, is
// fetched.
func (w *worker) local(f *flight) {
	p := w.scratch(f.chunk.Size)
	if w.find(f, p) {
		w.s.finish(f, nil)
		return
	}
	if bitsLied(f, p) {
		f.view.cache.count.mismatches.Add(1)
	}
	w.s.mu.Lock()
	f.local = false // others look at it while it is under way
	w.s.mu.Unlock()
	w.s.submit(f)
}

// find reads a chunk in the data file and reports whether it is right.
func (w *worker) find(f *flight, p []byte) bool {
	file := f.key.file
	var err error
	file.mu.RLock()
	right := file.readChunk(&f.chunk, p) == nil && check(f, p) == nil
	if right {
		f.epoch, err = file.epoch, file.confirm(f.chunk.Index, f.key.proof)
	}
	file.mu.RUnlock()
	w.unkept(f, err)
	return right
}

// keep puts a verified chunk into the data file if the limit allows, and reports
// whether it can be read from there.
func (w *worker) keep(f *flight, p []byte) bool {
	limit := f.view.cache.store.limit
	if !limit.room(uint64(len(p))) {
		return false
	}
	defer limit.settle(uint64(len(p)))
	file := f.key.file
	file.mu.RLock()
	stored, err := file.store(&f.chunk, f.key.proof, p)
	f.epoch = file.epoch
	file.mu.RUnlock()
	w.unkept(f, err)
	return stored
}

// unkept warns of what keeps a chunk or its proof from the disk, if there is anything.
func (w *worker) unkept(f *flight, err error) {
	if err != nil {
		w.s.warn(f.view.blob.ID, "can't be kept on disk", err)
	}
}

// bitsLied reports whether the shared bit was set over bytes that are not the
// chunk's: where there is no map, zeros only say that nothing was stored.
func bitsLied(f *flight, p []byte) bool {
	return f.key.file.cmap != nil || !zeros(p)
}

// zeros reports whether there is nothing but zeros in p.
func zeros(p []byte) bool { return len(bytes.TrimLeft(p, "\x00")) == 0 }

// deliver verifies a fetched chunk, stores it, and ends its flight.
func (w *worker) deliver(f *flight, p []byte) {
	if err := check(f, p); err != nil {
		w.wrong(f, err)
		return
	}
	count := &f.view.cache.count
	if w.keep(f, p) {
		count.entries.Add(1)
	} else {
		count.unstored.Add(1)
		f.held = bytes.Clone(p)
	}
	w.s.finish(f, nil)
}

// wrong discards bytes: the first time the chunk is fetched again, from the
// origin, the second time the flight fails.
func (w *worker) wrong(f *flight, err error) {
	count := &f.view.cache.count
	count.mismatches.Add(1)
	if told := f.view.cache.opt.Wrong; told != nil {
		told(f.errorf(err))
	}
	if f.origin {
		count.rejected.Add(1)
		w.s.finish(f, f.errorf(err))
		return
	}
	f.origin = true
	w.s.submit(f)
}
