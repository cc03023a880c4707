package daemon

import (
	"context"
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// A patient listener outlasts a want of descriptors or memory: its clients wait in
// the backlog meanwhile.
type patient struct {
	net.Listener
	ctx  context.Context // ends the patience
	told func(err error) // of each try that failed
}

// patient accepts from ln until ctx ends, with a line in the log, now and then, for
// what has to wait.
func (d *Daemon) patient(ctx context.Context, ln net.Listener, line string) *patient {
	return &patient{ln, ctx, func(err error) { d.limiter.Warn(d.log, line, "err", err) }}
}

// acceptPause is between two tries where the process or the machine has no
// descriptor or no memory left.
const acceptPause = 100 * time.Millisecond

// Accept returns an error only if the next try would end in it, too.
func (p *patient) Accept() (net.Conn, error) {
	for {
		conn, err := p.Listener.Accept()
		if err == nil || p.ctx.Err() != nil || !passing(err) {
			return conn, err
		}
		p.told(err)
		pause(p.ctx, acceptPause)
	}
}

// passing reports whether accept may succeed later.
func passing(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
