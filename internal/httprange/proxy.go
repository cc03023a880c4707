package httprange

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"vrafs/backend"
)

// A Proxy is a forward proxy on the way to blobs, Dragonfly or another. The zero value
// is none (nydusd, section 3.5).
type Proxy struct {
	// URL gives its address, or nil while there is none. It is called at every request;
	// nil is no proxy at all.
	URL func() *url.URL
	// Ping answers GET with a status below 400 while the proxy is healthy; nil: it
	// is, as long as it answers.
	Ping *url.URL
	// Fallback sends to the origin what the proxy doesn't answer.
	Fallback bool
	// Interval is the time between probes, and how long a proxy that failed is left
	// alone where there is no Ping.
	Interval time.Duration
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

// A proxy is a Proxy in use. It looks at its health when it is asked for, so that
// nothing is probed while nobody reads.
type proxy struct {
	Proxy
	http *http.Client // nil: there is no proxy
	ping *http.Client

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	sick   bool
	busy   bool      // a probe is under way
	next   time.Time // when to probe again, or to try again what is sick
}

var errNoProxy = errors.New("the proxy was taken away in this moment")

func (x *proxy) init(p Proxy, t *http.Transport) {
	x.Proxy, x.ping = p, plainClient(t.Clone())
	// A nil address would send straight to the origin what is meant for a proxy, also
	// what the proxy was to put into TLS.
	t.Proxy = func(*http.Request) (*url.URL, error) {
		if u := p.URL(); u != nil {
			return u, nil
		}
		return nil, errNoProxy
	}
	x.http = plainClient(t)
	x.ctx, x.stop = context.WithCancel(context.Background())
}

func (x *proxy) close() {
	if x.http == nil {
		return
	}
	x.stop()
	x.mu.Lock()
	x.closed = true
	x.mu.Unlock()
	x.wg.Wait()
	x.http.CloseIdleConnections()
	x.ping.CloseIdleConnections()
}

// serves reports whether a read goes through the proxy.
func (x *proxy) serves(ctx context.Context) bool {
	switch {
	case x.http == nil || x.URL() == nil:
		return false
	case !x.Fallback:
		return true
	case backend.WantsOrigin(ctx):
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if now := time.Now(); !now.Before(x.next) {
		x.look(now)
	}
	return !x.sick
}

// look probes the proxy in the background, or gives it another chance if there is
// nothing to probe. Preconditions: mu is held.
func (x *proxy) look(now time.Time) {
	if x.Ping == nil {
		x.sick = false
		return
	}
	if x.busy || x.closed {
		return
	}
	x.busy, x.next = true, now.Add(x.Interval)
	x.wg.Go(func() {
		sick := !x.probe()
		x.mu.Lock()
		defer x.mu.Unlock()
		x.busy, x.sick = false, sick
	})
}

// maxProbe bounds a probe's time.
const maxProbe = 5 * time.Second

func (x *proxy) probe() bool {
	ctx, cancel := context.WithTimeout(x.ctx, maxProbe)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, x.Ping.String(), nil)
	if err != nil {
		return false
	}
	req.Header.Set("User-Agent", UserAgent)
	resp, err := x.ping.Do(req)
	if err != nil {
		return false
	}
	drain(resp.Body)
	return resp.StatusCode < 400
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
func (x *proxy) failed(r *Reply, err error) bool {
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) || !x.Fallback {
		return false
	}
	if r.Status == 0 {
		x.mu.Lock()
		x.sick, x.next = true, time.Now().Add(x.Interval)
		x.mu.Unlock()
	}
	return r.Status < 300 || r.Status >= 500 || r.Status == http.StatusProxyAuthRequired || r.Status == http.StatusTooManyRequests
}
