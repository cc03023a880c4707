package mountfs

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"vrafs/fusesrv"
	"vrafs/internal/tlv"
)

// The state of a connection: what a guest may still ask about.
//
//	state   next mount number | next directory id | latched opcodes | mount 0 had | directory.. | mount..
//	mount   number | path | identity | extra | gone | handles
//
// Version 1 is the first.
const (
	stateMagic   = "vrafsmfs"
	stateVersion = 1
	stateReader  = 1

	tagNext    = 1 | tlv.Required
	tagNextDir = 2 | tlv.Required
	tagLatched = 3 | tlv.Required
	tagDir     = 4 | tlv.Required
	tagMount   = 5 | tlv.Required
	tagRooted  = 6 | tlv.Required

	tagDirID   = 1 | tlv.Required
	tagDirPath = 2 | tlv.Required

	tagNumber   = 1 | tlv.Required
	tagPath     = 2 | tlv.Required
	tagIdentity = 3 | tlv.Required
	tagExtra    = 4
	tagGone     = 5 | tlv.Required
	tagHandles  = 6
)

// ErrState is the class of states that can't be taken over.
var ErrState = errors.New("mount state can't be taken over")

// maxMounts bounds the mounts and the directories of a state.
const maxMounts = 1 << 20

// A SavedMount is a mount in a state.
type SavedMount struct {
	Number   uint32
	Path     string
	Identity string
	Extra    []byte
	Gone     bool // unmounted, but with handles that a guest had open
	Handles  int64
}

// saved is a decoded state.
type saved struct {
	next, nextDir, latched uint64
	rooted                 uint64 // 1: number 0 has been given out
	dirs                   map[string]uint64
	mounts                 []SavedMount
}

// State returns the state of the connection.
func (f *FS) State() []byte { return f.state(true) }

// Portable is State without Extra, for a peer that must not see it.
func (f *FS) Portable() []byte { return f.state(false) }

func (f *FS) state(extra bool) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.table.Load()
	e := tlv.Start(stateMagic, stateVersion, stateReader)
	e.Uint(tagNext, uint64(f.next))
	e.Uint(tagNextDir, f.nextDir)
	e.Uint(tagLatched, f.latched.Load())
	e.Uint(tagRooted, flag(t.rooted))
	for _, id := range slices.Sorted(maps.Keys(t.dirs)) {
		d := t.dirs[id]
		e.Nested(tagDir, func(e *tlv.Encoder) {
			e.Uint(tagDirID, id)
			e.Text(tagDirPath, d.path)
		})
	}
	for _, m := range t.mounts {
		e.Nested(tagMount, func(e *tlv.Encoder) { m.save(e, extra) })
	}
	return e.Finish()
}

func (m *mount) save(e *tlv.Encoder, extra bool) {
	e.Uint(tagNumber, uint64(m.number))
	e.Text(tagPath, m.path)
	e.Text(tagIdentity, m.o.Identity)
	if extra {
		e.Bytes(tagExtra, m.o.Extra)
	}
	e.Uint(tagGone, flag(m.gone.Load()))
	e.Uint(tagHandles, uint64(m.opens.Load()))
}

func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// Saved decodes the mounts of a state, for those who have to mount them again.
func Saved(state []byte) ([]SavedMount, error) {
	s, err := parse(state)
	if err != nil {
		return nil, err
	}
	return s.mounts, nil
}

// Load makes the connection go on as state says. What the state has mounted must
// be mounted here, at the same places and with the same identities, or else
// reopen, which may be nil, is asked for it; what reopen answers with nil is left
// out, and its nodes are stale. Exact says that no request ran after
// the state was taken; otherwise handles are taken to be open until the session
// ends. After an error nothing has changed. It must be called before the first
// request.
func (f *FS) Load(state []byte, exact bool, reopen func(SavedMount) (Mountable, MountOptions, error)) error {
	s, err := parse(state)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var mounts []*mount
	for _, old := range s.mounts {
		m, err := f.resume(old, exact, reopen)
		if err != nil {
			return fmt.Errorf("%s: %w", old.Path, err)
		}
		if m != nil {
			mounts = append(mounts, m)
		}
	}
	next := max(uint32(s.next), firstFree) // a record that is missing reads as 0
	for _, m := range f.table.Load().mounts {
		if s.has(m.path) {
			continue
		}
		// Mounted here only: it keeps a place, under a new number.
		if next > maxNumber {
			return fmt.Errorf("%w: no mount number is left for %q", ErrState, m.path)
		}
		mounts = append(mounts, newMount(f, next, m.path, m.fs, m.o))
		next++
	}
	f.next, f.nextDir = next, max(s.nextDir, fusesrv.RootID+1)
	f.latched.Store(s.latched)
	f.table.Store(s.table())
	f.publish(mounts)
	return nil
}

// table is one that publish takes the ids of directories from.
func (s *saved) table() *table {
	t := &table{dirs: map[uint64]*dir{}, rooted: s.rooted != 0}
	for path, id := range s.dirs {
		t.dirs[id] = &dir{id: id, path: path}
	}
	return t
}

func (s *saved) has(path string) bool {
	for _, m := range s.mounts {
		if m.Path == path && !m.Gone {
			return true
		}
	}
	return false
}

// resume makes a mount what a saved one was; nil if reopen left it out.
func (f *FS) resume(old SavedMount, exact bool, reopen func(SavedMount) (Mountable, MountOptions, error)) (*mount, error) {
	var fs Mountable
	var o MountOptions
	if here := f.table.Load().at(old.Path); here != nil && !old.Gone && here.o.Identity == old.Identity {
		fs, o = here.fs, here.o
	} else if reopen == nil {
		return nil, fmt.Errorf("%w: %q is not mounted here", ErrState, old.Identity)
	} else {
		var err error
		if fs, o, err = reopen(old); err != nil {
			return nil, err
		}
		if fs == nil {
			return nil, nil
		}
	}
	if o.Identity != old.Identity {
		return nil, fmt.Errorf("%w: content %q, the guest knows %q", ErrState, o.Identity, old.Identity)
	}
	m := newMount(f, old.Number, old.Path, fs, o)
	m.gone.Store(old.Gone)
	m.opens.Store(old.Handles)
	uses := old.Handles
	if !exact {
		m.sticky.Store(true)
		uses++
	}
	if !old.Gone {
		uses++
	}
	m.uses.Store(uses)
	return m, nil
}
