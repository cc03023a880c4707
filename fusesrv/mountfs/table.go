package mountfs

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"time"

	"vrafs/fusesrv"
)

// A table is what requests look at. It does not change.
type table struct {
	mounts   []*mount          // in order of mounting, those that are gone included
	byNumber map[uint32]placed // the same
	dirs     map[uint64]*dir   // by local id; the root's is fusesrv.RootID
	rooted   bool              // number 0 has been given out
	xattrs   bool              // some mount has extended attributes
	changed  time.Time         // when it was made: the time of pseudo directories
}

// A placed is a mount and where it is, nil if it is gone.
type placed struct {
	*mount
	place *dir
}

// A dir is a path that is a mountpoint or leads to one.
type dir struct {
	id       uint64
	path     string
	parent   *dir
	children []*dir // by id, which is by age
	byName   map[string]*dir
	mount    *mount // nil: a pseudo directory
}

// name returns the last element of the path.
func (d *dir) name() string { return path.Base(d.path) }

// child returns the child of a name, or nil.
func (d *dir) child(name []byte) *dir { return d.byName[string(name)] }

// at returns what is mounted at a clean path, or nil.
func (t *table) at(p string) *mount {
	for _, m := range t.mounts {
		if m.path == p && !m.gone.Load() {
			return m
		}
	}
	return nil
}

// root returns the dir of "/".
func (t *table) root() *dir { return t.dirs[fusesrv.RootID] }

// publish makes a table of mounts the current one. Directories keep their ids as
// long as they exist. f.mu is held.
func (f *FS) publish(mounts []*mount) {
	old := f.table.Load()
	ids := map[string]uint64{"/": fusesrv.RootID}
	for _, d := range old.dirs {
		if d.path != "" {
			ids[d.path] = d.id
		}
	}
	t := &table{mounts: mounts, byNumber: map[uint32]placed{}, dirs: map[uint64]*dir{},
		rooted: old.rooted, changed: time.Now()}
	b := builder{f: f, t: t, ids: ids, byPath: map[string]*dir{}}
	b.dir("/")
	for _, m := range mounts {
		t.rooted = t.rooted || m.number == rootNumber
		p := placed{mount: m}
		if !m.gone.Load() {
			p.place = b.dir(m.path)
			p.place.mount = m
			t.xattrs = t.xattrs || m.o.Xattrs
		}
		t.byNumber[m.number] = p
	}
	for _, d := range t.dirs {
		slices.SortFunc(d.children, func(a, b *dir) int { return cmp.Compare(a.id, b.id) })
	}
	f.table.Store(t)
}

// stale tells what a guest may know of the names on the way to a clean path, now
// that something was mounted or unmounted there. What is in pseudo directories it
// asks for each time.
func (f *FS) stale(at string) {
	if f.o.Stale == nil {
		return
	}
	d := f.table.Load().root()
	if at == "/" {
		f.o.Stale(fusesrv.RootID, "")
		return
	}
	for name := range strings.SplitSeq(at[1:], "/") {
		if d.mount != nil {
			f.o.Stale(d.node(), name)
		}
		if d = d.byName[name]; d == nil {
			return
		}
	}
}

// node returns the node id of the root of what is mounted at d.
func (d *dir) node() uint64 {
	if d.path == "/" {
		return fusesrv.RootID
	}
	return d.mount.view.Base | d.mount.root
}

// A builder makes the directories of a table.
type builder struct {
	f      *FS
	t      *table
	ids    map[string]uint64
	byPath map[string]*dir
}

// dir returns the directory of a clean path, with those above it.
func (b *builder) dir(p string) *dir {
	if d := b.byPath[p]; d != nil {
		return d
	}
	id, ok := b.ids[p]
	if !ok {
		id = b.f.nextDir
		b.f.nextDir++
	}
	d := &dir{id: id, path: p, byName: map[string]*dir{}}
	b.byPath[p], b.t.dirs[id] = d, d
	if p != "/" {
		d.parent = b.dir(p[:max(1, strings.LastIndexByte(p, '/'))])
		d.parent.children = append(d.parent.children, d)
		d.parent.byName[d.name()] = d
	}
	return d
}
