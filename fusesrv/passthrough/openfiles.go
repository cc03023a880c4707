package passthrough

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	fileBits  = 20 // slots of open files
	maxFiles  = 1 << fileBits
	fileMask  = maxFiles - 1
	fileChunk = 256
	// maxFileGen is how often a slot can be taken, for which no time suffices.
	maxFileGen = 1 << (62 - fileBits)
)

// openFiles is the guest's file handles. A handle is a slot and how often that had been
// taken before, and is never 0.
type openFiles struct {
	fds    *Descriptors // where each file's is counted
	chunks [maxFiles / fileChunk]atomic.Pointer[[fileChunk]openFile]

	mu   sync.Mutex // guards what follows, and fields of files that are free
	used uint64
	free uint64 // slot, 0: none
	gen  uint64 // of a former program's handles, the highest
}

// An openFile is an open file or directory of the host.
type openFile struct {
	opened
	fh   atomic.Uint64 // 0: never taken
	refs atomic.Int64  // users, and one until RELEASE
	slow atomic.Bool   // reads have to wait: RWF_NOWAIT is not known there
	gen  uint64
	next uint64
}

// An opened is what does not change of an open file.
type opened struct {
	fd      int
	local   bool     // see mount
	memory  bool     // see mount
	changes bool     // open for writing
	dir     *listing // nil: a regular file
}

// add gives what is open a handle; 0 if there are too many.
func (t *openFiles) add(what opened) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	slot := t.free
	if slot != 0 {
		t.free = t.at(slot).next
	} else {
		if slot = t.used + 1; slot == maxFiles {
			return 0
		}
		t.reach(slot)
	}
	o := t.at(slot)
	o.gen = max(o.gen, t.gen) + 1
	o.opened = what
	o.slow.Store(false)
	o.refs.Store(1)
	fh := o.gen<<fileBits | slot
	o.fh.Store(fh)
	return fh
}

// reach makes the slots up to one. t.mu is held, or nobody else there yet.
func (t *openFiles) reach(slot uint64) {
	for ; t.used < slot; t.used++ {
		if p := &t.chunks[(t.used+1)/fileChunk]; p.Load() == nil {
			p.Store(new([fileChunk]openFile))
		}
	}
}

func (t *openFiles) at(slot uint64) *openFile {
	c := t.chunks[slot/fileChunk].Load()
	if c == nil {
		return nil
	}
	return &c[slot%fileChunk]
}

// hold finds an open file and keeps it open; drop ends that.
func (t *openFiles) hold(fh uint64) (*openFile, unix.Errno) {
	o := t.at(fh & fileMask)
	if o == nil || fh == 0 {
		return nil, unix.EBADF
	}
	for {
		n := o.refs.Load()
		if n <= 0 || o.fh.Load() != fh {
			return nil, unix.EBADF
		}
		if o.refs.CompareAndSwap(n, n+1) {
			break
		}
	}
	// It may have been released, and taken again, between the look and the count.
	if o.fh.Load() != fh {
		t.drop(o)
		return nil, unix.EBADF
	}
	return o, 0
}

// drop ends a use, and closes the file after the last.
func (t *openFiles) drop(o *openFile) {
	if o.refs.Add(-1) != 0 {
		return
	}
	t.fds.close(o.fd)
	if o.dir != nil {
		o.dir.free()
	}
	o.opened = opened{fd: -1}
	t.mu.Lock()
	defer t.mu.Unlock()
	o.next, t.free = t.free, o.fh.Load()&fileMask
}

// release takes the handle away from the guest; false if it has none.
func (t *openFiles) release(fh uint64) bool {
	o := t.at(fh & fileMask)
	if o == nil || fh == 0 || !o.fh.CompareAndSwap(fh, fh|released) {
		return false
	}
	t.drop(o)
	return true
}

// released marks the handle of a file that was released and is in use.
const released = 1 << 63

// releaseAll takes every handle away.
func (t *openFiles) releaseAll() {
	t.mu.Lock()
	used := t.used
	t.mu.Unlock()
	for slot := uint64(1); slot <= used; slot++ {
		if fh := t.at(slot).fh.Load(); fh != 0 && fh&released == 0 {
			t.release(fh)
		}
	}
}
