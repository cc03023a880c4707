package passthrough

import (
	"syscall"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
)

// A change of owner takes set-id bits and capabilities away, also root's. Overlayfs
// makes a copy of a file by giving a new one the capabilities, the mode and then the
// owner, and counts on what it is at home: a call inside the kernel, which takes nothing
// away. Through FUSE both look the same, so a file would lose its set-id bits when
// something in the upper layer changes it.
//
// So the first change of owner of a file that was made in this session leaves them, if
// the process that has made the file has just set its mode. Programs set the owner
// first, since it would take the bits away.

// States of a node that was made in this session.
const (
	notNascent = iota
	wasMade
	hasMode
)

// made marks a node as just made by a process, whose number may be 0: unknown.
func (f *FS) made(id uint64, pid uint32) {
	if pid == 0 {
		return
	}
	h, e := f.nodes.hold(id)
	if e != 0 {
		return
	}
	defer f.drop(&h)
	s := f.nodes.shard(h.rec.hash.Load())
	s.mu.Lock()
	defer s.mu.Unlock()
	h.life.nascent, h.life.maker = wasMade, pid
}

// moded marks a node's mode as set by a process.
func (t *nodes) moded(h *held, pid uint32) {
	s := t.shard(h.rec.hash.Load())
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.life.nascent == wasMade && h.life.maker == pid {
		h.life.nascent = hasMode
	} else {
		h.life.nascent = notNascent
	}
}

// owned ends a node's beginning with its first change of owner, and reports whether that
// is the last step of making a copy.
func (t *nodes) owned(h *held, pid uint32) bool {
	s := t.shard(h.rec.hash.Load())
	s.mu.Lock()
	defer s.mu.Unlock()
	copied := h.life.nascent == hasMode && h.life.maker == pid
	h.life.nascent = notNascent
	return copied
}

// chownCopy changes the owner of a copy, and gives it back what that takes away.
func (f *FS) chownCopy(h *held, s *scratch, in *fusesrv.SetattrIn) syscall.Errno {
	if e := fstatx(h.fd, &s.st); e != 0 {
		return e
	}
	mode := uint32(s.st.Mode) & 0o7777
	copy(s.name[:], "security.capability\x00")
	value := s.buffer(maxXattr)
	n, e := f.getXattr(h.fd, &s.name, value)
	if e != 0 {
		n = 0
	}
	if e := chown(h.fd, in); e != 0 {
		return e
	}
	if n > 0 {
		if e := f.setXattr(h.fd, &s.name, value[:n], 0); e != 0 {
			return e
		}
	}
	if mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		return f.chmodFD(h.fd, mode)
	}
	return 0
}
