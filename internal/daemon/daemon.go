package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"vrafs/api"
	"vrafs/fusesrv"
	"vrafs/fusesrv/devfuse"
	"vrafs/fusesrv/mountfs"
	"vrafs/internal/backends"
	"vrafs/internal/logsink"
	"vrafs/internal/opener"
)

// A Daemon is one running daemon. It implements api.Daemon.
type Daemon struct {
	cfg       Config
	log       *slog.Logger
	limiter   logsink.Limiter
	o         opener.Opener
	machine   machine
	events    events
	troubles  troubles
	mounts    *mountTable
	stores    stores
	shares    shares
	root      *mountfs.FS
	overrides overrides
	tree      transport
	parent    atomic.Int64
	keeping   *keeping               // nil: not a FUSE daemon
	inherited *socket                // of the control API, of a former life; nil: there is none
	control   atomic.Pointer[socket] // of the API, where there is no keeper
	commands  gate                   // of what changes mounts and settings
	network   *backends.Network

	// end asks Wait to take everything down; its cause says why.
	end context.CancelCauseFunc
	ctx context.Context
	wg  sync.WaitGroup
}

// A transport brings requests to the file systems: vhost-user, or /dev/fuse.
type transport interface {
	server
	successor
	reporter
}

// A server answers requests.
type server interface {
	// open makes what the other side connects to or sees: a listening socket, a
	// mount. It serves nothing yet.
	open(ctx context.Context) error
	// serve answers requests until ctx ends (nil) or the other side ends the
	// session for good (nil), or until it can't go on.
	serve(ctx context.Context) error
	// stale has the other side forget a name of a directory, or with "" all of its
	// names, where that can be.
	stale(parent uint64, name string)
	// close undoes open; keep leaves a mount and what a successor needs.
	close(keep bool)
}

// A successor goes on for another process, and lets another go on for it.
type successor interface {
	// resume takes up what a killed predecessor left.
	resume() error
	// save keeps what a successor would need, after each change of mounts.
	save() error
	// upgrade carries out SendFD or Takeover.
	upgrade(ctx context.Context, a api.Action) error
}

// A reporter says what a transport does.
type reporter interface {
	// inflight lists the requests under way, nil if there are none. It may be an
	// *api.Error of kind Unsupported.
	inflight() ([]api.Inflight, error)
	// abort ends the waits of requests that match, and returns how many.
	abort(match func(fusesrv.Inflight) bool) int
	// families adds the transport's own counters.
	families(s *familySet)
}

// Causes of the end of a daemon.
var (
	errEnded    = errors.New("the session ended")
	errOrphaned = errors.New("orphaned: no front-end, and the parent or the socket's directory is gone")
	errExit     = errors.New("exit was asked for")
	errFailed   = errors.New("requests can't be served any more")
)

// Start makes a daemon from cfg. When it returns, the daemon is RUNNING, or in
// INIT where it has to wait for a takeover, and its control socket answers. It
// ends when ctx does; Wait must be called. An error leaves nothing behind.
func Start(ctx context.Context, cfg Config) (*Daemon, error) {
	ctx, end := context.WithCancelCause(ctx)
	d := &Daemon{cfg: cfg, log: cfg.Log, o: cfg.Opener, ctx: ctx, end: end, machine: machine{log: cfg.Log}}
	d.parent.Store(int64(parent))
	err := d.start()
	if err != nil {
		end(err)
		d.wg.Wait()
		return nil, err
	}
	return d, nil
}

func (d *Daemon) start() error {
	if err := d.limits(); err != nil {
		return err
	}
	if err := d.build(); err != nil {
		return err
	}
	context.AfterFunc(d.ctx, func() { d.keeping.end(context.Cause(d.ctx)) })
	if f := d.cfg.FUSE; f != nil && f.Resume {
		return d.goOn()
	}
	if v := d.cfg.VirtioFS; v != nil && v.Continue > 0 {
		return d.orClose(d.continueInPlace(v.Continue))
	}
	if d.cfg.Upgrade || d.predecessorDied() {
		return d.orClose(d.listen())
	}
	if err := d.mountAll(); err != nil {
		return d.orClose(err)
	}
	if err := d.machine.fire(evMount, func() error { return d.tree.open(d.ctx) }); err != nil {
		return d.orClose(err)
	}
	if err := d.machine.fire(evStart, d.run); err != nil {
		return d.orClose(err)
	}
	if d.keeping != nil {
		d.keeping.f.awaitInit(d.ctx)
	}
	if d.cfg.Singleton == nil {
		d.log.Info("Fuse daemon started!")
	}
	return d.orClose(d.listen())
}

// predecessorDied reports whether a daemon that died has left something to be taken
// over: its mount, or the kernel's cache (nydusd, sections 1.6 and 1.9).
func (d *Daemon) predecessorDied() bool {
	if d.cfg.APISocket == "" || probe(d.cfg.APISocket) != leftDead {
		return false
	}
	f, s := d.cfg.FUSE, d.cfg.Singleton
	if (f == nil || !devfuse.Mounted(d.o, f.Mountpoint)) && (s == nil || s.FSCache == "") {
		return false
	}
	d.log.Warn("A previous daemon crashed! Try to failover later.", "apisock", d.cfg.APISocket)
	return true
}

// orClose takes down what was made if err isn't nil, and returns err.
func (d *Daemon) orClose(err error) error {
	if err != nil {
		d.end(err)
		d.wg.Wait()
		d.tree.close(d.leaves(err))
		d.mounts.close()
		d.network.Dragonfly.Close()
	}
	return err
}

// leaves reports whether a mount stays for another process after an end with cause.
func (d *Daemon) leaves(cause error) bool { return errors.Is(cause, errExit) || d.continued(cause) }

// continued reports whether the keeper starts a successor after an end with cause.
func (d *Daemon) continued(cause error) bool { return errors.Is(cause, errFailed) && d.keeping.on() }

// defaultFetchBytes is room for a request per worker of an ordinary daemon.
const defaultFetchBytes = 64 << 20

// limits sets what holds for the whole process.
func (d *Daemon) limits() error {
	l := &d.cfg.Limits
	if l.Decompressors == 0 {
		l.Decompressors = uint(runtime.NumCPU())
	}
	queues := uint(1)
	switch c := &d.cfg; {
	case c.VirtioFS != nil:
		queues += c.VirtioFS.Queues
	case c.FUSE != nil:
		queues += c.FUSE.Threads
	default:
		queues += c.Singleton.Threads
	}
	if l.Workers == 0 {
		l.Workers = 16 * (queues - 1)
	}
	l.FetchBytes = cmp.Or(l.FetchBytes, defaultFetchBytes)
	setProcs(queues, l.Decompressors)
	setMemoryLimit(d.o, l.Memory)
	return raiseOpenFiles(d.o, d.log, l.OpenFiles)
}

// run starts serving in the background.
func (d *Daemon) run() error {
	d.wg.Go(func() {
		if err := d.tree.serve(d.ctx); err != nil {
			d.end(fmt.Errorf("%w: %w", errFailed, err))
			return
		}
		d.end(errEnded)
	})
	return nil
}

// listen starts the control API.
func (d *Daemon) listen() error {
	if d.cfg.APISocket == "" {
		return nil
	}
	s, err := d.controlSocket()
	if err != nil {
		return err
	}
	unlink := func() {
		if !d.continued(context.Cause(d.ctx)) {
			s.unlink()
		}
	}
	context.AfterFunc(d.ctx, unlink)
	d.wg.Go(func() {
		if err := api.Serve(d.ctx, d.patient(d.ctx, s, "client of the control API not accepted"), d); err != nil {
			// Its clients' connections are closed, which they take for our end. A
			// successor must not get this socket.
			d.keeping.dropSocket()
			d.end(fmt.Errorf("%w: control API: %w", errFailed, err))
		}
		unlink()
		d.log.Info("http-server thread exits")
	})
	d.log.Info("HTTP API server running at " + d.cfg.APISocket)
	d.log.Info("http server started")
	return nil
}

// controlSocket is a new one, or a predecessor's, whose clients never find it gone.
func (d *Daemon) controlSocket() (*socket, error) {
	k := d.keeping
	if k == nil {
		s := d.inherited
		if s == nil {
			var err error
			if s, err = listen(d.o, d.cfg.APISocket); err != nil {
				return nil, err
			}
		}
		d.control.Store(s)
		return s, nil
	}
	if s := k.sock.Load(); s != nil {
		return s, nil
	}
	s, err := listen(d.o, d.cfg.APISocket)
	if err != nil {
		return nil, err
	}
	k.sock.Store(s)
	k.save()
	return s, nil
}

// endLimit is how long the end of a daemon waits for its parts: one may hang in a
// file system that doesn't answer.
const endLimit = 800 * time.Millisecond

// Wait returns when the daemon has ended: nil after a signal, an exit command or
// the end of the session.
func (d *Daemon) Wait() error {
	<-d.ctx.Done()
	cause := context.Cause(d.ctx)
	d.log.Info("ending", "why", cause)
	d.keeping.end(cause)
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.wg.Wait()
		d.tree.close(d.leaves(cause))
		d.root.Destroy() // nobody holds handles any more
		d.mounts.close()
		d.network.Dragonfly.Close()
		d.root.Wait()
	}()
	limit := time.NewTimer(endLimit)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
		d.log.Warn("ending without the parts that hang")
	}
	d.log.Info("nydusd quits")
	if errors.Is(cause, errFailed) {
		return cause
	}
	return nil
}

// parent is the process that started us, as it was when we started. A former life of
// this process may know better, see Daemon.parent.
var parent = os.Getppid()

// orphanWatch ends the daemon when nobody needs it any more.
func (d *Daemon) orphanWatch(connected func() bool) {
	v := d.cfg.VirtioFS
	if v.OrphanAfter <= 0 {
		return
	}
	d.wg.Go(func() {
		if watchOrphan(d.ctx, v.Socket, int(d.parent.Load()), v.OrphanAfter, connected) {
			d.end(errOrphaned)
		}
	})
}
