package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/vhostuser"
)

// The successor's side of an upgrade to another process.

const (
	// takeInLimit bounds the whole takeover: what the former daemon may take to stand still
	// and to send, and what we may take to open everything.
	takeInLimit = quietLimit + sendLimit + takeLimit + 5*time.Second
	// startLimit is how long a guest stands still at most when nobody starts the successor.
	startLimit = 20 * time.Second
)

// takeIn takes the guest over from who the supervisor has an invitation of. If it
// fails the former daemon goes on.
func (v *vhost) takeIn(ctx context.Context) error {
	if v.spoiled != nil {
		return fmt.Errorf("an earlier takeover failed too late for another, start another daemon: %w", v.spoiled)
	}
	text, fd, err := receiveState(ctx, v.d.cfg.Supervisor)
	if err != nil {
		return err
	}
	pid, err := checkInvitation(text)
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("take over: %w", err)
	}
	p, err := ask(fd)
	if err != nil {
		return fmt.Errorf("take over from process %d: %w", pid, err)
	}
	stop := p.within(ctx, takeInLimit)
	err = v.receiveGuest(p)
	stop()
	if err != nil {
		p.refuse(err.Error())
		p.close()
		return fmt.Errorf("take over from process %d: %w", pid, err)
	}
	v.former = p
	v.startInTime()
	return nil
}

// ask shows an invitation, whose descriptor it takes over.
func ask(fd int) (*passage, error) {
	invited, err := passageOf(fd)
	if err != nil {
		return nil, err
	}
	defer invited.close()
	p, other, err := newPassage()
	if err != nil {
		return nil, err
	}
	_ = invited.conn.SetDeadline(time.Now().Add(sendLimit))
	err = invited.send(&passed{kind: passAsk, fds: []int{other}})
	_ = unix.Close(other)
	if err != nil {
		p.close()
		return nil, fmt.Errorf("%w: that daemon has ended or was upgraded in place, and what its guest had open with it; "+
			"one that is started without --upgrade goes on for front-ends that connect again", err)
	}
	return p, nil
}

// receiveGuest takes everything over. If it fails the guest is not ours, and all descriptors
// are closed.
func (v *vhost) receiveGuest(p *passage) error {
	s, l, err := p.receiveAll()
	defer l.close()
	if err != nil {
		return err
	}
	in := s.inPlace
	if in == nil || s.boot != v.state.boot {
		return errors.New("the state is not of a guest of this boot")
	}
	if err := in.check(v.dev.Properties().Queues); err != nil {
		return err
	}
	sockFD, err := l.take(in.sock.fd)
	if err != nil {
		return err
	}
	in.sock.fd = sockFD
	sock, err := in.sock.inherit(v.d, v.d.cfg.VirtioFS.Socket)
	if err != nil {
		return err
	}
	var front *vhostuser.Resumed
	if err = sock.isNamed(); err == nil && in.front != nil {
		o := v.options()
		o.Descriptor, o.Resumed = l.take, v.resumedAfter
		front, err = vhostuser.Resume(in.front, v.dev, o)
	}
	if err == nil {
		if err = v.d.resumeSession(v.server, s, l.take); err == nil {
			if err = v.settle(p); err != nil {
				v.spoiled = err
			}
		}
	}
	if err != nil {
		if front != nil {
			front.Close()
		}
		_ = sock.Close()
		return err
	}
	v.sock, v.front, v.began, v.lives, v.resumed = sock, front, in.began, in.lives, true
	return nil
}

// settle has the former daemon say that the guest is ours.
func (v *vhost) settle(p *passage) error {
	if err := p.send(&passed{kind: passTaken}); err != nil {
		return fmt.Errorf("the former daemon is gone: %w", err)
	}
	if err := p.expect(passYours); err != nil {
		return fmt.Errorf("the former daemon keeps the guest: %w", err)
	}
	return nil
}

// startInTime starts a successor that nobody starts: its guest stands still.
func (v *vhost) startInTime() {
	d := v.d
	d.wg.Go(func() {
		pause(d.ctx, startLimit)
		if d.ctx.Err() == nil && d.machine.now() == stateReady && d.machine.fire(evStart, d.run) == nil {
			d.log.Warn("started without being told: the guest stood still", "limit", startLimit)
		}
	})
}

// begin has the guest be served by this daemon alone from now on. After an error the former
// daemon goes on.
func (v *vhost) begin() error {
	defer v.former.close()
	err := v.former.send(&passed{kind: passBegun})
	if err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) { // it has not ended
		return fmt.Errorf("tell the former daemon: %w", err)
	}
	v.ownership.claim()
	if err := v.save(); err != nil {
		v.d.limiter.Warn(v.d.log, "a restarted daemon could not go on for this guest", "err", err)
	}
	return nil
}
