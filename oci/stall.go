package oci

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// A watchedConn ends with an error when nothing moves on it for a while, in either
// direction: a registry that stops in the middle of an answer would hold its reader for
// ever.
type watchedConn struct {
	net.Conn
	limit time.Duration
}

// Read waits for the next bytes no longer than the limit.
func (c *watchedConn) Read(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write also gives a waiting Read more time: an answer comes after its request.
func (c *watchedConn) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// watched makes the connections of dial such.
func watched(dial func(ctx context.Context, network, addr string) (net.Conn, error), limit time.Duration) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &watchedConn{c, limit}, nil
	}
}

// maxGreeting is how much of the answer to the first contact is read.
const maxGreeting = 64 << 10

// A greeter bounds the answer to the first contact, which the transport reads to its end
// only to use the connection again.
type greeter struct{ http.RoundTripper }

// RoundTrip cuts long answers.
func (g greeter) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := g.RoundTripper.RoundTrip(r)
	if err == nil && strings.HasSuffix(r.URL.Path, "/v2/") {
		resp.Body = &limitedBody{io.LimitReader(resp.Body, maxGreeting), resp.Body}
	}
	return resp, err
}

// A limitedBody ends early, and is closed as a whole.
type limitedBody struct {
	io.Reader
	io.Closer
}
