package api

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// grace is how long answers under way may take once the server is told to stop.
const grace = 500 * time.Millisecond

// Serve answers requests from ln until ctx ends, then closes ln and every
// connection: silent ones at once, those with a request under way after their
// answer or a short grace. It returns when all connections are closed; a nil
// error means that ctx ended.
func Serve(ctx context.Context, ln net.Listener, d Daemon) error {
	c := conns{m: map[net.Conn]http.ConnState{}, changed: make(chan struct{}, 1)}
	srv := newServer(d)
	srv.ConnState = c.set
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		_ = ln.Close()
		<-done
		c.drain()
	}
	_ = srv.Close()
	return err
}

// newServer has no time-outs: a client's silent connection is its life line to us.
func newServer(d Daemon) *http.Server {
	return &http.Server{Handler: Handler(d), ErrorLog: log.New(io.Discard, "", 0)}
}

// conns follows the state of every connection.
type conns struct {
	mu      sync.Mutex
	m       map[net.Conn]http.ConnState
	stop    bool
	changed chan struct{}
}

func (c *conns) set(conn net.Conn, s http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s {
	case http.StateClosed, http.StateHijacked:
		delete(c.m, conn)
	default:
		c.m[conn] = s
		if c.stop && s != http.StateActive {
			_ = conn.Close()
		}
	}
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// drain closes idle connections and waits for the active ones.
func (c *conns) drain() {
	limit := time.NewTimer(grace)
	defer limit.Stop()
	for c.closeIdle() > 0 {
		select {
		case <-c.changed:
		case <-limit.C:
			return
		}
	}
}

// closeIdle closes what is not active and returns how many are.
func (c *conns) closeIdle() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop = true
	active := 0
	for conn, s := range c.m {
		if s == http.StateActive {
			active++
		} else {
			_ = conn.Close()
		}
	}
	return active
}
