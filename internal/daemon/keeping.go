package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv/devfuse"
	"vrafs/internal/keeper"
)

// A keeping is a FUSE daemon's side of its keeper, the process that goes on with
// the mount when this one dies. A nil keeping has none.
type keeping struct {
	d     *Daemon
	f     *fuse
	saves saves
	kept  bool                        // there is a keeper, but for a moment after its death; set by start
	link  atomic.Pointer[keeper.Link] // nil: no keeper yet, or any more
	sock  atomic.Pointer[socket]      // of the control API
}

// respawnPause is before a keeper that has died is replaced.
const respawnPause = time.Second

// start starts a keeper, if there is to be one and no supervisor has its place. The
// mount is useful without it, so a failure is only logged.
func (k *keeping) start() {
	if k.link.Load() == nil && !k.spawn() {
		return
	}
	k.kept = true
	k.d.wg.Go(func() { k.watch(k.d.ctx) })
}

// spawn starts a keeper and gives it what there is.
func (k *keeping) spawn() bool {
	o := k.d.cfg.FUSE
	if len(o.Argv) == 0 || k.d.cfg.Supervisor != "" {
		return false
	}
	link, err := keeper.Spawn(o.Argv)
	if err != nil {
		k.d.limiter.Warn(k.d.log, "no keeper: the mount will not survive the death of this process", "err", err)
		return false
	}
	k.link.Store(link)
	k.save()
	return true
}

// watch replaces keepers that die, until ctx ends. One that was being started then is
// released, too: nobody else knows of it.
func (k *keeping) watch(ctx context.Context) {
	defer func() { k.end(context.Cause(ctx)) }()
	for ctx.Err() == nil {
		if link := k.link.Load(); link != nil {
			if link.Wait(ctx) == nil {
				return
			}
			k.d.limiter.Warn(k.d.log, "the keeper has died: starting another")
			k.link.Store(nil)
			link.Done()
		}
		select {
		case <-ctx.Done():
		case <-time.After(respawnPause):
			k.spawn()
		}
	}
}

// on reports whether somebody goes on when this process dies.
func (k *keeping) on() bool { return k != nil && k.link.Load() != nil }

// end releases the keeper, unless a successor is wanted.
func (k *keeping) end(cause error) {
	if k == nil || errors.Is(cause, errFailed) {
		return
	}
	if link := k.link.Load(); link != nil {
		link.Done()
	}
}

// dropSocket has a successor make a control socket of its own. A copy that the keeper
// held on to would take clients that nobody answers.
func (k *keeping) dropSocket() {
	if k != nil {
		k.sock.Store(nil)
		k.save()
	}
}

// save gives the keeper the state as it is now. Serving is useful without it, so a
// failure is only logged.
func (k *keeping) save() {
	link := k.link.Load()
	if link == nil || k.f.conn == nil {
		return
	}
	if err := k.saves.do(func() error { return k.hold(link) }); err != nil {
		k.d.limiter.Warn(k.d.log, "the keeper does not know the latest state", "err", err)
	}
}

func (k *keeping) hold(link *keeper.Link) error {
	s := k.f.state()
	s.conn = uint64(k.f.conn.ID())
	sock := k.sock.Load()
	if sock != nil {
		s.socket = sock.identity()
	}
	state, err := unix.MemfdCreate("vrafsd-state", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	file := os.NewFile(uintptr(state), "state")
	defer file.Close()
	if _, err := file.Write(s.encode()); err != nil {
		return err
	}
	if sock == nil {
		return link.Hold(state, k.f.conn.FD())
	}
	return sock.withFD(func(fd int) error { return link.Hold(state, k.f.conn.FD(), fd) })
}

// inherit goes on with what a predecessor left. If it fails, the keeper still has
// everything.
func (k *keeping) inherit() error {
	link, h, err := keeper.Inherit()
	if err != nil {
		return err
	}
	k.link.Store(link)
	files := make([]*os.File, len(h.FDs))
	for i, fd := range h.FDs {
		files[i] = os.NewFile(uintptr(fd), "inherited")
		defer files[i].Close()
	}
	if len(files) < 2 {
		return fmt.Errorf("inherit from the keeper: %d descriptors, want a state and a connection", len(files))
	}
	text, err := io.ReadAll(io.NewSectionReader(files[0], 0, math.MaxInt64))
	if err != nil {
		return fmt.Errorf("inherited state: %w", err)
	}
	s, err := decodeState(text)
	if err != nil {
		return fmt.Errorf("inherited state: %w", err)
	}
	if err := k.adopt(s, files[1]); err != nil {
		return fmt.Errorf("go on with the mount: %w", err)
	}
	if len(files) > 2 {
		sock, err := inheritSocket(k.d.o, files[2], k.d.cfg.APISocket, s.socket)
		if err != nil {
			return err
		}
		k.sock.Store(sock)
	}
	k.d.log.Warn("going on with the mount of a server that has died", "its end", h.Cause, "restarts", h.Restarts)
	return nil
}

// adopt takes up connection and state.
func (k *keeping) adopt(s *savedState, device *os.File) error {
	fd, err := unix.FcntlInt(device.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	conn, err := devfuse.AdoptID(k.d.o, fd, k.d.cfg.FUSE.Mountpoint, uint32(s.conn))
	if err == nil {
		err = k.f.apply(s)
	}
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	k.f.conn, k.f.adopted = conn, true
	return nil
}

// goOn starts a daemon that its keeper has started.
func (d *Daemon) goOn() error {
	err := d.machine.fire(evTakeover, d.keeping.inherit)
	if err == nil {
		d.keeping.start()
		err = d.machine.fire(evStart, d.run)
	}
	if err == nil {
		err = d.listen()
	}
	if err != nil {
		return d.orClose(fmt.Errorf("%w: %w", errFailed, err)) // another try may do better
	}
	return nil
}
