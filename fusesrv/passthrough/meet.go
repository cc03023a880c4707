package passthrough

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// A candidate is something that was found under a name and may be a node.
type candidate struct {
	identity
	born   int64
	kind   uint16
	sure   bool        // kind and identity were asked for through a descriptor
	handle *fileHandle // size 0: none
	fd     int         // O_PATH, -1: none
}

// describe makes the candidate that a stat tells of.
func (c *candidate) describe(st *unix.Statx_t) {
	c.identity = identity{uint32(st.Mnt_id), uint64(st.Dev_major)<<32 | uint64(st.Dev_minor), st.Ino}
	c.kind = st.Mode & unix.S_IFMT
	c.born = 0
	if st.Mask&unix.STATX_BTIME != 0 {
		c.born = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
}

// known counts a lookup of the node that a stat by name tells of; 0 if there is none.
//
// An inode number may be another file's by now, but not as long as a descriptor keeps
// the inode, nor with the same time of birth: then the file would have been made,
// removed and made again between two ticks of the clock. Whoever made a file does not
// ask here. And what is wrong after all is the guess that a node is still there: its
// handle opens nothing, so the guest is told ESTALE and looks again.
func (t *nodes) known(c *candidate) (id uint64) {
	hash := c.hash()
	s := t.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := t.find(s, c, hash, func(rec *record, l *life) bool {
		return l.fd >= 0 || c.born != 0 && rec.born == c.born && rec.kind == c.kind
	})
	return t.count1(slot)
}

// find returns the node that match says yes to, 0 if there is none. s is locked.
func (t *nodes) find(s *shard, c *candidate, hash uint32, match func(*record, *life) bool) uint32 {
	if len(s.heads) == 0 {
		return 0
	}
	for slot := *s.head(hash); slot != 0; {
		rec, l := t.at(slot)
		if rec.ino == c.ino && rec.dev == c.dev && rec.mount == c.mount && rec.flags&isGone == 0 && match(rec, l) {
			return slot
		}
		slot = rec.next
	}
	return 0
}

// count1 counts a lookup of a slot and returns its id; the shard is locked.
func (t *nodes) count1(slot uint32) uint64 {
	if slot == 0 {
		return 0
	}
	rec, l := t.at(slot)
	rec.lookups.Add(1)
	l.recent = true
	return rec.id.Load()
}

// put counts a lookup of the node that c is, a new one if there was none. fresh says
// that it is new, and that a use of its mount is the node's now; took, that the
// descriptor is, which is pinned unless there is a handle.
func (t *nodes) put(c *candidate) (id uint64, fresh, took bool, e unix.Errno) {
	hash := c.hash()
	s := t.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := t.find(s, c, hash, func(rec *record, l *life) bool { return l.fd >= 0 || rec.has(c.handle) })
	if slot == 0 {
		if slot = t.take(); slot == 0 {
			return 0, false, false, unix.ENFILE
		}
		fresh = true
		t.begin(s, slot, hash, c)
	}
	rec, l := t.at(slot)
	if c.sure {
		rec.kind = c.kind
		rec.flags |= isSure
	}
	if l.fd < 0 && c.fd >= 0 {
		l.fd, l.pinned, took = int32(c.fd), c.handle.size == 0, true
	}
	return t.count1(slot), fresh, took, 0
}

// has reports whether a record has this handle.
func (rec *record) has(h *fileHandle) bool {
	return h.size != 0 && uint32(rec.size) == h.size && rec.hkind == h.kind && bytes.Equal(rec.handle[:h.size], h.b[:h.size])
}

// begin makes a slot the node that c is. s is locked.
func (t *nodes) begin(s *shard, slot, hash uint32, c *candidate) {
	rec, l := t.at(slot)
	rec.ino, rec.dev, rec.born, rec.mount, rec.kind, rec.flags = c.ino, c.dev, c.born, c.mount, c.kind, 0
	rec.size, rec.hkind = uint8(c.handle.size), c.handle.kind
	copy(rec.handle[:], c.handle.b[:c.handle.size])
	rec.lookups.Store(0)
	*l = life{fd: -1}
	t.link(s, slot, hash)
	rec.id.Store(uint64(rec.gen)<<slotBits | uint64(slot))
	t.count.Add(1)
}

// link makes a slot one that is found by its hash. s is locked.
func (t *nodes) link(s *shard, slot, hash uint32) {
	if s.n >= len(s.heads) {
		t.rehash(s)
	}
	rec, _ := t.at(slot)
	head := s.head(hash)
	rec.next, *head = *head, slot
	s.n++
	rec.hash.Store(hash)
}

// head is where the slots of a hash begin. The low bits of it have chosen the shard.
func (s *shard) head(hash uint32) *uint32 { return &s.heads[hash/numShards&uint32(len(s.heads)-1)] }

// rehash makes room for twice as many nodes. s is locked.
func (t *nodes) rehash(s *shard) {
	const least = 16
	old := s.heads
	s.heads = make([]uint32, max(least, 2*len(old)))
	for _, slot := range old {
		for slot != 0 {
			rec, _ := t.at(slot)
			next := rec.next
			head := s.head(rec.hash.Load())
			rec.next, *head = *head, slot
			slot = next
		}
	}
}

// gone marks a node whose handle opens nothing any more: names do not lead to it.
func (t *nodes) gone(h *held) {
	s := t.shard(h.rec.hash.Load())
	s.mu.Lock()
	defer s.mu.Unlock()
	h.rec.flags |= isGone
}

// sure marks a node as being of the kind that it says.
func (t *nodes) sure(h *held) {
	s := t.shard(h.rec.hash.Load())
	s.mu.Lock()
	defer s.mu.Unlock()
	h.rec.flags |= isSure
}

// install gives a node the descriptor fd unless it has one. Its user is h.
func (t *nodes) install(h *held, fd int) (took bool) {
	s := t.shard(h.rec.hash.Load())
	s.mu.Lock()
	defer s.mu.Unlock()
	if took = h.life.fd < 0; took {
		h.life.fd = int32(fd)
	}
	h.fd = int(h.life.fd)
	return took
}

// pin keeps the descriptor that a node has for as long as the node lives.
func (t *nodes) pin(h *held) {
	s := t.shard(h.rec.hash.Load())
	s.mu.Lock()
	defer s.mu.Unlock()
	h.life.pinned = h.life.fd >= 0
}

// withdraw takes the descriptor from a node whose only user is h, -1 if there are
// others, who keep it.
func (t *nodes) withdraw(h *held) (fd int) {
	s := t.shard(h.rec.hash.Load())
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.life.users != 1 || h.life.pinned {
		return -1
	}
	fd, h.life.fd = int(h.life.fd), -1
	return fd
}

// again counts a lookup of a node that is held.
func (t *nodes) again(h *held) uint64 {
	s := t.shard(h.rec.hash.Load())
	s.mu.Lock()
	defer s.mu.Unlock()
	return t.count1(h.slot)
}
