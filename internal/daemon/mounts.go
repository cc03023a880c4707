package daemon

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"vrafs/api"
	"vrafs/config"
)

var (
	errExists  = errors.New("object or filesystem already exists")
	errMissing = errors.New("object or filesystem doesn't exist")
)

// A mounted is one file system in the tree.
type mounted struct {
	place string // cleaned
	cmd   api.MountCmd
	since time.Time
	*content
	root bool // from the command line
	// restored: mounted by a predecessor that was killed. A client that repeats
	// its mounts afterwards is not told that they exist.
	restored atomic.Bool
	entry    *config.BlobEntry // nil but for what is bound to a singleton daemon
}

// A mountTable is what is mounted where.
type mountTable struct {
	n      atomic.Int32 // how many there are
	mu     sync.Mutex
	m      map[string]*mounted
	claims map[string]bool // places being mounted, replaced or unmounted now
	freed  *sync.Cond      // a claim was given up
}

func newMountTable() *mountTable {
	t := &mountTable{m: map[string]*mounted{}, claims: map[string]bool{}}
	t.freed = sync.NewCond(&t.mu)
	return t
}

// claim waits until nobody else works on a place and keeps others from it until
// release is called. Commands for one place thus happen one after the other.
func (t *mountTable) claim(place string) (m *mounted, release func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.claims[place] {
		t.freed.Wait()
	}
	t.claims[place] = true
	return t.m[place], func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.claims, place)
		t.freed.Broadcast()
	}
}

func (t *mountTable) put(m *mounted) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.m[m.place] = m
	t.n.Store(int32(len(t.m)))
}

func (t *mountTable) remove(place string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.m, place)
	t.n.Store(int32(len(t.m)))
}

// get is what is mounted at place, or nil.
func (t *mountTable) get(place string) *mounted {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[place]
}

// list is every mount in the order of places.
func (t *mountTable) list() []*mounted {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*mounted, 0, len(t.m))
	for _, m := range t.m {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *mounted) int { return strings.Compare(a.place, b.place) })
	return all
}

// collection is the backend_collection of GET daemon.
func (t *mountTable) collection() map[string]api.Backend {
	out := map[string]api.Backend{}
	for _, m := range t.list() {
		b := api.Backend{Mountpoint: m.place, MountedTime: api.NewMountedTime(m.since)}
		b.BackendType = m.kind
		if m.image != nil {
			b.Config = m.image.config
		}
		out[m.place] = b
	}
	return out
}

// close releases everything at the end of the daemon.
func (t *mountTable) close() {
	for _, m := range t.list() {
		t.remove(m.place)
		m.close()
	}
}

// cleanPlace checks a mountpoint of a command.
func cleanPlace(p string) (string, error) {
	if !path.IsAbs(p) || strings.ContainsRune(p, 0) {
		return "", fmt.Errorf("invalid argument `mountpoint %.256q is not an absolute path`", p)
	}
	clean := path.Clean(p)
	for name := range strings.SplitSeq(clean[1:], "/") {
		if len(name) > 255 {
			return "", fmt.Errorf("invalid argument `a name in mountpoint has %d bytes`", len(name))
		}
	}
	if len(clean) > 4095 {
		return "", fmt.Errorf("invalid argument `mountpoint has %d bytes`", len(clean))
	}
	return clean, nil
}

// treePlace is cleanPlace for a daemon that has a tree.
func (d *Daemon) treePlace(mountpoint string) (string, error) {
	if d.cfg.Singleton != nil {
		return "", errUnsupported
	}
	return cleanPlace(mountpoint)
}

// Mount mounts a file system. When it returns nil the tree shows it, and a
// successor would restore it.
func (d *Daemon) Mount(_ context.Context, mountpoint string, cmd api.MountCmd) error {
	place, err := d.treePlace(mountpoint)
	if err != nil {
		return err
	}
	leave, err := d.commands.enter()
	if err != nil {
		return err
	}
	defer leave()
	old, release := d.mounts.claim(place)
	defer release()
	if old != nil {
		if !old.restored.Swap(false) {
			return errExists
		}
		if sameCmd(old.cmd, cmd) {
			return nil
		}
		if err := d.unmount(old); err != nil {
			return err
		}
	}
	return d.note("mount "+place, d.mount(place, cmd, mountOptions{}))
}

func sameCmd(a, b api.MountCmd) bool {
	return a.Source == b.Source && a.FSType == b.FSType && a.Config == b.Config && slices.Equal(a.PrefetchFiles, b.PrefetchFiles)
}

// mountOptions are what a mount has beyond its command. The zero value is that
// of a command of the API.
type mountOptions struct {
	root   bool           // from the command line
	config *config.Config // instead of cmd.Config
	since  time.Time      // of a predecessor's mount; zero: now
}

// mount opens what cmd names and shows it at place, which is claimed and free.
func (d *Daemon) mount(place string, cmd api.MountCmd, o mountOptions) error {
	if o.since.IsZero() {
		o.since = time.Now()
	}
	c, err := d.openContent(place, cmd, o)
	if err != nil {
		return err
	}
	return d.show(&mounted{place: place, cmd: cmd, since: o.since, content: c, root: o.root})
}

// show makes a mount visible; a successor would restore it. If that fails its
// content is closed.
func (d *Daemon) show(m *mounted) error {
	if err := d.attach(m); err != nil {
		m.close()
		return err
	}
	d.mounts.put(m)
	if err := d.tree.save(); err != nil {
		d.drop(m)
		return err
	}
	m.start()
	d.log.Info(m.kind + " filesystem mounted at " + m.place)
	return nil
}

// drop takes a mount out of the tree and closes it once nobody asks for it.
func (d *Daemon) drop(m *mounted) {
	d.mounts.remove(m.place)
	d.detach(m)
}

// unmount is drop, saved.
func (d *Daemon) unmount(m *mounted) error {
	d.drop(m)
	if err := d.tree.save(); err != nil {
		d.log.Warn("a restarted daemon would mount it again", "mountpoint", m.place, "err", err)
	}
	d.log.Info("filesystem unmounted at " + m.place)
	return nil
}

// Unmount takes a file system out of the tree. Open files of it work on until
// they are closed.
func (d *Daemon) Unmount(_ context.Context, mountpoint string) error {
	return d.withMount(mountpoint, d.unmount)
}

// Remount replaces image and configuration at a place. The new image is opened
// first: if that fails, the old one stays.
func (d *Daemon) Remount(_ context.Context, mountpoint string, cmd api.MountCmd) error {
	return d.withMount(mountpoint, func(m *mounted) error {
		if m.image == nil {
			return fmt.Errorf("invalid argument `%s is not a rafs filesystem`", m.place)
		}
		if isShared(cmd.FSType) {
			return fmt.Errorf("invalid argument `only a rafs filesystem can replace that at %s`", m.place)
		}
		if m.image.config.Rafs.Mode == "cached" {
			return errUnsupported
		}
		c, err := d.openContent(m.place, cmd, mountOptions{since: time.Now()})
		if err != nil {
			return d.note("remount "+m.place, err)
		}
		d.drop(m)
		return d.note("remount "+m.place, d.show(&mounted{place: m.place, cmd: cmd, since: time.Now(), content: c}))
	})
}

// withMount claims what is mounted at a place for f.
func (d *Daemon) withMount(mountpoint string, f func(*mounted) error) error {
	place, err := d.treePlace(mountpoint)
	if err != nil {
		return err
	}
	leave, err := d.commands.enter()
	if err != nil {
		return err
	}
	defer leave()
	m, release := d.mounts.claim(place)
	defer release()
	if m == nil {
		return errMissing
	}
	return f(m)
}

// note puts a failure into the ring of events and returns it.
func (d *Daemon) note(what string, err error) error {
	if err != nil {
		d.events.add(what + ": " + err.Error())
	}
	return err
}
