package httprange

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"vrafs/backend"
	"vrafs/internal/health"
)

// A Proxy is a forward proxy on the way to blobs, Dragonfly or another. The zero value
// is none (nydusd, section 3.5).
type Proxy struct {
	// URL gives its address, or nil while there is none. It is called at every request;
	// nil is no proxy at all.
	URL func() *url.URL
	// Peer gives another one for an address, in the place of URL and Ping, where ok; it is
	// nil where all of those are away. It is called as URL is; nil is never.
	Peer func(u *url.URL) (p *url.URL, ok bool)
	// Ping answers GET with a status below 400 while the proxy is healthy; nil: it
	// is, as long as it answers.
	Ping *url.URL
	// Fallback sends to the origin what the proxy doesn't answer.
	Fallback bool
	// Interval is the time between probes, and how long a proxy that failed is left
	// alone where there is no Ping. Probes go on for Pause after the last read.
	Interval, Pause time.Duration
	// UseHTTP asks the proxy for http addresses where the origin has https.
	UseHTTP bool
}

// Headers of Dragonfly (nydusd, sections 3.5 and 4.3).
const (
	headerP2P       = "X-Dragonfly-Use-P2P"
	headerPrefetch  = "X-Dragonfly-Prefetch"
	headerPriority  = "X-Dragonfly-Priority"
	headerErrorType = "X-Dragonfly-Error-Type"

	priorityPrefetch = "3"
	priorityDemand   = "6"
)

// A proxy is a Proxy in use.
type proxy struct {
	Proxy
	way    // without a client: there is no proxy
	ping   *http.Client
	health *health.Health
	forget func() // that it is watched
}

var errNoProxy = errors.New("no proxy is there in this moment")

// toward is the proxy for an address, nil if there is none.
func (x *proxy) toward(u *url.URL) *url.URL {
	if p, ok := x.peer(u); ok {
		return p
	}
	return x.URL()
}

// peer is Peer, which there need not be.
func (x *proxy) peer(u *url.URL) (p *url.URL, ok bool) {
	if x.Peer == nil {
		return nil, false
	}
	return x.Peer(u)
}

func (x *proxy) init(p Proxy, t *http.Transport) {
	x.Proxy, x.ping, x.forget = p, plainClient(t.Clone()), func() {}
	// A nil address would send straight to the origin what is meant for a proxy, also
	// what the proxy was to put into TLS.
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		if u := x.toward(r.URL); u != nil {
			return u, nil
		}
		return nil, errNoProxy
	}
	x.way = way{http: plainClient(t), via: x.toward}
	o := health.Options{Interval: p.Interval, Pause: p.Pause}
	if p.Ping != nil {
		o.Probe = func(ctx context.Context) error { return probe(ctx, x.ping, p.Ping, nil, http.StatusBadRequest) }
	}
	x.health = health.New(o)
}

func (x *proxy) close() {
	if x.http == nil {
		return
	}
	x.forget()
	x.health.Close()
	x.http.CloseIdleConnections()
	x.ping.CloseIdleConnections()
}

// serves reports whether a read of u goes through the proxy.
func (x *proxy) serves(ctx context.Context, u *url.URL) bool {
	if x.http == nil {
		return false
	}
	p, peers := x.peer(u)
	switch {
	case !peers && x.URL() == nil:
		return false
	case !x.Fallback:
		return true
	case backend.WantsOrigin(ctx):
		return false
	case peers:
		return p != nil
	}
	return x.health.Well()
}

// Probe reports whether the server of u is alive: it answers, and not that it is in
// trouble.
func (c *Client) Probe(ctx context.Context, u *url.URL) error {
	return probe(ctx, c.direct.http, u, c.opt.Header, http.StatusInternalServerError)
}

var errSick = errors.New("the answer is no success")

// probe asks for u with some headers; success is an answer with a status below limit.
func probe(ctx context.Context, way *http.Client, u *url.URL, h http.Header, limit int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header = h.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("User-Agent", UserAgent)
	resp, err := way.Do(req)
	if err != nil {
		return err
	}
	drain(resp.Body)
	if resp.StatusCode >= limit {
		return errSick
	}
	return nil
}

// address is what to ask the proxy for.
func (x *proxy) address(u *url.URL) *url.URL {
	if !x.UseHTTP || u.Scheme != "https" {
		return u
	}
	plain := *u
	plain.Scheme = "http"
	return &plain
}

// mark tells Dragonfly what kind of read this is. What is to come from the origin
// isn't for its peers.
func (x *proxy) mark(ctx context.Context, h http.Header) http.Header {
	h = h.Clone()
	if !backend.WantsOrigin(ctx) {
		h.Set(headerP2P, "true")
	}
	prefetch, priority := "false", priorityDemand
	if backend.IsPrefetch(ctx) {
		prefetch, priority = "true", priorityPrefetch
	}
	h.Set(headerPrefetch, prefetch)
	h.Set(headerPriority, priority)
	return h
}

// failed reports whether an answer is the proxy's failure and the origin is to be
// asked instead. A proxy that gave no answer is left alone for a while.
func (x *proxy) failed(u *url.URL, r *Reply, err error) bool {
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) || !x.Fallback {
		return false
	}
	if _, peers := x.peer(u); r.Status == 0 && !peers {
		x.health.Failed()
	}
	return r.Status < 300 || r.Status >= 500 || r.Status == http.StatusProxyAuthRequired || r.Status == http.StatusTooManyRequests
}
