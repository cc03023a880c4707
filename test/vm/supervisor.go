package vm

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"vrafs/internal/testsupervisor"
)

// Follow has another process go on for the daemon, which was started with the supervisor's
// socket, by nydus-snapshotter's sequence. It returns how long requests stood still, in seconds.
func (d *Daemon) Follow(ctx context.Context, s *testsupervisor.Supervisor) (seconds float64, err error) {
	put := func(d *Daemon, command string) error {
		return d.API(ctx, http.MethodPut, "/api/v1/daemon/"+command, nil, nil)
	}
	if err := s.Keep(func() error { return put(d, "fuse/sendfd") }); err != nil {
		return 0, err
	}
	next := &Daemon{Dir: d.Dir, Socket: d.Socket, opts: d.opts, former: d.former + 1}
	next.client.Transport = unixTransport(next.apiSocket())
	if err := next.start(ctx, "INIT", "--upgrade"); err != nil {
		return 0, err
	}
	if err := s.Give(func() error { return put(next, "fuse/takeover") }); err != nil {
		return 0, err
	}
	if err := put(d, "exit"); err != nil {
		return 0, err
	}
	<-d.exited
	d.client.CloseIdleConnections()
	d.cmd, d.exited, d.former, d.client = next.cmd, next.exited, next.former, next.client
	if err := put(d, "start"); err != nil {
		return 0, err
	}
	for {
		text, err := d.metrics(ctx)
		if err != nil {
			return 0, err
		}
		if value, ok := strings.CutPrefix(lineOf(text, "vrafs_upgrade_pause_seconds "), "vrafs_upgrade_pause_seconds "); ok && value != "0" {
			return strconv.ParseFloat(value, 64)
		}
		time.Sleep(time.Millisecond)
	}
}
