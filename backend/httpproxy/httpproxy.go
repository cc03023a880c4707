// Package httpproxy reads blobs from a plain HTTP server, or from one behind a Unix
// socket.
//
//	GET addr<path><blob id>        addr is http(s)://host:port
//	GET http://localhost/<blob id> through the Unix socket addr
//
// Trust: none in servers; bytes are the caller's to verify. Concurrency:
// everything may be called from any goroutine.
//
// Source: nydusd 3.4, backend type http-proxy.
package httpproxy

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"vrafs/internal/httprange"
	"vrafs/internal/opener"
)

// Options say where blobs are.
type Options struct {
	HTTP httprange.Options
	Addr string // http(s)://host[:port], or the absolute path of a Unix socket
	Path string // before the blob's id; not for sockets
}

// New makes a back end. It reads certificates and sends nothing.
func New(o opener.Opener, opt Options) (*httprange.Store, error) {
	base, err := opt.base()
	if err != nil {
		return nil, err
	}
	if filepath.IsAbs(opt.Addr) {
		opt.HTTP.Socket = opt.Addr
	}
	client, err := httprange.New(o, opt.HTTP)
	if err != nil {
		return nil, fmt.Errorf("http-proxy: %w", err)
	}
	return &httprange.Store{Client: client, Base: *base, Denied: "make the server let this host read"}, nil
}

// base is the address of all blobs.
func (o *Options) base() (*url.URL, error) {
	if filepath.IsAbs(o.Addr) {
		return &url.URL{Scheme: "http", Host: "localhost", Path: "/"}, nil
	}
	u, err := url.Parse(o.Addr)
	if err != nil || !httprange.Reachable(u) {
		return nil, fmt.Errorf("http-proxy: addr is neither an http address nor an absolute path")
	}
	path := "/" + strings.Trim(o.Path, "/") + "/"
	if path == "//" {
		path = "/"
	}
	return &url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host, Path: path}, nil
}
