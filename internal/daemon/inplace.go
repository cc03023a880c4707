package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/api"
	"vrafs/fusesrv"
	"vrafs/vhostuser"
)

// An upgrade in place: the process stays, since whoever started it watches it, and
// the program in it becomes another by execve.
//
//	PUT upgrade --> new program as a child: would it take this state?   refused: an error
//	204             guest memory out of the page tables, in slices      serving goes on
//	                commands wait; rings stand still                     the pause begins
//	                state and descriptors --execve--> new program        the pause ends
//
// Everything before the execve can be undone, and is when something fails. Descriptors
// of cache files are closed by it, as all that are not named in the state.

// monotonic is the time that all programs of this machine share.
func monotonic() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // can't fail
	return t.Nano()
}

const (
	// quietLimit is how long commands under way may hold an upgrade up, and a front-end
	// that is in the middle of a message.
	quietLimit = 5 * time.Second
	// checkLimit is how long a new program may take to say that it takes the state.
	checkLimit = 30 * time.Second
)

// replace has the new program accept the state. What changes the process comes later,
// when the client has its answer.
func (v *vhost) replace(ctx context.Context) error {
	if v.d.machine.now() != stateRunning {
		return api.Errorf(api.UnexpectedEvent, "Upgrade")
	}
	if !v.replacing.CompareAndSwap(false, true) {
		return errors.New("an upgrade is under way")
	}
	program, err := findProgram(v.d.o)
	if err == nil {
		err = v.check(ctx, program)
	}
	if err != nil {
		v.replacing.Store(false)
		return v.d.note("upgrade", err)
	}
	return &api.Deferred{Run: func() {
		v.d.wg.Go(func() {
			defer v.replacing.Store(false)
			if err := v.commit(v.d.ctx, program); err != nil {
				_ = v.d.note("upgrade", err)
				v.d.log.Warn("upgrade refused: this program goes on", "err", err)
			}
		})
	}}
}

// check runs the new program on a copy of the state.
func (v *vhost) check(ctx context.Context, p *program) error {
	s, err := v.snapshot()
	if err != nil {
		return err
	}
	s.inPlace = &inPlace{parent: v.d.parent.Load(), front: vhostuser.EmptyState(v.dev.Properties().Queues)}
	v.d.shares.mu.Lock()
	v.d.shares.save(s.inPlace)
	v.d.shares.mu.Unlock()
	p.shares = len(s.inPlace.shares) != 0
	f, err := memoryFile(s)
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	return p.check(ctx, v.d.cfg.VirtioFS.Argv, f)
}

// snapshot is the state as it is now, without what is in place.
func (v *vhost) snapshot() (*savedState, error) {
	s := &savedState{boot: v.state.boot, tree: v.d.root.State(), set: v.d.overrides.list()}
	if t := v.server.Settings(); t.Major != 0 {
		s.session = t.Save()
	}
	return s, nil
}

// commit makes this process the new program. If it returns, the old one goes on.
func (v *vhost) commit(ctx context.Context, p *program) error {
	v.handover.DropPages(func() bool { return ctx.Err() != nil })
	quiet, cancel := context.WithTimeout(ctx, quietLimit)
	defer cancel()
	reopen, err := v.d.commands.shut(quiet)
	if err != nil {
		return err
	}
	defer reopen()
	began := monotonic()
	front, goOn, err := v.standStill(quiet)
	if err != nil {
		return err
	}
	defer goOn()
	v.d.shares.mu.Lock() // a directory that was unmounted may be closed at any time
	defer v.d.shares.mu.Unlock()
	s, fds, err := v.collect(front, began)
	if err != nil {
		return err
	}
	if len(s.inPlace.shares) != 0 && !p.shares {
		return errors.New("a directory is shared that the new program was not asked about: ask for the upgrade again")
	}
	if sock := v.d.control.Load(); sock != nil {
		if s.inPlace.control, err = sock.saved(); err != nil {
			return err
		}
		fds = append(fds, s.inPlace.control.fd)
	}
	f, err := memoryFile(s)
	if err != nil {
		return err
	}
	defer f.Close()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return p.become(v.d.cfg.VirtioFS.Argv, f, fds)
}

// collect is what a successor needs of a session that stands still, or of none, and the
// descriptors in it; the control socket isn't there. shares.mu is held.
func (v *vhost) collect(front *vhostuser.Suspended, began int64) (*savedState, []int, error) {
	s, err := v.snapshot()
	if err != nil {
		return nil, nil, err
	}
	s.inPlace = &inPlace{began: began, lives: v.lives + 1, parent: v.d.parent.Load()}
	fds := v.d.shares.save(s.inPlace)
	if front != nil {
		s.inPlace.front = front.State
		fds = append(fds, front.FDs...)
	}
	if s.inPlace.sock, err = v.sock.saved(); err != nil {
		return nil, nil, err
	}
	return s, append(fds, s.inPlace.sock.fd), nil
}

// A halt is the wish that serve stands still.
type halt struct {
	parked chan struct{} // serve stands still between two front-ends
	over   chan struct{} // closed when it may go on
}

// standStill has serve stop where it is: in a session, which is returned, or between
// two. Without an error goOn lets it go on.
func (v *vhost) standStill(ctx context.Context) (front *vhostuser.Suspended, goOn func(), err error) {
	h := &halt{parked: make(chan struct{}), over: make(chan struct{})}
	v.halted.Store(h)
	inSession, cancel := context.WithCancel(ctx)
	type result struct {
		s   *vhostuser.Suspended
		err error
	}
	got := make(chan result, 1)
	go func() {
		s, err := v.handover.Suspend(inSession)
		got <- result{s, err}
	}()
	err = v.sock.SetDeadline(time.Unix(1, 0)) // wakes who accepts
	var r result
	select {
	case r = <-got:
		err = errors.Join(err, r.err)
	case <-h.parked:
		cancel()
		r = <-got // no session can have begun
	}
	cancel()
	err = errors.Join(err, v.sock.SetDeadline(time.Time{}))
	v.halted.Store(nil)
	goOn = func() {
		if r.s != nil {
			r.s.Resume()
		}
		close(h.over)
	}
	if err != nil {
		goOn()
		return nil, nil, err
	}
	return r.s, goOn, nil
}

// park stands still as long as somebody wants that. It is called between two
// front-ends, and reports whether to accept more.
func (v *vhost) park(ctx context.Context) bool {
	h := v.halted.Load()
	if h == nil { // just over
		pause(ctx, time.Millisecond)
		return ctx.Err() == nil
	}
	select {
	case h.parked <- struct{}{}:
	case <-h.over:
	case <-ctx.Done():
	}
	select {
	case <-h.over:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// goOn serves the session of a former life to its end.
func (v *vhost) goOn(ctx context.Context) {
	front := v.front
	v.front = nil
	v.serveWith(func(vhostuser.Options) error { return front.Serve(ctx) })
}

// resumedAfter is called when requests are served again.
func (v *vhost) resumedAfter() {
	pause := time.Duration(monotonic() - v.began)
	v.pause.Store(int64(pause))
	v.d.log.Info(fmt.Sprintf("going on in the place of the former program after a pause of %v", pause.Round(100*time.Microsecond)), "upgrades", v.lives)
}

// continueInPlace starts a daemon that goes on for the former program of this process.
func (d *Daemon) continueInPlace(fd int) error {
	v := d.tree.(*vhost)
	err := d.machine.fire(evTakeover, func() error { return v.inherit(fd) })
	if err == nil {
		err = d.machine.fire(evStart, d.run)
	}
	if err == nil {
		err = d.listen()
	}
	if err != nil {
		return fmt.Errorf("go on after an upgrade: %w", err)
	}
	return nil
}

// inherit takes over state and sockets.
func (v *vhost) inherit(fd int) error {
	s, err := readState(fd)
	if err != nil {
		return err
	}
	p := s.inPlace
	if p == nil || s.boot != v.state.boot {
		return errors.New("the state is not of this process")
	}
	defer p.discard()
	if err := v.d.resumeSession(v.server, s, nil); err != nil {
		return err
	}
	v.began, v.lives, v.resumed = p.began, p.lives, true
	if p.front != nil {
		o := v.options()
		o.Resumed = v.resumedAfter
		if v.front, err = vhostuser.Resume(p.front, v.dev, o); err != nil {
			v.frontFailed(err)
		}
	}
	v.d.parent.Store(p.parent)
	if v.sock, err = p.sock.inherit(v.d, v.d.cfg.VirtioFS.Socket); err != nil {
		return err
	}
	if p.control.fd != 0 && v.d.cfg.APISocket != "" {
		if v.d.inherited, err = p.control.inherit(v.d, v.d.cfg.APISocket); err != nil {
			return err
		}
	}
	v.ownership.claim()
	return v.save()
}

func (s savedSocket) inherit(d *Daemon, path string) (*socket, error) {
	f := os.NewFile(uintptr(s.fd), path)
	defer f.Close()
	return inheritSocket(d.o, f, path, s.identity)
}

// CheckState reports whether a daemon of cfg would go on with the state in a
// descriptor, which it closes. It opens what is mounted, and serves nothing.
func CheckState(ctx context.Context, cfg Config, fd int) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	d := &Daemon{cfg: cfg, log: cfg.Log, o: cfg.Opener, ctx: ctx, end: end, machine: machine{log: cfg.Log}}
	s, err := readState(fd)
	if err != nil {
		return err
	}
	if err := errors.Join(d.limits(), d.build()); err != nil {
		return err
	}
	if s.session != nil {
		if _, err := fusesrv.ParseSettings(s.session); err != nil {
			return err
		}
	}
	if p := s.inPlace; p != nil {
		if err := p.check(1 + int(cfg.VirtioFS.Queues)); err != nil {
			return err
		}
	}
	return d.reopenAll(s)
}
