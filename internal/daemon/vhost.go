package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"vrafs/api"
	"vrafs/fusesrv"
	"vrafs/fusesrv/virtiofs"
	"vrafs/vhostuser"
)

// vhost is the vhost-user transport: one front-end at a time, each after the
// other, for one guest.
type vhost struct {
	d         *Daemon
	server    *fusesrv.Server
	dev       migrating
	stats     vhostuser.Stats
	sock      *socket
	state     *stateFile
	resumed   bool // the state is of a session that may still be taken up
	connected atomic.Bool

	connections atomic.Uint64

	handover  *vhostuser.Handover
	replacing atomic.Bool          // an upgrade is under way, or was to another process
	halted    atomic.Pointer[halt] // nil: serve goes on
	front     *vhostuser.Resumed   // the session of a former life, to go on with; nil: none
	began     int64                // when the pause of the upgrade began that we come from
	lives     uint64               // of this process
	pause     atomic.Int64         // of the last change of programs, in nanoseconds

	ownership ownership
	serving   context.Context         // ends when requests are to be served no more
	letGo     func()                  // ends it
	invited   atomic.Pointer[passage] // what the supervisor has the other end of; nil: nothing
	former    *passage                // to the daemon that we took over from and have not told yet that we serve; nil: none
	spoiled   error                   // why a takeover failed so late that there can't be another; nil: none did
}

func newVhost(d *Daemon) (*vhost, error) {
	o := d.cfg.VirtioFS
	path, err := filepath.Abs(o.Socket)
	if err != nil {
		return nil, err
	}
	state, err := newStateFile(d.o, path+".state")
	if err != nil {
		return nil, err
	}
	v := &vhost{d: d, state: state}
	v.serving, v.letGo = context.WithCancel(d.ctx)
	if v.handover, err = vhostuser.NewHandover(); err != nil {
		return nil, err
	}
	v.server = fusesrv.NewServer(d.root, fusesrv.Options{Changed: v.changed, Deadline: d.cfg.Limits.RequestTime})
	d.shares.settings = v.server.Settings
	d.root.Serve(v.server.Quiesce)
	dev, err := virtiofs.New(v.server, virtiofs.Options{
		Tag: o.Tag, Queues: int(o.Queues), Workers: int(d.cfg.Limits.Workers),
		Save: d.root.Portable, Load: d.take,
	})
	v.dev = migrating{dev, v}
	return v, err
}

// resume takes up the session of a daemon that was killed: its socket is there and
// nobody listens. Whoever clears sockets away starts a new session.
func (v *vhost) resume() error {
	if probe(v.d.cfg.VirtioFS.Socket) != leftDead {
		return nil
	}
	s, err := v.state.read()
	if err != nil || s == nil {
		return err
	}
	if err := v.d.resumeSession(v.server, s, nil); err != nil {
		return fmt.Errorf("saved state: %w; remove %s to start anew", err, v.state.path)
	}
	v.resumed = true
	v.d.log.Info("going on for a daemon that was killed", "state", v.state.path)
	return nil
}

// A migrating device saves the state that a migration brought, as it does every
// other change.
type migrating struct {
	*virtiofs.Device
	v *vhost
}

// LoadState takes a guest over from another host.
func (m migrating) LoadState(r io.Reader) error {
	if err := m.Device.LoadState(r); err != nil {
		m.v.d.events.add("migration: " + err.Error())
		return err
	}
	return m.v.save()
}

// changed saves what the guest negotiated before it hears of it.
func (v *vhost) changed(*fusesrv.Settings) {
	if err := v.save(); err != nil {
		v.d.limiter.Warn(v.d.log, "a restarted daemon could not go on for this guest", "err", err)
	}
}

// save writes the state.
func (v *vhost) save() error {
	if !v.ownership.isMine() {
		return nil
	}
	return v.state.write(func() *savedState {
		s := &savedState{tree: v.d.root.State(), set: v.d.overrides.list()}
		if t := v.server.Settings(); t.Major != 0 {
			s.session = t.Save()
		}
		return s
	})
}

// open listens. Front-ends that connect before serve are not lost.
func (v *vhost) open(context.Context) error {
	v.ownership.claim()
	// A state that was not taken up must not be there beside the new socket.
	if err := v.save(); err != nil {
		return err
	}
	s, err := listen(v.d.o, v.d.cfg.VirtioFS.Socket)
	if err != nil && !v.resumed {
		v.state.remove()
	}
	v.sock = s
	return err
}

// stale can do nothing: virtio-fs has no way to tell a guest.
func (v *vhost) stale(uint64, string) {}

// serve takes front-ends until ctx ends. One that breaks the protocol or goes
// away leaves the daemon waiting for the next.
func (v *vhost) serve(ctx context.Context) error {
	if v.former != nil {
		if err := v.begin(); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, v.remove)
	defer stop()
	defer v.letGo()
	v.d.orphanWatch(v.connected.Load)
	ln := v.d.patient(v.serving, v.sock, "front-end not accepted")
	switch {
	case v.front != nil:
		v.goOn(v.serving)
	case v.lives != 0:
		v.resumedAfter()
	}
	for v.serving.Err() == nil {
		conn, err := ln.Accept()
		if errors.Is(err, os.ErrDeadlineExceeded) && v.park(v.serving) {
			continue
		}
		if v.serving.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			break
		}
		if err != nil {
			return fmt.Errorf("accept on %s: %w", v.sock.path, err)
		}
		v.session(v.serving, conn.(*net.UnixConn))
	}
	_ = v.sock.Close() // a successor's copy stays open
	<-ctx.Done()
	return nil
}

// session serves one front-end.
func (v *vhost) session(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	v.d.limiter.Info(v.d.log, "front-end connected")
	v.serveWith(func(o vhostuser.Options) error { return vhostuser.Serve(ctx, conn, v.dev, o) })
}

// serveWith serves one front-end with the daemon's options.
func (v *vhost) serveWith(serve func(vhostuser.Options) error) {
	v.connected.Store(true)
	defer v.connected.Store(false)
	v.connections.Add(1)
	err := serve(v.options())
	if err != nil && !errors.Is(err, context.Canceled) {
		v.frontFailed(err)
		return
	}
	v.d.limiter.Info(v.d.log, "front-end left")
}

// frontFailed tells of a session that is over.
func (v *vhost) frontFailed(err error) {
	v.d.events.add("front-end: " + err.Error())
	v.d.limiter.Warn(v.d.log, "front-end failed", "err", err)
}

// options are the daemon's for a session.
func (v *vhost) options() vhostuser.Options {
	o := v.d.cfg.VirtioFS
	return vhostuser.Options{
		Log: v.d.log, Stats: &v.stats, AnyMemory: o.AnyMemory, MaxQueueSize: int(o.QueueSize), Handover: v.handover,
	}
}

// remove takes socket and state away, if they are ours.
func (v *vhost) remove() {
	if v.ownership.end() {
		v.discard()
	}
}

func (v *vhost) discard() {
	v.sock.remove()
	v.state.remove()
}

// close removes the socket and the state, if serve has not yet: an orderly end ends
// the session.
func (v *vhost) close(bool) {
	if v.sock != nil {
		v.remove()
	}
	v.letGo()
	v.dev.Close()
	v.handover.Close()
}

// inflight is not offered, as in nydusd; /metrics counts pending requests.
func (v *vhost) inflight() ([]api.Inflight, error) { return nil, errUnsupported }

func (v *vhost) abort(match func(fusesrv.Inflight) bool) int { return v.server.Abort(match) }

// upgrade replaces the program in place, or hands the guest over to another process. A
// supervisor can't keep the guest itself: it has the way to the process that does.
func (v *vhost) upgrade(ctx context.Context, a api.Action) error {
	switch a {
	case api.Replace:
		return v.replace(ctx)
	case api.SendFD:
		ctx, cancel := context.WithTimeout(ctx, upgradeLimit)
		defer cancel()
		return v.invite(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, upgradeLimit+takeInLimit)
	defer cancel()
	return v.takeIn(ctx)
}

// families are the counters of the protocol and of the requests as a whole.
func (v *vhost) families(s *familySet) {
	connected := 0.0
	if v.connected.Load() {
		connected = 1
	}
	s.gauge("vrafs_frontend_connected", "1 while a front-end is connected.", connected)
	s.counter("vrafs_upgrades_total", "Changes of programs that this daemon's guests have come through.", v.lives)
	s.gauge("vrafs_upgrade_pause_seconds", "How long requests stood still at the last of them.", time.Duration(v.pause.Load()).Seconds())
	s.counter("vrafs_frontend_connections_total", "Front-ends that connected.", v.connections.Load())
	s.counter("vrafs_vhostuser_messages_total", "Messages of front-ends.", v.stats.Messages.Load())
	s.counter("vrafs_vhostuser_protocol_errors_total", "Connections that ended by a protocol error.", v.stats.ProtocolErrors.Load())
	s.counter("vrafs_vhostuser_refused_total", "Messages that were refused.", v.stats.Refused.Load())
	s.counter("vrafs_vhostuser_broken_rings_total", "Rings stopped for what the driver put into them.", v.stats.BrokenRings.Load())
	s.counter("vrafs_vhostuser_faults_total", "Rings stopped for guest memory that was gone.", v.stats.Faults.Load())
	s.counter("vrafs_vhostuser_lost_total", "Requests given up when a ring stopped.", v.stats.Lost.Load())
	s.counter("vrafs_vhostuser_kicks_total", "Kicks of the driver.", v.stats.Kicks.Load())
	s.counter("vrafs_vhostuser_calls_total", "Calls to the driver.", v.stats.Calls.Load())
	serverFamilies(s, v.server)
}

// serverFamilies are the counters that belong to no mount.
func serverFamilies(s *familySet, server *fusesrv.Server) {
	t := server.Stats().Totals()
	s.counter("vrafs_malformed_requests_total", "Requests without a whole header.", t.Malformed)
	s.counter("vrafs_dropped_requests_total", "Pending requests whose buffers went away.", t.Dropped)
	pending := server.Inflight(nil)
	oldest := time.Duration(0)
	for _, r := range pending {
		oldest = max(oldest, time.Since(r.Start))
	}
	s.gauge("vrafs_pending_requests", "Requests that wait for data.", float64(len(pending)))
	s.gauge("vrafs_pending_oldest_seconds", "How long the oldest of them has waited.", oldest.Seconds())
}
