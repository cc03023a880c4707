package keeper

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A keeper is the process that holds and restarts.
type keeper struct {
	argv     []string
	fds      []int // held
	restarts uint32
	backoff  backoff

	conn  *net.UnixConn
	child *exec.Cmd // the server, nil for the one that spawned us
	since time.Time // the server runs
}

// Run is the life of a keeper: it returns when the server has ended in order, when
// there is nothing left to keep, or when it gives up, an error. say is told what the
// keeper does beyond waiting.
func Run(argv []string, say func(string)) error {
	// Who stops the whole group means the server, and follows it.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	conn, err := ownLink()
	if err != nil {
		return err
	}
	k := &keeper{argv: argv, conn: conn, since: time.Now()}
	defer func() { closeAll(k.fds) }()
	for {
		if k.watch() {
			return nil
		}
		cause, killed := k.cause()
		pause, ok := k.backoff.after(time.Since(k.since), killed)
		if !ok {
			return fmt.Errorf("the server (%s) has crashed %d times in a row and is not started again: reads of its mounts fail from now on; see its log above, unmount, and start it anew", cause, maxCrashes+1)
		}
		if len(k.fds) == 0 || k.gone(pause) {
			return nil
		}
		k.restarts++
		say(fmt.Sprintf("the server has died (%s): starting it again after %v, for the %d. time", cause, pause, k.restarts))
		if err := k.start(cause); err != nil {
			return fmt.Errorf("start the server again: %w", err)
		}
	}
}

// watch holds what the server says until it ends, and reports whether that was in
// order.
func (k *keeper) watch() (done bool) {
	defer k.conn.Close()
	for {
		m, err := receive(k.conn)
		switch {
		case err != nil:
			return false
		case m.kind == kindDone:
			return true
		case m.kind == kindHold:
			closeAll(k.fds)
			k.fds = m.fds
		default:
			closeAll(m.fds)
		}
	}
}

// cause waits until the server is gone and tells how it ended, as far as that can
// be known: the first server is not our child. killed is an end from outside.
func (k *keeper) cause() (text string, killed bool) {
	if k.child == nil {
		return "killed, or crashed", true
	}
	_ = k.child.Wait() // the state says it all
	s := k.child.ProcessState
	w, ok := s.Sys().(syscall.WaitStatus)
	return s.String(), ok && w.Signaled() && w.Signal() == syscall.SIGKILL
}

// gone waits for pause, and reports whether a descriptor is of no use any more.
func (k *keeper) gone(pause time.Duration) bool {
	set := make([]unix.PollFd, len(k.fds))
	for i, fd := range k.fds {
		set[i].Fd = int32(fd) // errors are reported unasked
	}
	for end := time.Now().Add(pause); ; {
		left := max(time.Until(end), 0)
		t := unix.NsecToTimespec(int64(left))
		n, err := unix.Ppoll(set, &t, nil)
		if err == unix.EINTR {
			continue
		}
		return n > 0
	}
}

// start starts a successor and gives it what is held.
func (k *keeper) start(cause string) error {
	conn, child, err := again(k.argv, Resume, nil)
	if err != nil {
		return err
	}
	k.conn, k.child, k.since = conn, child, time.Now()
	return k.give(cause)
}

// give gives a successor what is held. One that has died already is no error: that is
// the next death to see.
func (k *keeper) give(cause string) error {
	err := goOn(k.conn, &Inheritance{FDs: k.fds, Restarts: k.restarts, Cause: cause})
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return nil
	}
	return err
}
