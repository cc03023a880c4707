// Package apiclient talks to a daemon, ours or nydusd, over its control socket.
//
//	Client --HTTP/1.1 over a Unix socket--> daemon
//	       <-- 200 with JSON | 204 | {"code":"UNDEFINED","message":...}
//
// Trust: the daemon may be another program; what is read of an answer is bounded.
// A Client may be used from any goroutine.
//
// Source: nydusd's user-visible surface, section 2.
package apiclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 20

// A Client talks to one daemon.
type Client struct{ http *http.Client }

// New returns a client of the socket at path. It connects when it is asked.
func New(path string) *Client { return &Client{HTTP(path)} }

// HTTP is a plain HTTP client whose every request goes to the socket at path.
func HTTP(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// An Error is a daemon's refusal.
type Error struct {
	Status  int // of HTTP
	Message string
}

func (e *Error) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("the daemon answers %d", e.Status)
	}
	return fmt.Sprintf("the daemon answers %d: %s", e.Status, e.Message)
}

// Do sends a request and returns the body of its answer, at most 64 MiB; nil is
// none. An answer other than 200 and 204 is an *Error.
func (c *Client) Do(ctx context.Context, method, target string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://unix"+target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // the address in it is none
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return text, nil
	case http.StatusNoContent:
		return nil, nil
	}
	refusal := &Error{Status: resp.StatusCode}
	_ = json.Unmarshal(text, refusal) // some other server has no message
	return nil, refusal
}

// Get sends a GET and decodes the answer into v, which stays as it is if there is no
// content.
func (c *Client) Get(ctx context.Context, target string, v any) error {
	text, err := c.Do(ctx, http.MethodGet, target, nil)
	if err != nil || text == nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("answer to %s: %w", target, err)
	}
	return nil
}
