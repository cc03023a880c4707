package passthrough

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// reserveShare of a process's descriptors stay for others, and leastReserve of
	// them at least.
	reserveShare = 8
	leastReserve = 128
	// cacheShare of the rest are for nodes that could do without, up to mostCached.
	cacheShare = 4
	mostCached = 8192
)

// Descriptors is how many descriptors the shared directories of a process may have
// open. It may be used by several of them, and from any goroutine.
type Descriptors struct {
	limit int64
	used  atomic.Int64
}

// NewDescriptors bounds descriptors by what the process's limit of open files leaves.
func NewDescriptors(openFiles uint64) *Descriptors {
	n := int64(min(openFiles, 1<<30))
	return &Descriptors{limit: max(n-max(n/reserveShare, leastReserve), n/2)}
}

// Used is how many are open.
func (d *Descriptors) Used() int { return int(d.used.Load()) }

// take counts one more, if there is room.
func (d *Descriptors) take() bool {
	if d.used.Add(1) <= d.limit {
		return true
	}
	d.used.Add(-1)
	return false
}

func (d *Descriptors) give() { d.used.Add(-1) }

// close closes a descriptor that was counted; -1 is none.
func (d *Descriptors) close(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd) // nothing was written through it
		d.give()
	}
}

// A cache is the nodes whose descriptors can be closed, in the order they were opened.
// Those used since they were last looked at get another turn.
type cache struct {
	mu    sync.Mutex // before a shard's lock
	ring  []cached
	first int
	n     int
}

type cached struct {
	slot uint32
	id   uint64
}

func (c *cache) init(size int) { c.ring = make([]cached, max(size, 1)) }

// add lists a node. What had to be closed for it is returned, -1 if nothing; false says
// that everything is in use, and that the node is not listed.
func (c *cache) add(t *nodes, slot uint32, id uint64) (fd int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fd = -1
	if c.n == len(c.ring) {
		if fd = c.evict(t, true); c.n == len(c.ring) {
			return fd, false
		}
	}
	c.push(cached{slot, id})
	return fd, true
}

func (c *cache) push(e cached) {
	c.ring[(c.first+c.n)%len(c.ring)] = e
	c.n++
}

// shed gives a descriptor to close, -1 if all are in use.
func (c *cache) shed(t *nodes) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.evict(t, false)
}

// evict takes the first node off the list that may go, and gives its descriptor; with
// room a place in the list is enough. c.mu is held.
func (c *cache) evict(t *nodes, room bool) int {
	for range 2 * c.n {
		e := c.ring[c.first]
		c.first = (c.first + 1) % len(c.ring)
		c.n--
		fd, keep := t.yield(e)
		switch {
		case keep:
			c.push(e)
		case fd >= 0, room:
			return fd
		}
	}
	return -1
}

// yield takes the descriptor of a listed node, -1 if it has none to give; keep says that
// it is to stay listed.
func (t *nodes) yield(e cached) (fd int, keep bool) {
	rec, l := t.at(e.slot)
	s, id := t.lock(rec)
	defer s.mu.Unlock()
	switch {
	case id != e.id || l.fd < 0 || l.pinned:
		return -1, false
	case l.users != 0 || l.recent:
		l.recent = false
		return -1, true
	}
	fd, l.fd = int(l.fd), -1
	return fd, false
}
