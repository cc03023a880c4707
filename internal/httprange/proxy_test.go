package httprange

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vrafs/backend"
)

// A route is an origin, a forward proxy before it, and a client that knows both.
type route struct {
	origin, proxy *httptest.Server
	direct, via   atomic.Int64 // requests
	last          http.Header  // of the last one that the proxy saw
	meddle        http.HandlerFunc
	c             *Client
}

// newRoute makes one; meddle answers in the proxy's place, nil lets it work.
func newRoute(t *testing.T, meddle http.HandlerFunc, change func(*Proxy)) *route {
	t.Helper()
	r := &route{meddle: meddle}
	r.origin = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Via") == "" {
			r.direct.Add(1)
		}
		files(w, q)
	}))
	forward := &httputil.ReverseProxy{
		Rewrite:   func(q *httputil.ProxyRequest) { q.Out.Header.Set("Via", "1.1 test") },
		Transport: &http.Transport{DisableKeepAlives: true}, ErrorLog: log.New(io.Discard, "", 0),
	}
	r.proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.via.Add(1)
		r.last = q.Header
		if r.meddle != nil {
			r.meddle(w, q)
			return
		}
		forward.ServeHTTP(w, q)
	}))
	u := address(t, r.proxy.URL)
	p := Proxy{URL: func() *url.URL { return u }, Fallback: true, Interval: time.Hour}
	if change != nil {
		change(&p)
	}
	r.c = client(t, Options{Proxy: p})
	t.Cleanup(r.origin.Close)
	t.Cleanup(r.proxy.Close)
	return r
}

// read reads 4 bytes at 8.
func (r *route) read(t *testing.T, ctx context.Context) error {
	t.Helper()
	p := make([]byte, 4)
	_, err := r.c.Range(ctx, address(t, r.origin.URL+"/b"), "", Into(p), 8)
	if err == nil && string(p) != "89ab" {
		t.Errorf("got %q", p)
	}
	return err
}

func TestRangesTakeTheWayThatWorks(t *testing.T) {
	without := func(p *Proxy) { p.Fallback = false }
	refuses := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(headerErrorType, "proxy")
		w.WriteHeader(http.StatusForbidden)
	}
	for _, tt := range []struct {
		name        string
		meddle      http.HandlerFunc
		change      func(*Proxy)
		ctx         context.Context
		via, direct int64 // requests of two reads
		ok          bool
	}{
		{"through the proxy", nil, nil, t.Context(), 2, 0, true},
		{"an empty address is no proxy", nil, func(p *Proxy) { p.URL = func() *url.URL { return nil } }, t.Context(), 0, 2, true},
		{"trouble there", answer(503, "", 0, ""), nil, t.Context(), 2, 2, true},
		{"too many requests", answer(429, "", 0, ""), nil, t.Context(), 2, 2, true},
		{"it wants a password", answer(407, "", 0, ""), nil, t.Context(), 2, 2, true},
		{"wrong counts", answer(206, "bytes 8-10/16", 3, "89a"), nil, t.Context(), 2, 2, true},
		{"a cut", answer(206, "bytes 8-11/16", 4, "89"), nil, t.Context(), 2, 2, true},
		{"no answer: it is left alone", answer(0, "", 0, ""), nil, t.Context(), 1, 2, true},
		{"no answer and no fallback", answer(0, "", 0, ""), without, t.Context(), 2, 0, false},
		{"the origin's refusal is final", answer(404, "", 0, ""), nil, t.Context(), 2, 0, false},
		{"the proxy's refusal is final", refuses, nil, t.Context(), 2, 0, false},
		{"from the origin", nil, nil, backend.FromOrigin(t.Context()), 0, 2, true},
		{"from the origin, which the proxy alone can reach", nil, without, backend.FromOrigin(t.Context()), 2, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRoute(t, tt.meddle, tt.change)
			for range 2 {
				if err := r.read(t, tt.ctx); (err == nil) != tt.ok {
					t.Errorf("got %v", err)
				}
			}
			if via, direct := r.via.Load(), r.direct.Load(); via != tt.via || direct != tt.direct {
				t.Errorf("%d requests to the proxy and %d straight, want %d and %d", via, direct, tt.via, tt.direct)
			}
		})
	}
}

// TestPeersGoBeforeTheProxy, which then is not asked whether it is well, nor blamed.
func TestPeersGoBeforeTheProxy(t *testing.T) {
	dead := &url.URL{Scheme: "http", Host: "127.0.0.1:9"}
	for _, tt := range []struct {
		name          string
		peer          func(working *url.URL) (*url.URL, bool)
		fallback      bool
		via, direct   int64 // requests of two reads
		ok, proxyWell bool
	}{
		{"a peer", func(w *url.URL) (*url.URL, bool) { return w, true }, true, 2, 0, true, true},
		{"none is asked for", func(*url.URL) (*url.URL, bool) { return nil, false }, true, 0, 2, true, false},
		{"none is well", func(*url.URL) (*url.URL, bool) { return nil, true }, true, 0, 2, true, true},
		{"none is well, and no fallback", func(*url.URL) (*url.URL, bool) { return nil, true }, false, 0, 0, false, true},
		{"one that is gone", func(*url.URL) (*url.URL, bool) { return dead, true }, true, 0, 2, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRoute(t, nil, func(p *Proxy) {
				working := p.URL()
				p.URL, p.Fallback = func() *url.URL { return dead }, tt.fallback
				p.Peer = func(*url.URL) (*url.URL, bool) { return tt.peer(working) }
			})
			for range 2 {
				if err := r.read(t, t.Context()); (err == nil) != tt.ok {
					t.Errorf("got %v", err)
				}
			}
			if via, direct := r.via.Load(), r.direct.Load(); via != tt.via || direct != tt.direct {
				t.Errorf("%d requests to the peer and %d straight, want %d and %d", via, direct, tt.via, tt.direct)
			}
			if well := r.c.proxy.health.Well(); well != tt.proxyWell {
				t.Errorf("the proxy is well: %v", well)
			}
		})
	}
}

func TestProxiesAreToldWhoReads(t *testing.T) {
	r := newRoute(t, nil, func(p *Proxy) { p.Fallback = false })
	for _, tt := range []struct {
		ctx                     context.Context
		p2p, prefetch, priority string
	}{
		{t.Context(), "true", "false", "6"},
		{backend.ForPrefetch(t.Context()), "true", "true", "3"},
		{backend.FromOrigin(t.Context()), "", "false", "6"},
	} {
		if err := r.read(t, tt.ctx); err != nil {
			t.Fatal(err)
		}
		if h := r.last; h.Get(headerP2P) != tt.p2p || h.Get(headerPrefetch) != tt.prefetch || h.Get(headerPriority) != tt.priority {
			t.Errorf("got %v, want %+v", h, tt)
		}
	}
}

// TestDeadProxiesComeBack: reads go on without one that is dead, and through it when its
// probe says that it is well or, without one, when the interval is over.
func TestDeadProxiesComeBack(t *testing.T) {
	for name, probed := range map[string]bool{"no probe": false, "probe": true} {
		t.Run(name, func(t *testing.T) {
			var ill atomic.Bool
			var probes atomic.Int64
			ping := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if probes.Add(1); ill.Load() {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			})
			meddle := func(w http.ResponseWriter, q *http.Request) {
				if ill.Load() {
					answer(0, "", 0, "")(w, q)
				} else {
					files(w, q)
				}
			}
			r := newRoute(t, meddle, func(p *Proxy) {
				if p.Interval = 100 * time.Millisecond; probed {
					p.Ping = ping
				}
			})
			// until reads as long as they take the other way.
			until := func(proxied bool) {
				t.Helper()
				for way := !proxied; way != proxied; {
					direct := r.direct.Load()
					if err := r.read(t, t.Context()); err != nil {
						t.Fatal(err)
					}
					way = r.direct.Load() == direct
				}
			}
			for range 3 {
				until(true)
				ill.Store(true)
				until(false)
				ill.Store(false)
			}
			if probed != (probes.Load() > 0) {
				t.Errorf("%d probes", probes.Load())
			}
		})
	}
}

func TestAnEndedReadIsNotAskedForAgain(t *testing.T) {
	gone := errors.New("reader went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	r := newRoute(t, func(_ http.ResponseWriter, q *http.Request) {
		cancel(gone)
		<-q.Context().Done()
	}, nil)
	if err := r.read(t, ctx); !errors.Is(err, gone) || r.direct.Load() != 0 {
		t.Errorf("got %v, %d requests straight", err, r.direct.Load())
	}
}

func TestProxiesMayAddTLSThemselves(t *testing.T) {
	var asked string
	r := newRoute(t, func(w http.ResponseWriter, q *http.Request) {
		asked = q.URL.String()
		files(w, q)
	}, func(p *Proxy) { p.UseHTTP = true })
	p := make([]byte, 4)
	if _, err := r.c.Range(t.Context(), address(t, "https://registry.example/b"), "", Into(p), 8); err != nil || string(p) != "89ab" {
		t.Errorf("got %q, %v", p, err)
	}
	if !strings.HasPrefix(asked, "http://registry.example") {
		t.Errorf("the proxy was asked for %s", asked)
	}
}

// TestAProxyThatIsTakenAwayLeavesNothingInTheClear: what was to go to a proxy without
// TLS goes nowhere when the proxy goes in that moment.
func TestAProxyThatIsTakenAwayLeavesNothingInTheClear(t *testing.T) {
	var asked atomic.Int64
	r := newRoute(t, nil, func(p *Proxy) {
		first := p.URL()
		p.UseHTTP, p.Fallback = true, false
		p.URL = func() *url.URL {
			if asked.Add(1) == 1 {
				return first
			}
			return nil
		}
	})
	u := address(t, strings.Replace(r.origin.URL, "http:", "https:", 1))
	if _, err := r.c.Range(t.Context(), u, "Bearer secret", Into(make([]byte, 4)), 8); err == nil || r.direct.Load() != 0 {
		t.Errorf("got %v, %d requests to the origin without TLS", err, r.direct.Load())
	}
}
