package vm

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// A QMP is a connection to QEMU's monitor (QEMU Machine Protocol, 7.2). It is used
// by one goroutine.
type QMP struct {
	conn net.Conn
	in   *bufio.Scanner
}

// qmpMessage is whatever the monitor may say.
type qmpMessage struct {
	Greeting json.RawMessage `json:"QMP"`
	Event    string          `json:"event"`
	Return   json.RawMessage `json:"return"`
	Error    *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// qmpTimeout bounds each exchange: the monitor answers at once unless QEMU waits
// for a back-end.
const qmpTimeout = 20 * time.Second

func newQMP(conn net.Conn) (*QMP, error) {
	q := &QMP{conn: conn, in: bufio.NewScanner(conn)}
	q.in.Buffer(nil, 1<<20)
	if err := conn.SetDeadline(time.Now().Add(qmpTimeout)); err != nil {
		return nil, err
	}
	switch m, err := q.read(); {
	case err != nil:
		return nil, fmt.Errorf("qmp: greeting: %w", err)
	case m.Greeting == nil:
		return nil, errors.New("qmp: no greeting")
	}
	return q, q.Do("qmp_capabilities", nil, nil)
}

func (q *QMP) read() (*qmpMessage, error) {
	if !q.in.Scan() {
		if err := q.in.Err(); err != nil {
			return nil, err
		}
		return nil, net.ErrClosed
	}
	m := new(qmpMessage)
	return m, json.Unmarshal(q.in.Bytes(), m)
}

// Do executes a command with its arguments (nil for none) and decodes what it
// returns into result (nil to discard it). Events in between are passed over.
func (q *QMP) Do(command string, args, result any) error {
	if err := q.conn.SetDeadline(time.Now().Add(qmpTimeout)); err != nil {
		return err
	}
	msg := map[string]any{"execute": command}
	if args != nil {
		msg["arguments"] = args
	}
	if err := json.NewEncoder(q.conn).Encode(msg); err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	for {
		m, err := q.read()
		switch {
		case err != nil:
			return fmt.Errorf("qmp %s: %w", command, err)
		case m.Error != nil:
			return fmt.Errorf("qmp %s: %s: %s", command, m.Error.Class, m.Error.Desc)
		case m.Return == nil:
			continue
		case result == nil:
			return nil
		}
		return json.Unmarshal(m.Return, result)
	}
}

// WaitEvent waits for an event by name.
func (q *QMP) WaitEvent(name string, timeout time.Duration) error {
	if err := q.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	for {
		m, err := q.read()
		if err != nil {
			return fmt.Errorf("qmp event %s: %w", name, err)
		}
		if m.Event == name {
			return nil
		}
	}
}
