package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"vrafs/api"
)

var errNoSupervisor = api.Errorf(api.UpgradeManager, "MissingSupervisorPath")

const (
	// maxHandedOver bounds the state that a supervisor gives back.
	maxHandedOver = 64 << 20
	// firstPart is what is sent, and received, together with the descriptor.
	firstPart = 32 << 10
)

// sendState gives a supervisor what a successor needs: state and one descriptor,
// in the form that nydus-snapshotter keeps (nydusd, section 7.1).
func sendState(ctx context.Context, path string, state []byte, fd int) error {
	conn, err := dialSupervisor(ctx, path)
	if err != nil {
		return err
	}
	defer conn.Close()
	n, _, err := conn.WriteMsgUnix(state[:min(len(state), firstPart)], unix.UnixRights(fd), nil)
	if err == nil {
		_, err = conn.Write(state[n:])
	}
	if err != nil {
		return fmt.Errorf("send state to supervisor: %w", err)
	}
	return nil
}

// receiveState asks a supervisor for what sendState gave it. The descriptor is the
// caller's.
func receiveState(ctx context.Context, path string) (state []byte, fd int, err error) {
	conn, err := dialSupervisor(ctx, path)
	if err != nil {
		return nil, -1, err
	}
	defer conn.Close()
	first, oob := make([]byte, firstPart), make([]byte, unix.CmsgSpace(4*16))
	n, m, _, _, err := conn.ReadMsgUnix(first, oob)
	if err != nil {
		return nil, -1, fmt.Errorf("receive state from supervisor: %w", err)
	}
	if fd, err = onlyFD(oob[:m]); err != nil {
		return nil, -1, fmt.Errorf("receive state from supervisor: %w", err)
	}
	rest, err := io.ReadAll(io.LimitReader(conn, maxHandedOver))
	if err != nil {
		_ = unix.Close(fd)
		return nil, -1, fmt.Errorf("receive state from supervisor: %w", err)
	}
	return append(first[:n], rest...), fd, nil
}

// dialSupervisor connects; the connection's time ends with ctx's.
func dialSupervisor(ctx context.Context, path string) (*net.UnixConn, error) {
	if path == "" {
		return nil, errNoSupervisor
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	if t, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(t)
	}
	return conn.(*net.UnixConn), nil
}

// onlyFD gives the first descriptor of a control message and closes the others.
func onlyFD(oob []byte) (int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1, err
	}
	first := -1
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			if first < 0 {
				first = fd
			} else {
				_ = unix.Close(fd)
			}
		}
	}
	if first < 0 {
		return -1, errors.New("no descriptor came with it")
	}
	return first, nil
}
