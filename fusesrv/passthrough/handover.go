package passthrough

import (
	"cmp"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"vrafs/internal/opener"
	"vrafs/internal/tlv"
)

// State tells what the guest knows and has open, and the descriptors that Resume needs.
// They stay the FS's, and the state is true as long as no request is served and the FS is not
// closed. It may be asked for while requests are served, for CheckState.
func (f *FS) State() (state []byte, fds []int) {
	s := savedState{memory: int32(f.nodes.memory.fd), root: int32(f.rootFD)}
	s.mounts = f.mounts.save()
	s.taken, s.lives = f.nodes.save()
	f.saveFiles(&s)
	s.fds(func(fd int) { fds = append(fds, fd) })
	return s.encode(), fds
}

func (t *mounts) save() []savedMount {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]savedMount, 0, len(t.m))
	for _, m := range t.m {
		list = append(list, savedMount{m.number, int32(m.fd),
			bit(m.byName, mountByName) | bit(m.local, mountLocal) | bit(m.memory, mountMemory) | bit(m.asked, mountAsked)})
	}
	return list
}

// save lists the nodes that are more than their records.
func (t *nodes) save() (taken uint32, list []savedLife) {
	t.mu.Lock()
	taken = t.used
	t.mu.Unlock()
	for slot := uint32(rootID + 1); slot <= taken; slot++ {
		rec, l := t.at(slot)
		s, id := t.lock(rec)
		if id != 0 && (l.fd >= 0 || l.nascent != notNascent) {
			list = append(list, savedLife{slot, l.fd, l.maker, l.pinned, l.nascent})
		}
		s.mu.Unlock()
	}
	return taken, list
}

// saveFiles lists what is open. What was released and is still read is nobody's.
func (f *FS) saveFiles(s *savedState) {
	t := &f.files
	t.mu.Lock()
	used := t.used
	s.generation = t.gen
	for slot := uint64(1); slot <= used; slot++ {
		s.generation = max(s.generation, t.at(slot).gen)
	}
	t.mu.Unlock()
	for slot := uint64(1); slot <= used; slot++ {
		fh := t.at(slot).fh.Load()
		if fh == 0 || fh&released != 0 {
			continue
		}
		o, e := t.hold(fh)
		if e != 0 {
			continue
		}
		saved := savedFile{fh: fh, fd: int32(o.fd),
			flags: bit(o.changes, fileChanges) | bit(o.local, fileLocal) | bit(o.memory, fileMemory) | bit(o.slow.Load(), fileSlow)}
		if l := o.dir; l != nil {
			saved.flags |= fileIsDir
			saved.node, saved.dev, saved.at = l.node, l.dev, l.at.Load()
		}
		s.files = append(s.files, saved)
		f.files.drop(o)
	}
}

// Discard closes the descriptors of a state that nobody goes on with.
func Discard(state []byte) {
	if s, err := decodeState(state); err == nil {
		s.close()
	}
}

func (s *savedState) close() {
	s.fds(func(fd int) { _ = unix.Close(fd) })
}

// Resume goes on with what a former program had shared. The descriptors
// are the FS's, or closed if there is an error. Beside them it trusts nothing in a state,
// nor in the memory of the nodes, to be whole: what is not is stale.
func Resume(o opener.Opener, state []byte, opt Options) (*FS, error) {
	s, err := decodeState(state)
	if err != nil {
		return nil, err
	}
	if opt.Descriptor != nil {
		if err := s.replaceFDs(opt.Descriptor); err != nil {
			s.close()
			return nil, err
		}
	}
	f, err := prepare(o, opt)
	if err != nil {
		s.close()
		return nil, err
	}
	if err := f.adopt(s, cmp.Or(opt.MaxNodes, defaultNodes), opt.Descriptor != nil); err != nil {
		s.close()
		f.Close()
		return nil, err
	}
	return f, nil
}

// replaceFDs puts the descriptors that own gives in the place of the numbers. If it fails
// those that it has given are in the state, and no others.
func (s *savedState) replaceFDs(own func(number int) (int, error)) (err error) {
	s.places(func(fd *int32) {
		n := -1
		if *fd >= 0 && err == nil {
			n, err = own(int(*fd))
		}
		*fd = int32(n)
	})
	return err
}

// adopt takes everything in s over, or nothing. The guest may know limit nodes. With
// another the nodes' memory may still be another process's: it is copied.
func (f *FS) adopt(s *savedState, limit uint32, another bool) error {
	var lost error
	s.fds(func(fd int) {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil && lost == nil {
			lost = fmt.Errorf("descriptor %d of a shared directory: %w", fd, err)
		}
	})
	if lost != nil {
		return lost
	}
	var st unix.Statx_t
	if e := fstatx(int(s.root), &st); e != 0 {
		return fmt.Errorf("shared directory: %w", e)
	}
	m, err := mapMemory(int(s.memory))
	if err != nil {
		return fmt.Errorf("nodes of a shared directory: %w", err)
	}
	var c candidate
	c.describe(&st)
	root := &records(m.chunk(0))[rootID]
	mounted := slices.ContainsFunc(s.mounts, func(m savedMount) bool { return m.number == c.mount })
	if s.taken >= m.slots() || !root.whole(rootID) || root.identity() != c.identity || !mounted {
		err = fmt.Errorf("%w: the nodes are not of this directory", tlv.ErrFormat)
	} else if another {
		err = m.detach(s.taken)
	} else {
		err = m.clearFrom(s.taken + 1)
	}
	if err != nil {
		_ = unix.Munmap(m.b) // it is mapped
		return err
	}
	f.rootKey, f.rootFD, f.root = c.identity, int(s.root), os.NewFile(uintptr(s.root), "shared directory")
	f.mounts.adopt(s.mounts, f.fds)
	f.nodes.adopt(m, s.taken, limit, f.mounts.use)
	f.mounts.prune(f.fds)
	for i := range s.lives {
		f.adoptLife(&s.lives[i])
	}
	f.nodes.revive(rootID, &savedLife{fd: s.root, pinned: true})
	f.adoptFiles(s)
	return nil
}

// adopt takes descriptors of mounts over. Their uses are counted by use.
func (t *mounts) adopt(list []savedMount, fds *Descriptors) {
	for _, m := range list {
		if m.fd >= 0 {
			fds.used.Add(1)
		}
		if old := t.m[m.number]; old != nil {
			fds.close(int(m.fd))
			continue
		}
		t.m[m.number] = &mount{
			number: m.number, fd: int(m.fd), byName: m.flags&mountByName != 0, local: m.flags&mountLocal != 0,
			memory: m.flags&mountMemory != 0, asked: m.flags&mountAsked != 0,
		}
	}
}

// prune lets go of mounts that no node is of.
func (t *mounts) prune(fds *Descriptors) {
	for number, m := range t.m {
		if m.uses == 0 {
			fds.close(m.fd)
			delete(t.m, number)
		}
	}
}

func (rec *record) identity() identity { return identity{rec.mount, rec.dev, rec.ino} }

// whole reports whether a record is one of a node in this slot.
func (rec *record) whole(slot uint32) bool {
	return rec.gen <= maxGen && rec.id.Load() == uint64(rec.gen)<<slotBits|uint64(slot) && int(rec.size) <= maxHandle
}

// adopt makes the table of the records in m. What the links between them were is found
// anew. Nobody else looks at the table.
func (t *nodes) adopt(m memory, taken, limit uint32, use func(mount uint32) *mount) {
	t.memory, t.limit, t.used = m, min(max(limit, taken), m.slots()-1), taken
	for n := range t.used>>chunkBits + 1 {
		t.grow(n << chunkBits)
	}
	none, _ := t.at(0)
	none.id.Store(0)
	for slot := t.used; slot >= rootID; slot-- {
		rec, _ := t.at(slot)
		known := rec.whole(slot) && (slot == rootID || rec.lookups.Load() != 0)
		if known && use(rec.mount) != nil {
			id := rec.identity()
			hash := id.hash()
			t.link(t.shard(hash), slot, hash)
			t.count.Add(1)
			continue
		}
		if rec.id.Swap(0) != 0 {
			rec.gen++ // what it was in use for needs no lookup any more
		}
		if rec.gen <= maxGen {
			rec.next, t.free = t.free, slot
		}
	}
}

// revive gives a node what it was beside its record; false if it is none.
func (t *nodes) revive(slot uint32, saved *savedLife) bool {
	rec, l := t.at(slot)
	if slot > t.used || rec.id.Load() == 0 || l.fd >= 0 {
		return false
	}
	l.fd, l.pinned, l.maker, l.nascent = saved.fd, saved.pinned, saved.maker, saved.nascent
	return true
}

func (f *FS) adoptLife(saved *savedLife) {
	if saved.fd >= 0 {
		f.fds.used.Add(1)
	}
	if !f.nodes.revive(saved.slot, saved) {
		f.fds.close(int(saved.fd))
		return
	}
	rec, l := f.nodes.at(saved.slot)
	switch {
	case l.fd < 0:
	case rec.size == 0:
		l.pinned = true // nothing else leads to it
	case !l.pinned && !f.enlist(saved.slot, rec.id.Load()):
		f.fds.close(int(l.fd))
		l.fd = -1
	}
}

// adoptFiles takes what is open over. No handle is given out twice: new ones are of higher
// generations.
func (f *FS) adoptFiles(s *savedState) {
	t := &f.files
	t.gen = s.generation
	for _, saved := range s.files {
		f.fds.used.Add(1)
		slot := saved.fh & fileMask
		t.reach(slot)
		o := t.at(slot)
		if o.fh.Load() != 0 {
			f.fds.close(int(saved.fd))
			continue
		}
		o.opened = opened{
			fd: int(saved.fd), local: saved.flags&fileLocal != 0, memory: saved.flags&fileMemory != 0,
			changes: saved.flags&fileChanges != 0,
		}
		if saved.flags&fileIsDir != 0 {
			o.dir = &listing{node: saved.node, dev: saved.dev, room: &f.listRoom}
			o.dir.at.Store(saved.at)
		}
		o.slow.Store(saved.flags&fileSlow != 0)
		o.gen = saved.fh >> fileBits
		o.refs.Store(1)
		o.fh.Store(saved.fh)
	}
	for slot := t.used; slot > 0; slot-- {
		if o := t.at(slot); o.fh.Load() == 0 {
			o.next, t.free = t.free, slot
		}
	}
}
