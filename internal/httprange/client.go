// Package httprange is exact ranged reads over HTTP, the client below the network
// back ends.
//
//	Range   GET, Range: bytes=a-b --> 206 with this range, to a Dest while it comes
//	                                  200 from byte 0, its beginning
//	                                  416, 206 that ends early, or 200 where the
//	                                  range lies past the end: end of the blob
//	                                  any other status: an error, and the headers
//	Fetch   a small answer as a whole, for tokens
//
// Ranges may go through a proxy (Options.Proxy), everything else goes straight:
//
//	healthy? --yes--> proxy --no answer, 407, 429, 5xx, wrong counts--> origin
//	    | no                                                              ^
//	    +-----------------------------------------------------------------+
//
// Redirects are never followed, environment variables name no proxy, bodies are
// never decompressed. Every request ends within Options.Timeout.
//
// Trust: none in the server. Counts, Content-Range and lengths are checked, headers
// and bodies bounded. Errors are *backend.Error without a blob's name; neither
// they nor anything else here shows headers or the query of an address.
//
// Concurrency: everything may be called from any goroutine. Connections are kept
// and used again; HTTP/1.1 only, so that ranges come over connections of their own
// instead of sharing one window.
//
// Source: RFC 9110, sections 14 and 15; nydusd 3.4, 3.5 and 4.3.
package httprange

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"vrafs/backend"
	"vrafs/internal/health"
	"vrafs/internal/hosts"
	"vrafs/internal/opener"
)

// Options are what the network back ends share (nydusd, section 3.4).
type Options struct {
	SkipVerify bool     // take any certificate
	CAFiles    []string // PEM, trusted beside the system's
	// Timeout bounds a request with its answer, ConnectTimeout the connecting; 0 is
	// no bound but the context's.
	Timeout, ConnectTimeout time.Duration
	// Header is added to every request, where the request has no such header.
	Header http.Header
	Proxy  Proxy
	// Socket is a Unix socket through which every server is reached; or empty.
	Socket string
	// Hosts says which servers and proxies are asked, and counts; nil asks them all.
	Hosts *hosts.Table
	// Watch, if set, is told of a proxy that may be passed by, until forget is called.
	Watch func(host string, h *health.Health) (forget func())
}

// UserAgent is what nydusd calls itself; servers and proxies have rules for it.
const UserAgent = "nydusd/1.0.0"

// Bounds of what a server can make us hold.
const (
	maxHeaderBytes = 64 << 10
	maxIdlePerHost = 32
	maxCABytes     = 1 << 20
	idleTime       = 90 * time.Second
)

// A Client sends requests. Close it to drop its connections.
type Client struct {
	opt    Options
	direct way
	proxy  proxy
}

// A way is how requests reach their server.
type way struct {
	http *http.Client
	via  func(u *url.URL) *url.URL // the proxy on it to u; nil, or it gives nil or no address, if there is none
}

// host is what errors call the server of u on this way.
func (w *way) host(u *url.URL) string {
	if p := w.proxy(u); p != "" {
		return u.Host + " through " + p
	}
	return u.Host
}

// proxy is name and port of the proxy to u, empty if there is none.
func (w *way) proxy(u *url.URL) string {
	if w.via == nil {
		return ""
	}
	if p := w.via(u); p != nil {
		return p.Host
	}
	return ""
}

// New makes a client. Certificates are read now, nothing is sent.
func New(o opener.Opener, opt Options) (*Client, error) {
	roots, err := roots(o, opt.CAFiles)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: opt.ConnectTimeout, KeepAlive: 30 * time.Second}
	dial := dialer.DialContext
	if opt.Socket != "" {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", opt.Socket)
		}
	}
	transport := &http.Transport{
		DialContext:            dial,
		TLSClientConfig:        &tls.Config{RootCAs: roots, InsecureSkipVerify: opt.SkipVerify},
		TLSHandshakeTimeout:    opt.ConnectTimeout,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{},
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxIdleConnsPerHost:    maxIdlePerHost,
		IdleConnTimeout:        idleTime,
	}
	c := &Client{opt: opt, direct: way{http: plainClient(transport)}}
	if opt.Proxy.URL != nil {
		c.proxy.init(opt.Proxy, transport.Clone())
		if u := opt.Proxy.URL(); u != nil && opt.Proxy.Fallback && opt.Watch != nil {
			c.proxy.forget = opt.Watch(u.Host, c.proxy.health)
		}
	}
	return c, nil
}

// plainClient sends requests and returns answers, redirects too.
func plainClient(t *http.Transport) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// roots are the system's certificates and those of files; nil stands for the
// system's alone.
func roots(o opener.Opener, files []string) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a host without any has these alone
	}
	for _, name := range files {
		f, _, err := opener.Regular(o, name)
		if err != nil {
			return nil, fmt.Errorf("ca_cert_files: %w", err)
		}
		text, err := io.ReadAll(io.LimitReader(f, maxCABytes+1))
		f.Close()
		if err == nil && len(text) > maxCABytes {
			err = fmt.Errorf("%s: larger than %d bytes; split it", name, maxCABytes)
		}
		if err != nil {
			return nil, fmt.Errorf("ca_cert_files: %w", err)
		}
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("ca_cert_files: %s: no PEM certificate", name)
		}
	}
	return pool, nil
}

// Reachable reports whether u is the whole address of a web server, which requests can
// be sent to.
func Reachable(u *url.URL) bool {
	return (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

// Close drops idle connections and ends a probe of the proxy.
func (c *Client) Close() {
	c.proxy.close()
	c.direct.http.CloseIdleConnections()
}

// errTimeout is the cause of a request that took longer than Options.Timeout.
const errTimeout = backend.Timeout("no whole answer in time")

// bound limits ctx to the time of one request.
func (c *Client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.opt.Timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, c.opt.Timeout, errTimeout)
}

// peer is who answers first for u: what the table of hosts knows it by.
func (c *Client) peer(w *way, u *url.URL) *hosts.Host {
	name := w.proxy(u)
	if name == "" {
		name = u.Host
	}
	if c.opt.Socket != "" {
		name = c.opt.Socket
	}
	return c.opt.Hosts.Host(name)
}

// send sends a request; the answer's body is the caller's to close.
func (c *Client) send(ctx context.Context, w *way, method string, u *url.URL, h http.Header, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, failure(ctx, w.host(u), err)
	}
	req.Header = h
	for name, values := range c.opt.Header {
		if req.Header[name] == nil {
			req.Header[name] = values
		}
	}
	req.Header.Set("User-Agent", UserAgent)
	resp, err := w.http.Do(req)
	if err != nil {
		return nil, failure(ctx, w.host(u), err)
	}
	return resp, nil
}

// maxDrained is what is read of an unwanted body to keep its connection.
const maxDrained = 16 << 10

// drain closes a body, and leaves the connection usable if little is left of it.
func drain(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, maxDrained)
	_ = body.Close()
}
