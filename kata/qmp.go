package kata

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
)

// maxQMPLine bounds a line of the monitor's.
const maxQMPLine = 1 << 20

// A qmp is a connection to QEMU's monitor for commands that the library lacks.
type qmp struct {
	conn net.Conn
	in   *bufio.Scanner
	stop func() bool // of the end of ctx
}

// dialQMP connects and negotiates. The connection ends with ctx.
func dialQMP(ctx context.Context, path string) (*qmp, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to QEMU's monitor: %w", err)
	}
	m := &qmp{conn: conn, in: bufio.NewScanner(conn)}
	m.in.Buffer(nil, maxQMPLine)
	m.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	if err := m.do("qmp_capabilities", nil); err != nil {
		m.close()
		return nil, fmt.Errorf("QEMU's monitor %s: %w", path, err)
	}
	return m, nil
}

func (m *qmp) close() {
	m.stop()
	_ = m.conn.Close()
}

// do executes a command. Greeting and events before its answer are passed over.
func (m *qmp) do(command string, args map[string]any) error {
	msg := map[string]any{"execute": command}
	if args != nil {
		msg["arguments"] = args
	}
	if err := json.NewEncoder(m.conn).Encode(msg); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	for m.in.Scan() {
		done, err := answerOf(m.in.Bytes())
		if err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		if done {
			return nil
		}
	}
	err := m.in.Err()
	if err == nil {
		err = errors.New("the monitor hung up")
	}
	return fmt.Errorf("%s: %w", command, err)
}

// answerOf reads a line of the monitor's: whether it answers the command, and its
// refusal.
func answerOf(line []byte) (done bool, err error) {
	var a struct {
		Return json.RawMessage `json:"return"`
		Error  *struct {
			Class string `json:"class"`
			Desc  string `json:"desc"`
		} `json:"error"`
	}
	if err := json.Unmarshal(line, &a); err != nil {
		return false, errors.New("the monitor does not speak JSON")
	}
	if a.Error != nil {
		return true, fmt.Errorf("%.1024s", a.Error.Desc)
	}
	return a.Return != nil, nil
}
