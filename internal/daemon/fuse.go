package daemon

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/api"
	"vrafs/fusesrv"
	"vrafs/fusesrv/devfuse"
)

// readOnlyMaxWrite is all that a connection needs for requests if nothing on it can be
// written.
const readOnlyMaxWrite = 4096

// fuse is the /dev/fuse transport: one mount on this host.
type fuse struct {
	d      *Daemon
	server *fusesrv.Server
	conn   *devfuse.Conn
	// inited is closed when the kernel has agreed on the protocol.
	inited  chan struct{}
	once    sync.Once
	adopted bool
}

func newFuse(d *Daemon) *fuse {
	f := &fuse{d: d, inited: make(chan struct{})}
	o := fusesrv.Options{Deadline: d.cfg.Limits.RequestTime, Track: true, Changed: f.changed}
	if !d.cfg.FUSE.Writable {
		o.MaxWrite = readOnlyMaxWrite
	}
	f.server = fusesrv.NewServer(d.root, o)
	d.shares.settings = f.server.Settings
	d.root.Serve(f.server.Quiesce)
	return f
}

// resume has nothing to take up: what a dead daemon had mounted comes by takeover.
func (f *fuse) resume() error { return nil }

// changed is called before the kernel hears what was agreed on.
func (f *fuse) changed(t *fusesrv.Settings) {
	f.d.keeping.save()
	if t.Major != 0 {
		f.once.Do(func() { close(f.inited) })
	}
}

// save tells the keeper. A supervisor is given the state when it asks.
func (f *fuse) save() error {
	f.d.keeping.save()
	return nil
}

// open mounts.
func (f *fuse) open(context.Context) error {
	o := f.d.cfg.FUSE
	conn, err := devfuse.Mount(o.Mountpoint, devfuse.MountOptions{Writable: o.Writable, Opener: f.d.o})
	if err != nil {
		return err
	}
	f.conn = conn
	f.d.keeping.start()
	return nil
}

func (f *fuse) serve(ctx context.Context) error {
	if f.adopted {
		f.askAgain()
	}
	return f.conn.Serve(ctx, f.server, devfuse.ServeOptions{
		Threads: int(f.d.cfg.FUSE.Threads), Workers: int(f.d.cfg.Limits.Workers),
		Survive: f.d.cfg.Supervisor != "" || f.d.keeping.kept,
		Keep:    func() bool { return f.d.leaves(context.Cause(ctx)) },
	})
}

// stale has the kernel forget names. Before it has agreed on the protocol it knows
// none.
func (f *fuse) stale(parent uint64, name string) {
	select {
	case <-f.inited:
	default:
		return
	}
	if err := f.conn.Invalidate(parent, name); err != nil {
		f.d.log.Warn("the kernel may show names that are gone", "err", err)
	}
}

// askAgain deals with requests that a dead predecessor had read. Whether that can
// be is up to the kernel, so a failure is only logged.
func (f *fuse) askAgain() {
	var err error
	switch f.d.cfg.FUSE.FailoverPolicy {
	case "resend":
		err = f.conn.Resend()
	case "flush":
		err = f.conn.Flush()
	}
	if err != nil {
		f.d.log.Warn("requests that the former daemon had read may hang", "err", err)
	}
}

// close unmounts, unless a successor goes on with the mount.
func (f *fuse) close(keep bool) {
	if f.conn == nil {
		return
	}
	if !keep {
		if err := f.conn.Unmount(); err != nil {
			f.d.log.Error("unmount", "err", err)
		}
	}
	_ = f.conn.Close() // nothing is lost by it
}

// inflight lists all requests, in the order of their start.
func (f *fuse) inflight() ([]api.Inflight, error) {
	var list []api.Inflight
	for _, r := range f.server.Inflight(nil) {
		list = append(list, api.Inflight{Inode: r.NodeID, Opcode: uint32(r.Opcode), Unique: r.Unique,
			TimestampSecs: uint64(r.Start.Unix()), TimestampNanos: uint32(r.Start.Nanosecond())})
	}
	return list, nil
}

func (f *fuse) abort(match func(fusesrv.Inflight) bool) int { return f.server.Abort(match) }

// initLimit bounds the wait for the kernel's first request, which is in the queue
// when the mount is made.
const initLimit = 5 * time.Second

// awaitInit returns when the kernel has agreed on the protocol: who is told that the
// daemon runs may ask for its state at once, and doesn't ask twice.
func (f *fuse) awaitInit(ctx context.Context) {
	limit := time.NewTimer(initLimit)
	defer limit.Stop()
	select {
	case <-f.inited:
	case <-ctx.Done():
	case <-limit.C:
		f.d.log.Warn("the kernel has not asked for anything yet", "mountpoint", f.d.cfg.FUSE.Mountpoint)
	}
}

// upgradeLimit bounds the talk with a supervisor.
const upgradeLimit = 5 * time.Second

func (f *fuse) upgrade(ctx context.Context, a api.Action) error {
	ctx, cancel := context.WithTimeout(ctx, upgradeLimit)
	defer cancel()
	switch a {
	case api.SendFD:
		return f.handOver(ctx)
	case api.Replace:
		return errUnsupported // a keeper or a supervisor does it
	}
	return f.takeOver(ctx)
}

// handOver gives the supervisor the state as it is now.
func (f *fuse) handOver(ctx context.Context) error {
	select {
	case <-f.inited:
	default:
		return api.Errorf(api.NotReady, "the kernel has not answered the mount yet")
	}
	f.show(ctx)
	s := f.state()
	var err error
	if s.boot, err = bootID(f.d.o); err != nil {
		return err
	}
	return sendState(ctx, f.d.cfg.Supervisor, s.encode(), f.conn.FD())
}

// state is what a successor needs, without the boot.
func (f *fuse) state() *savedState {
	s := &savedState{tree: f.d.root.State(), set: f.d.overrides.list()}
	if t := f.server.Settings(); t.Major != 0 {
		s.session = t.Save()
	}
	return s
}

// show lets the kernel have the attributes of the mountpoint. nydus-snapshotter asks
// for them when this daemon has died, before it starts a successor that could answer.
func (f *fuse) show(ctx context.Context) {
	if f.d.machine.now() != stateRunning {
		return
	}
	seen := make(chan struct{})
	go func() {
		defer close(seen)
		_, _ = os.Stat(f.conn.Dir()) // what it says doesn't matter
	}()
	select {
	case <-seen:
	case <-ctx.Done():
	}
}

// takeOver goes on with the mount of a predecessor. If it fails nothing has
// changed, and the predecessor may go on.
func (f *fuse) takeOver(ctx context.Context) error {
	text, fd, err := receiveState(ctx, f.d.cfg.Supervisor)
	if err != nil {
		return err
	}
	conn, err := devfuse.Adopt(f.d.o, fd, f.d.cfg.FUSE.Mountpoint)
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("take over: %w", err)
	}
	if err := f.adopt(text); err != nil {
		_ = conn.Close()
		return fmt.Errorf("take over: %w", err)
	}
	f.conn, f.adopted = conn, true
	return nil
}

// adopt goes on as a predecessor's state says.
func (f *fuse) adopt(text []byte) error {
	s, err := decodeState(text)
	if err != nil {
		return err
	}
	return f.apply(s)
}

// apply goes on as s says. One who died before INIT leaves that to us.
func (f *fuse) apply(s *savedState) error {
	if err := f.d.resumeSession(f.server, s, nil); err != nil || s.session == nil {
		return err
	}
	f.once.Do(func() { close(f.inited) })
	return nil
}

func (f *fuse) families(s *familySet) { serverFamilies(s, f.server) }
