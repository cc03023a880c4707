package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"vrafs/api"
	"vrafs/fusesrv"
	"vrafs/fusesrv/mountfs"
)

// build makes the parts that exist before anything is mounted.
func (d *Daemon) build() error {
	d.mounts = newMountTable()
	d.stores = stores{o: d.o, log: slog.New(telling{d.log.Handler(), &d.events}), limits: d.cfg.Limits}
	d.network = d.newNetwork()
	v := d.cfg.VirtioFS
	// What is on the connection is decided once, for its life: without a bootstrap
	// on the command line anything may be mounted later.
	only := d.cfg.Root.Bootstrap != "" && (v == nil || !v.Hybrid)
	// With the writeback cache Linux sends a FLUSH for each close(2), also of files that
	// need none (FOPEN_NOFLUSH): not where nothing can be written. A process that starts
	// a successor would wait for it there, if it has files of the mount open.
	writable := !only && (v != nil || d.cfg.FUSE != nil && d.cfg.FUSE.Writable)
	d.shares.init(d.cfg.Writeback && writable)
	d.root = mountfs.New(mountfs.Options{ImagesOnly: only, NoOpen: only, Flags: d.shares.flags(),
		Stale: func(parent uint64, name string) { d.tree.stale(parent, name) }})
	switch {
	case d.cfg.Singleton != nil:
		d.tree = &singleton{d}
	case v == nil:
		f := newFuse(d)
		d.tree, d.keeping = f, &keeping{d: d, f: f}
	default:
		t, err := newVhost(d)
		d.tree = t
		return err
	}
	return nil
}

// attach puts a mount into the tree.
func (d *Daemon) attach(m *mounted) error {
	o := m.options
	o.Extra = (&savedMount{cmd: m.cmd, since: m.since, root: m.root}).encode()
	o.Closed = m.close
	got, err := d.root.Mount(m.place, m.fs, o)
	if errors.Is(err, mountfs.ErrMounted) {
		return errExists
	}
	if err != nil {
		return err
	}
	m.stats.Store(got.Stats)
	return nil
}

// detach takes a mount out of the tree. Its content is closed when nobody uses it
// any more.
func (d *Daemon) detach(m *mounted) {
	if err := d.root.Unmount(m.place); err != nil {
		d.log.Error("unmount", "mountpoint", m.place, "err", err)
	}
}

// An owner gives the descriptor that a state of another process names, which goes on if this
// one can't. It is nil where the state is of a process that is no more.
type owner func(number int) (fd int, err error)

// resumeSession goes on as s says; nothing has changed if it fails. A state without a
// session is of a daemon that nobody had begun to talk to.
func (d *Daemon) resumeSession(server *fusesrv.Server, s *savedState, own owner) error {
	if s.session == nil {
		return d.restore(s, own)
	}
	settings, err := fusesrv.ParseSettings(s.session)
	if err != nil {
		return err
	}
	if err := d.restore(s, own); err != nil {
		return err
	}
	server.Restore(settings)
	return nil
}

// restore mounts everything that a predecessor had mounted. What can't be opened any more
// is left out: its nodes are stale; with an owner it is an error. So are those of shared directories if the predecessor
// was killed, since only it knew them: they are mounted anew.
func (d *Daemon) restore(state *savedState, own owner) error {
	if err := d.overrides.restore(state.set); err != nil {
		return err
	}
	again := map[string]*mounted{}
	var shared, opened []*mounted
	exact := state.inPlace != nil // nothing was served since
	if exact && state.inPlace.numbers != nil {
		if err := d.shares.numbers.Load(state.inPlace.numbers); err != nil {
			return err
		}
	}
	err := d.root.Load(state.tree, exact, func(s mountfs.SavedMount) (mountfs.Mountable, mountfs.MountOptions, error) {
		if exact && s.Gone && s.Handles == 0 {
			return nil, mountfs.MountOptions{}, nil // it was about to be closed
		}
		share := state.inPlace.share(s.Identity)
		if own != nil && share == nil && isSharedIdentity(s.Identity) {
			if s.Gone {
				return nil, mountfs.MountOptions{}, nil // it was closed just before
			}
			return nil, mountfs.MountOptions{}, errUntold
		}
		m, err := d.reopen(s, share, own)
		if err == nil && own != nil {
			opened = append(opened, m)
		}
		switch {
		case err != nil && own != nil:
			return nil, mountfs.MountOptions{}, err
		case err != nil:
			d.log.Error("mount can't be restored", "mountpoint", s.Path, "err", err)
			d.events.add("restore " + s.Path + ": " + err.Error())
			return nil, mountfs.MountOptions{}, nil
		case m.options.Identity != s.Identity: // a directory that is shared anew
			if s.Gone {
				m.close()
			} else {
				shared = append(shared, m)
			}
			return nil, mountfs.MountOptions{}, nil
		case !s.Gone:
			again[s.Path] = m
		}
		o := m.options
		o.Extra, o.Closed = s.Extra, m.close
		return m.fs, o, nil
	})
	if err != nil {
		for _, m := range again {
			m.close()
		}
		for _, m := range append(shared, opened...) {
			m.close()
		}
		return err
	}
	for _, got := range d.root.Mounts() {
		if m := again[got.Path]; m != nil {
			m.stats.Store(got.Stats)
			m.restored.Store(!exact || own != nil) // nobody need repeat a command to a process that lives on
			d.restored(m)
		} else if here := d.mounts.get(got.Path); here != nil {
			here.stats.Store(got.Stats) // its counters are other ones now
		}
	}
	for _, m := range shared {
		if err := d.attach(m); err != nil {
			m.close()
			return err
		}
		d.restored(m)
	}
	return nil
}

var errUntold = errors.New("the state doesn't tell what the guest knows of the shared directory")

// restored makes a mount that a predecessor had known, in the place of what a client
// had mounted while we waited.
func (d *Daemon) restored(m *mounted) {
	here := d.mounts.get(m.place)
	d.mounts.put(m)
	if here != nil {
		here.close()
	}
	m.start()
	d.log.Info(m.kind + " filesystem mounted at " + m.place + ", as before")
}

// reopenAll opens everything that a state has mounted, shows it to nobody, and closes
// it again. What can't be opened, or can't be handed over, is an error.
func (d *Daemon) reopenAll(state *savedState) error {
	var opened []*mounted
	defer func() {
		for _, m := range opened {
			m.close()
		}
	}()
	return d.root.Load(state.tree, true, func(s mountfs.SavedMount) (mountfs.Mountable, mountfs.MountOptions, error) {
		if isSharedIdentity(s.Identity) { // open already, in the process that asks
			if state.inPlace.share(s.Identity) == nil && !s.Gone {
				return nil, mountfs.MountOptions{}, errUntold
			}
			return nil, mountfs.MountOptions{}, nil
		}
		m, err := d.reopen(s, nil, nil)
		if err != nil {
			return nil, mountfs.MountOptions{}, err
		}
		opened = append(opened, m)
		return m.fs, m.options, nil
	})
}

// take goes on with the guest of another host. Its state comes through a front-end
// that may be in the guest's hands, so it names no file to open: what the guest
// has must be mounted here already. What was unmounted there is stale.
func (d *Daemon) take(tree []byte) error {
	err := d.root.Load(tree, true, func(s mountfs.SavedMount) (mountfs.Mountable, mountfs.MountOptions, error) {
		switch {
		case s.Gone:
			return nil, mountfs.MountOptions{}, nil
		case isSharedIdentity(s.Identity):
			return nil, mountfs.MountOptions{}, errors.New("shared directories do not migrate: unmount it before the migration")
		}
		return nil, mountfs.MountOptions{}, errors.New("the guest has an image here that is not mounted: mount it before the migration")
	})
	if err != nil {
		return err
	}
	for _, got := range d.root.Mounts() {
		if m := d.mounts.get(got.Path); m != nil {
			m.stats.Store(got.Stats)
		}
	}
	return nil
}

// reopen opens the content of a saved mount, or goes on with a shared directory.
func (d *Daemon) reopen(s mountfs.SavedMount, share *savedShare, own owner) (*mounted, error) {
	saved, err := decodeMount(s.Extra)
	if err != nil {
		return nil, err
	}
	o := mountOptions{since: saved.since, root: saved.root}
	if saved.root {
		r, err := d.rootMount()
		if err != nil {
			return nil, err
		}
		if r == nil || r.cmd.Source != saved.cmd.Source || r.cmd.FSType != saved.cmd.FSType {
			return nil, errors.New("the command line names another image now")
		}
		o.config = r.config
	}
	c, err := d.reopenContent(s, saved.cmd, o, share, own)
	if err != nil {
		return nil, err
	}
	if c.options.Identity != s.Identity && c.kind != sharedKind {
		c.close()
		return nil, fmt.Errorf("%s is another image now", saved.cmd.Source)
	}
	m := &mounted{place: s.Path, cmd: saved.cmd, since: saved.since, content: c, root: saved.root}
	m.restored.Store(true)
	return m, nil
}

// reopenContent is openContent for a saved mount. A shared directory that can't be gone on
// with is shared anew, but is an error if there is an owner.
func (d *Daemon) reopenContent(s mountfs.SavedMount, cmd api.MountCmd, o mountOptions, share *savedShare, own owner) (*content, error) {
	if share != nil {
		c, err := d.resumeShared(share, own)
		if err == nil || own != nil {
			return c, err
		}
		d.log.Error("what the guest has of a shared directory is lost", "mountpoint", s.Path, "err", err)
		d.events.add("go on " + s.Path + ": " + err.Error())
	}
	return d.openContent(s.Path, cmd, o)
}

// mountAll mounts what a predecessor had, then what the command line names.
func (d *Daemon) mountAll() error {
	if err := d.tree.resume(); err != nil {
		return err
	}
	place, err := cleanPlace(d.cfg.Root.Mountpoint)
	if err != nil {
		return err
	}
	if m := d.mounts.get(place); m != nil && m.root {
		return nil // it is among the former
	}
	r, err := d.rootMount()
	if err != nil || r == nil {
		return err
	}
	return d.mount(place, r.cmd, mountOptions{root: true, config: r.config})
}

// Backend summarises the image at a mountpoint.
func (d *Daemon) Backend(_ context.Context, mountpoint string) (api.SuperBlock, error) {
	place, err := d.treePlace(mountpoint)
	if err != nil {
		return api.SuperBlock{}, err
	}
	if m := d.mounts.get(place); m != nil && m.image != nil {
		return m.image.super, nil
	}
	return api.SuperBlock{}, fmt.Errorf("no rafs filesystem is mounted at %.256s", place)
}
