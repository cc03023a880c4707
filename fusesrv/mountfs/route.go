package mountfs

import (
	"syscall"

	"vrafs/fusesrv"
)

// find returns the mount that a node id belongs to, with the id there. Without one
// it returns false.
func (f *FS) find(node uint64) (placed, uint64, bool) {
	t := f.table.Load()
	number, local := uint32(node>>localBits), node&localMask
	if node == fusesrv.RootID {
		if m := t.root().mount; m != nil {
			return placed{m, t.root()}, m.root, true
		}
		return placed{mount: f.dirs}, fusesrv.RootID, true
	}
	if node>>localBits == dirNumber {
		return placed{mount: f.dirs}, local, local != fusesrv.RootID
	}
	m, ok := t.byNumber[number]
	// The root of "/" goes by id 1 only.
	ok = ok && node>>localBits <= maxNumber && m.serves() && (m.view.Root == 0 || local != m.root)
	return m, local, ok
}

// route makes r a request to the mount that its node belongs to; false if there
// is none: ESTALE.
func (f *FS) route(r *fusesrv.Request) (placed, bool) {
	m, local, ok := f.find(r.Node)
	if ok {
		r.SetView(&m.view, local)
	}
	return m, ok
}

// routeBoth is route for a request with a second node, which must belong to the
// same mount: EXDEV.
func (f *FS) routeBoth(r *fusesrv.Request, second *uint64) (placed, syscall.Errno) {
	m, ok := f.route(r)
	if !ok {
		return m, syscall.ESTALE
	}
	other, local, ok := f.find(*second)
	switch {
	case !ok:
		return m, syscall.ESTALE
	case other.mount != m.mount:
		return m, syscall.EXDEV
	}
	*second = local
	return m, 0
}

// Init asks for what the connection needs; mounts are not asked.
func (f *FS) Init(_ fusesrv.InitFlags, s *fusesrv.Settings) syscall.Errno {
	s.NoOpen, s.NoOpendir = f.o.NoOpen, f.o.NoOpen
	if !f.o.ImagesOnly {
		// Content may change, so the guest has to look at times and sizes.
		s.Flags &^= fusesrv.ExplicitInvalData
		s.Flags |= fusesrv.AutoInvalData | fusesrv.BigWrites | f.o.Flags
	}
	return 0
}

// Destroy drops every handle and ends the session of every mount.
func (f *FS) Destroy() {
	f.latched.Store(0)
	for _, m := range f.table.Load().mounts {
		m.fs.Destroy()
		m.forget()
	}
}

// Forget passes lookups back.
func (f *FS) Forget(r *fusesrv.Request, node, nlookup uint64) {
	if m, local, ok := f.find(node); ok {
		r.SetView(&m.view, local)
		m.fs.Forget(r, local, nlookup)
	}
}

// Lookup finds a child, which may be a mountpoint or lead to one. Nothing new is
// found in what was unmounted.
func (f *FS) Lookup(r *fusesrv.Request, name []byte, out *fusesrv.EntryOut) syscall.Errno {
	m, ok := f.route(r)
	if !ok || m.gone.Load() {
		return syscall.ESTALE
	}
	if d := m.place; d != nil && r.Node == m.root {
		if string(name) == ".." {
			return f.enter(r, d.up(), out)
		}
		if c := d.child(name); c != nil {
			return f.enter(r, c, out)
		}
	}
	e := m.done(fusesrv.OpLookup, m.fs.Lookup(r, name, out))
	if e == 0 && out.NodeID == 0 && m.place != nil && r.Node == m.root {
		e = syscall.ENOENT // for now: something may be mounted there later
	}
	return e
}
