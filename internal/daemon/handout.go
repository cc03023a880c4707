package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/api"
)

// The former daemon's side of an upgrade to another process.

var errHandedOver = errors.New("the guest has been handed over to another daemon")

const (
	// takeLimit is how long a successor may take to open everything; the guest stands still
	// meanwhile.
	takeLimit = 10 * time.Second
	// sendLimit bounds what is sent to it.
	sendLimit = 5 * time.Second
)

// invite gives the supervisor the descriptor over which a successor asks for the guest. It
// is good until the next one is given.
func (v *vhost) invite(ctx context.Context) error {
	switch {
	case v.d.cfg.Supervisor == "":
		return errNoSupervisor
	case v.d.machine.now() != stateRunning:
		return api.Errorf(api.NotReady, "nothing is served yet")
	case v.ownership.isGiven():
		return errHandedOver
	}
	mine, fd, err := newPassage()
	if err != nil {
		return err
	}
	err = sendState(ctx, v.d.cfg.Supervisor, invitation(), fd)
	_ = unix.Close(fd)
	if err != nil {
		mine.close()
		return err
	}
	if old := v.invited.Swap(mine); old != nil {
		old.close()
	}
	v.d.wg.Go(func() { v.host(v.d.ctx, mine) })
	return nil
}

// host answers those who come with an invitation, until nobody has it any more.
func (v *vhost) host(ctx context.Context, invited *passage) {
	defer invited.close()
	defer invited.within(ctx, 0)()
	for {
		m, err := invited.receive()
		if err == nil && (len(m.fds) != 1 || m.kind != passAsk) {
			closeFDs(m.fds)
			err = fmt.Errorf("%w: kind %d with %d descriptors", errPassage, m.kind, len(m.fds))
		}
		if errors.Is(err, errPassage) {
			v.d.limiter.Warn(v.d.log, "what came with an invitation", "err", err)
			continue
		}
		if err != nil {
			return
		}
		v.d.wg.Go(func() {
			p, err := passageOf(m.fds[0])
			if err == nil {
				err = v.handOut(ctx, p)
			}
			if err != nil {
				_ = v.d.note("takeover", err)
				v.d.log.Warn("takeover failed: this program goes on", "err", err)
			}
		})
	}
}

// handOut offers the guest to a successor. If it returns an error the guest is ours still, or
// again. Otherwise it is a successor's for good, or ctx has ended, or who asked was told to wait.
func (v *vhost) handOut(ctx context.Context, p *passage) (err error) {
	defer p.close()
	if !v.replacing.CompareAndSwap(false, true) {
		p.refuse("an upgrade is under way")
		return nil
	}
	quiet, cancel := context.WithTimeout(ctx, quietLimit)
	defer cancel()
	reopen, err := v.d.commands.shut(quiet)
	if err == nil {
		var goOn func()
		if goOn, err = v.offer(quiet, ctx, p); err == nil {
			v.d.commands.bar(errHandedOver)
			if err = v.awaitBegun(ctx, p); err == nil {
				return nil
			}
		}
		if goOn != nil {
			goOn()
		}
		reopen()
	}
	v.replacing.Store(false)
	p.refuse(err.Error())
	return err
}

// offer stands still and sends everything. Without an error the guest is the successor's.
// goOn, if it isn't nil, ends the standstill.
func (v *vhost) offer(quiet, ctx context.Context, p *passage) (goOn func(), err error) {
	began := monotonic()
	front, goOn, err := v.standStill(quiet)
	if err != nil {
		return nil, err
	}
	err = func() error {
		v.d.shares.mu.Lock()
		defer v.d.shares.mu.Unlock()
		s, fds, err := v.collect(front, began)
		if err != nil {
			return err
		}
		f, err := memoryFile(s)
		if err != nil {
			return err
		}
		defer f.Close()
		defer p.within(ctx, sendLimit)()
		return p.sendAll(f, fds)
	}()
	if err != nil {
		return goOn, fmt.Errorf("send the guest: %w", err)
	}
	stop := p.within(ctx, takeLimit)
	err = p.expect(passTaken)
	stop()
	if err != nil {
		return goOn, fmt.Errorf("the successor does not take the guest: %w", err)
	}
	if !v.ownership.give() {
		return goOn, errors.New("this daemon is ending")
	}
	if err := p.send(&passed{kind: passYours}); err != nil {
		v.takeBack()
		return goOn, fmt.Errorf("the successor is gone: %w", err)
	}
	v.d.log.Info("the guest is handed over: this daemon serves nothing any more")
	return goOn, nil
}

// awaitBegun lets everything go when the successor serves. An error says that it has
// died before that or given up, and that the guest is ours again.
func (v *vhost) awaitBegun(ctx context.Context, p *passage) error {
	defer p.within(ctx, 0)()
	for {
		m, err := p.receive()
		switch {
		case errors.Is(err, errPassage):
			continue // nonsense doesn't mean that it has ended
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET):
			pause(ctx, acceptPause) // a want of memory; who closes the passage says that we have ended
			continue
		case err != nil:
			v.takeBack()
			return fmt.Errorf("the successor has ended before it served: %w", err)
		}
		closeFDs(m.fds)
		switch m.kind {
		case passBegun:
			v.letGo()
			return nil
		case passRefused:
			v.takeBack()
			return fmt.Errorf("the successor has given up before it served: %s", m.text)
		}
	}
}

// takeBack has socket and state be ours again.
func (v *vhost) takeBack() {
	if !v.ownership.takeBack() {
		v.discard() // we end
	}
}
