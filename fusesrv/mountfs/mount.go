package mountfs

import (
	"context"
	"sync/atomic"
	"syscall"

	"vrafs/fusesrv"
)

// A mount is a file system from Mount until nobody uses it.
type mount struct {
	f      *FS
	number uint32
	path   string
	fs     Mountable
	root   uint64
	o      MountOptions
	view   fusesrv.View
	stats  fusesrv.Stats

	gone  atomic.Bool  // unmounted
	opens atomic.Int64 // handles the guest has, as far as it told
	uses  atomic.Int64 // handles, pending requests, and one while it is mounted
	// sticky says that handles are open that were not counted: they are there until
	// the session ends.
	sticky atomic.Bool

	// Guarded by FS.mu.
	retiring bool
	unlisted bool
	closed   bool
}

func newMount(f *FS, number uint32, path string, fs Mountable, o MountOptions) *mount {
	m := &mount{f: f, number: number, path: path, fs: fs, root: fs.Root(), o: o}
	base := uint64(number) << localBits
	m.view = fusesrv.View{Base: base, InoBase: base, Stats: &m.stats, Ended: func() { m.drop(1) }}
	m.stats.Observe = o.Observe
	if o.OwnInos {
		m.view.InoBase = 0
	}
	if path == "/" || number == dirNumber {
		m.view.Root = m.root
	}
	m.uses.Store(1)
	return m
}

func (m *mount) describe() Mount {
	return Mount{Path: m.path, Number: m.number, Identity: m.o.Identity, Extra: m.o.Extra, Stats: &m.stats}
}

// serves reports whether requests about the file system's nodes are answered.
func (m *mount) serves() bool {
	return !m.gone.Load() || m.opens.Load() > 0 || m.sticky.Load()
}

// done counts what a call leaves behind, and makes its answer one for the
// connection.
func (m *mount) done(o fusesrv.Opcode, e syscall.Errno) syscall.Errno {
	switch e {
	case fusesrv.Pending:
		m.uses.Add(1) // until the view's Ended
	case syscall.ENOSYS:
		if m.o.Latches>>o&1 != 0 {
			return e
		}
		return m.f.unsupported(o)
	}
	return e
}

// opened counts a handle.
func (m *mount) opened(e syscall.Errno) syscall.Errno {
	if e == 0 {
		m.uses.Add(1)
		m.opens.Add(1)
	}
	return e
}

// released counts one back. A guest that releases what it did not open takes
// nothing from others.
func (m *mount) released() {
	for {
		n := m.opens.Load()
		if n == 0 {
			return
		}
		if m.opens.CompareAndSwap(n, n-1) {
			m.drop(1)
			return
		}
	}
}

// forget drops every handle: the session has ended.
func (m *mount) forget() {
	n := m.opens.Swap(0)
	if m.sticky.Swap(false) {
		n++
	}
	m.drop(n)
}

// drop takes uses back; without any the file system goes.
func (m *mount) drop(n int64) {
	if n == 0 || m.uses.Add(-n) != 0 {
		return
	}
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	if m.retiring || m.closed {
		return
	}
	m.retiring = true
	quiesce := m.f.quiesce
	m.f.retired.Go(func() { m.retire(quiesce) })
}

// retire takes the file system out of the table when no request that saw it
// mounted runs any more, and closes it when none that saw it there does. A handle
// or a pending request that such a request left behind stops it; the end of
// that one calls it again.
func (m *mount) retire(quiesce func(context.Context) error) {
	for {
		if quiesce != nil {
			if quiesce(context.Background()) != nil {
				return // not with this context
			}
		}
		if !m.step() {
			break
		}
	}
	m.f.mu.Lock()
	closed := m.closed
	m.f.mu.Unlock()
	if closed && m.o.Closed != nil {
		m.o.Closed()
	}
}

// step goes one step towards the end and reports whether there is another.
func (m *mount) step() bool {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	switch {
	case m.uses.Load() != 0:
		m.retiring = false
		return false
	case !m.unlisted:
		m.unlisted = true
		m.f.unlist(m)
		return true
	}
	m.closed = true
	return false
}

// unlist takes m out of the table. f.mu is held.
func (f *FS) unlist(m *mount) {
	var rest []*mount
	for _, o := range f.table.Load().mounts {
		if o != m {
			rest = append(rest, o)
		}
	}
	f.publish(rest)
}
