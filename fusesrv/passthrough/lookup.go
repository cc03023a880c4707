package passthrough

import (
	"syscall"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
)

// scratch is what a worker needs.
type scratch struct {
	name, name2 cname
	st          unix.Statx_t
	handle      fileHandle
	iov         []unix.Iovec
	bytes       []byte // of a symlink's target, or an attribute
	creation    creation
}

var local = fusesrv.NewLocal[scratch]()

// hold finds a request's node and keeps it, with a descriptor; f.drop ends that.
func (f *FS) hold(node uint64) (held, syscall.Errno) {
	h, e := f.nodes.hold(node)
	if e != 0 {
		return h, e
	}
	if e := f.open1(&h); e != 0 {
		f.drop(&h)
		return h, e
	}
	return h, 0
}

// holdWith is hold for a request with a name, which set stores for the worker.
func (f *FS) holdWith(r *fusesrv.Request, name []byte, set func(*cname, []byte) unix.Errno) (held, *scratch, syscall.Errno) {
	h, e := f.hold(r.Node)
	if e != 0 {
		return h, nil, e
	}
	s := local.Of(r.Worker())
	if e := set(&s.name, name); e != 0 {
		f.drop(&h)
		return h, nil, e
	}
	return h, s, 0
}

// drop ends the use of a node.
func (f *FS) drop(h *held) {
	if h.own {
		f.fds.close(h.fd)
	}
	f.bury(f.nodes.drop(h))
}

// bury lets go of what a node that is gone had.
func (f *FS) bury(dead remains) {
	if dead.slot == 0 {
		return
	}
	f.fds.close(int(dead.fd))
	f.fds.close(f.mounts.leave(dead.mount))
}

// open1 gives h a descriptor if it has none. It is the node's from then on, as long as
// it is used now and then.
func (f *FS) open1(h *held) syscall.Errno {
	if h.fd >= 0 {
		return 0
	}
	fd, e := f.openNode(h, unix.O_PATH)
	if e != 0 {
		return e
	}
	if !f.enlist(h.slot, h.id) {
		h.fd, h.own = fd, true
		return 0
	}
	if !f.nodes.install(h, fd) {
		f.fds.close(fd)
	}
	return 0
}

// enlist makes a node one whose descriptor may be closed for others; false if there are
// too many.
func (f *FS) enlist(slot uint32, id uint64) bool {
	old, ok := f.cache.add(&f.nodes, slot, id)
	f.fds.close(old)
	return ok
}

// openNode opens a node by its handle. The caller knows that this has no effects.
func (f *FS) openNode(h *held, flags uint64) (int, syscall.Errno) {
	m := f.mounts.get(h.rec.mount)
	if m == nil || m.fd < 0 || h.rec.size == 0 {
		return -1, unix.ESTALE
	}
	var handle fileHandle
	handle.size, handle.kind = uint32(h.rec.size), h.rec.hkind
	copy(handle.b[:], h.rec.handle[:handle.size])
	fd, e := f.openCounted(func() (int, unix.Errno) { return openHandle(m.fd, &handle, flags) })
	if e == unix.ESTALE {
		f.nodes.gone(h)
	}
	return fd, e
}

// openCounted opens something within the limit of descriptors, for which others may
// have to be closed. Too many are ENFILE: it is not the guest's process that has them.
func (f *FS) openCounted(open func() (int, unix.Errno)) (int, unix.Errno) {
	const tries = 4
	for range tries {
		if f.fds.take() {
			fd, e := open()
			if e == 0 {
				return fd, 0
			}
			f.fds.give()
			if e != unix.EMFILE && e != unix.ENFILE {
				return -1, e
			}
		}
		f.fds.close(f.cache.shed(&f.nodes))
	}
	return -1, unix.ENFILE
}

// Lookup finds a child, and with "." and ".." what a guest that exports the file system
// asks for.
func (f *FS) Lookup(r *fusesrv.Request, name []byte, out *fusesrv.EntryOut) syscall.Errno {
	h, e := f.hold(r.Node)
	if e != 0 {
		return e
	}
	defer f.drop(&h)
	switch string(name) {
	case ".":
		return f.lookupSelf(r, &h, out)
	case "..":
		return f.lookupParent(r, &h, out)
	}
	s := local.Of(r.Worker())
	if e := s.name.set(name); e != 0 {
		return e
	}
	return f.enter(h.fd, &s.name, false, s, out)
}

// enter counts a lookup of what a name in a directory leads to. made says that the
// caller has just made it.
func (f *FS) enter(dir int, name *cname, made bool, s *scratch, out *fusesrv.EntryOut) syscall.Errno {
	if e := statx(dir, name, &s.st); e != 0 {
		return e
	}
	c := candidate{handle: &s.handle, fd: -1}
	c.describe(&s.st)
	if !made {
		if id := f.nodes.known(&c); id != 0 {
			f.entry(id, &s.st, out)
			return 0
		}
	}
	id, e := f.meet(dir, name, &c, s)
	if e == 0 {
		f.entry(id, &s.st, out)
	}
	return e
}

// meet counts a lookup of what c tells of, which was found under a name. If there is
// something else by now, s.st is that's.
func (f *FS) meet(dir int, name *cname, c *candidate, s *scratch) (uint64, syscall.Errno) {
	m := f.mounts.use(c.mount)
	if m != nil && m.byName && m.fd >= 0 {
		if f.looked != nil {
			f.looked()
		}
		number, e := handleOf(dir, name, 0, c.handle)
		if e == 0 && uint32(number) == c.mount && c.handle.tells(c.ino) {
			return f.put(c)
		}
	}
	if m != nil {
		f.fds.close(f.mounts.leave(m.number))
	}
	fd, e := f.openCounted(func() (int, unix.Errno) { return openAt(dir, name, unix.O_PATH, 0) })
	if e != 0 {
		return 0, e
	}
	return f.meetFD(fd, c, s)
}

// meetFD counts a lookup of what a descriptor is of, which is given away.
func (f *FS) meetFD(fd int, c *candidate, s *scratch) (uint64, syscall.Errno) {
	if e := fstatx(fd, &s.st); e != 0 {
		f.fds.close(fd)
		return 0, e
	}
	c.describe(&s.st)
	c.sure, c.fd, c.handle.size = true, fd, 0
	if m := f.mountOf(c); m.fd >= 0 {
		_, _ = handleOf(fd, &self, unix.AT_EMPTY_PATH, c.handle) // without one it keeps fd
	}
	return f.put(c)
}

// mountOf takes a use of the mount of c, which has a descriptor.
func (f *FS) mountOf(c *candidate) *mount {
	m := f.mounts.use(c.mount)
	if m != nil && (m.fd >= 0 || m.asked) {
		return m
	}
	found := f.probe(c)
	if m != nil && !found.asked {
		return m
	}
	got, took := f.mounts.add(found)
	if !took {
		f.fds.close(found.fd)
	}
	if m != nil {
		f.fds.close(f.mounts.leave(c.mount)) // add took another use
	}
	return got
}

// probe finds out what the mount of c can do. Only a regular file or a directory of it
// can tell.
func (f *FS) probe(c *candidate) mount {
	m := mount{number: c.mount, fd: -1}
	m.medium(c.fd)
	if f.noHandles || c.kind != unix.S_IFDIR && c.kind != unix.S_IFREG {
		m.asked = f.noHandles
		return m
	}
	m.asked = true
	var h fileHandle
	if _, e := handleOf(c.fd, &self, unix.AT_EMPTY_PATH, &h); e != 0 || h.size == 0 {
		return m
	}
	fd, e := f.openCounted(func() (int, unix.Errno) { return f.reopen(c.fd, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY) })
	if e != 0 {
		m.asked = e != unix.ENFILE
		return m
	}
	if !f.opens(fd, &h, c) {
		f.fds.close(fd)
		return m
	}
	m.fd, m.byName = fd, h.tells(c.ino)
	return m
}

// opens reports whether a handle opens what c is.
func (f *FS) opens(mount int, h *fileHandle, c *candidate) bool {
	fd, e := f.openCounted(func() (int, unix.Errno) { return openHandle(mount, h, unix.O_PATH) })
	if e != 0 {
		return false
	}
	defer f.fds.close(fd)
	var st unix.Statx_t
	got := candidate{}
	if fstatx(fd, &st) != 0 {
		return false
	}
	got.describe(&st)
	return got.identity == c.identity
}

// put is nodes.put with the use of a mount that c's has been given.
func (f *FS) put(c *candidate) (uint64, syscall.Errno) {
	id, fresh, took, e := f.nodes.put(c)
	if !fresh {
		f.fds.close(f.mounts.leave(c.mount))
	}
	if !took {
		f.fds.close(c.fd)
	} else if c.handle.size != 0 && !f.enlist(uint32(id&slotMask), id) {
		if h, e := f.nodes.hold(id); e == 0 {
			f.fds.close(f.nodes.withdraw(&h))
			f.drop(&h)
		}
	}
	return id, e
}

// entry stores what a lookup has found.
func (f *FS) entry(id uint64, st *unix.Statx_t, out *fusesrv.EntryOut) {
	*out = fusesrv.EntryOut{NodeID: id}
	out.EntryValid, out.EntryValidNsec = split(f.entryValid)
	out.AttrValid, out.AttrValidNsec = split(f.attrValid)
	f.attr(st, &out.Attr)
}

// Forget takes lookups back.
func (f *FS) Forget(_ *fusesrv.Request, node, nlookup uint64) { f.bury(f.nodes.forget(node, nlookup)) }
