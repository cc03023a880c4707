package passthrough

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	slotBits = 22
	genBits  = 18 // 40 bits in all
	maxSlots = 1 << slotBits
	slotMask = maxSlots - 1
	maxGen   = 1<<genBits - 1

	chunkBits = 10
	chunkSize = 1 << chunkBits // records
	numShards = 64

	rootID = 1
)

// An identity is what makes two names lead to one node. Mounts differ in what may be
// done through them, so that one file below two mounts is two nodes.
type identity struct {
	mount    uint32
	dev, ino uint64
}

func (k *identity) hash() uint32 {
	h := (k.ino ^ k.dev<<32 ^ uint64(k.mount)<<17) * 0x9e3779b97f4a7c15
	return uint32(h >> 32)
}

// nodes is what the guest knows. An id is a slot and how often that had been taken
// before, so that none is given out twice.
//
//	id  |0| generation (18) | slot (22) |
//
// A shard's lock guards the records that hash to it, and their lives; which shard a
// slot belongs to changes only while it is free.
type nodes struct {
	memory memory
	limit  uint32
	chunks [maxSlots / chunkSize]atomic.Pointer[chunk]
	shards [numShards]shard

	mu   sync.Mutex // guards what follows; last in the lock order
	used uint32     // slots that were ever taken
	free uint32     // the first free one of them, 0: none

	count atomic.Int64
}

type chunk struct {
	records []record
	lives   [chunkSize]life
}

// A life is what a node is in this process only. The shard's lock guards it.
type life struct {
	fd     int32 // O_PATH, -1: none
	users  int32
	pinned bool // fd is to be kept: the node has no handle, or soon no name
	recent bool // used since the last look for descriptors to close

	nascent uint8  // see nascent.go
	maker   uint32 // process of the guest that has made it
}

type shard struct {
	mu    sync.Mutex
	heads []uint32 // slots by hash
	n     int
}

func (t *nodes) init(limit uint32) (err error) {
	t.limit, t.used = min(limit, maxSlots-2), rootID
	if t.memory, err = newMemory(t.limit); err == nil {
		t.grow(rootID)
	}
	return err
}

// grow makes the chunk of a slot. t.mu is held, or nobody else there yet.
func (t *nodes) grow(slot uint32) {
	n := slot >> chunkBits
	c := &chunk{records: records(t.memory.chunk(n))}
	for i := range c.lives {
		c.lives[i].fd = -1
	}
	t.chunks[n].Store(c)
}

// at returns a slot, nil if it was never taken.
func (t *nodes) at(slot uint32) (*record, *life) {
	c := t.chunks[slot>>chunkBits].Load()
	if c == nil {
		return nil, nil
	}
	i := slot & (chunkSize - 1)
	return &c.records[i], &c.lives[i]
}

func (t *nodes) shard(hash uint32) *shard { return &t.shards[hash%numShards] }

// lock locks the shard that a record is in and says which node it is. 0 is none: then
// somebody may be making one of it under the lock of another shard, so nothing of it may be
// looked at. Who does that stores the hash before the id; so the id is read before the hash.
func (t *nodes) lock(rec *record) (s *shard, id uint64) {
	for {
		hash := rec.hash.Load()
		s = t.shard(hash)
		s.mu.Lock()
		id = rec.id.Load()
		if rec.hash.Load() == hash {
			return s, id
		}
		s.mu.Unlock() // it was another's
	}
}

// take gives a free slot; 0 if there is none.
func (t *nodes) take() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slot := t.free; slot != 0 {
		rec, _ := t.at(slot)
		t.free = rec.next
		return slot
	}
	slot := t.used + 1
	if slot > t.limit {
		return 0
	}
	if slot&(chunkSize-1) == 0 {
		t.grow(slot)
	}
	t.used = slot
	return slot
}

// giveBack frees a slot, unless every id of it was given out.
func (t *nodes) giveBack(slot uint32, rec *record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if rec.gen++; rec.gen > maxGen {
		return
	}
	rec.next, t.free = t.free, slot
}

// A held is a node in use: it stays what it is, and its descriptor open.
type held struct {
	id   uint64
	slot uint32
	rec  *record
	life *life
	kind uint16
	sure bool // see isSure
	own  bool // fd is this user's alone
	fd   int  // -1 if there is none yet
}

// hold finds a node and keeps it; drop ends that.
func (t *nodes) hold(id uint64) (held, unix.Errno) {
	slot := uint32(id & slotMask)
	rec, l := t.at(slot)
	if rec == nil || id == 0 {
		return held{}, unix.ESTALE
	}
	s, now := t.lock(rec)
	defer s.mu.Unlock()
	if now != id {
		return held{}, unix.ESTALE
	}
	l.users++
	l.recent = true
	return held{id: id, slot: slot, rec: rec, life: l, kind: rec.kind, sure: rec.flags&isSure != 0, fd: int(l.fd)}, 0
}

// drop ends the use of a node. What it gives back is the caller's to close.
func (t *nodes) drop(h *held) (dead remains) {
	s := t.shard(h.rec.hash.Load())
	s.mu.Lock()
	h.life.users--
	dead = t.bury(s, h.slot, h.rec, h.life)
	s.mu.Unlock()
	t.finish(&dead)
	return dead
}

// remains are what a node that is gone leaves: a descriptor, unless -1, and a use of
// its mount.
type remains struct {
	slot  uint32 // 0: nothing
	rec   *record
	fd    int32
	mount uint32
}

// bury takes a node that nobody needs out of its shard, whose lock is held.
func (t *nodes) bury(s *shard, slot uint32, rec *record, l *life) remains {
	if l.users != 0 || rec.lookups.Load() != 0 || slot == rootID {
		return remains{}
	}
	p := s.head(rec.hash.Load())
	for *p != slot {
		r, _ := t.at(*p)
		p = &r.next
	}
	*p = rec.next
	s.n--
	rec.id.Store(0)
	dead := remains{slot, rec, l.fd, rec.mount}
	*l = life{fd: -1}
	return dead
}

// finish frees the slot of a node that bury took away. No lock is held.
func (t *nodes) finish(dead *remains) {
	if dead.slot != 0 {
		t.count.Add(-1)
		t.giveBack(dead.slot, dead.rec)
	}
}

// forget takes n lookups from a node.
func (t *nodes) forget(id, n uint64) remains {
	h, e := t.hold(id)
	if e != 0 {
		return remains{}
	}
	s := t.shard(h.rec.hash.Load())
	s.mu.Lock()
	now := h.rec.lookups.Load()
	h.rec.lookups.Store(now - min(n, now))
	s.mu.Unlock()
	return t.drop(&h)
}

// forgetAll takes all lookups from all nodes.
func (t *nodes) forgetAll(each func(remains)) {
	t.mu.Lock()
	used := t.used
	t.mu.Unlock()
	for slot := uint32(rootID + 1); slot <= used; slot++ {
		if rec, _ := t.at(slot); rec != nil {
			if id := rec.id.Load(); id != 0 {
				each(t.forget(id, ^uint64(0)))
			}
		}
	}
}

// root makes the first node, whose descriptor is another's.
func (t *nodes) root(c *candidate, fd int) {
	hash := c.hash()
	s := t.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.begin(s, rootID, hash, c)
	rec, l := t.at(rootID)
	rec.flags |= isSure
	l.fd, l.pinned = int32(fd), true
}
