package httprange

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vrafs/backend"
	"vrafs/internal/hosts"
)

// TestHostsInTroubleAreLeftAlone after two failures here, and others are not. The errors
// from then on tell the cause.
func TestHostsInTroubleAreLeftAlone(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string // empty: it is asked each time
	}{
		{"no answer", answer(0, "", 0, ""), "malformed HTTP status"},
		{"503", answer(503, "", 0, ""), "answer 503 Service Unavailable"},
		{"404", answer(404, "", 0, ""), ""},
		{"429", answer(429, "", 0, ""), ""},
		{"a wrong range", answer(206, "bytes 0-3/16", 4, "0123"), ""},
		{"half of an answer", answer(206, "bytes 8-11/16", 4, "89"), ""},
		{"all is well", files, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked atomic.Int64
			u := serve(t, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				tt.answer(w, r)
			})
			tab := hosts.New(hosts.Options{Failures: 2, Min: time.Hour, Max: time.Hour})
			c := client(t, Options{Hosts: tab})
			var err error
			for range 4 {
				_, err = c.Range(t.Context(), u, "", Into(make([]byte, 4)), 8)
			}
			want := map[bool]int64{true: 4, false: 2}[tt.want == ""]
			if asked.Load() != want {
				t.Errorf("asked %d times, want %d", asked.Load(), want)
			}
			if tt.want != "" && (err == nil || strings.Count(err.Error(), u.Host) != 1 || !strings.Contains(err.Error(), tt.want) || errors.Is(err, backend.ErrPermanent)) {
				t.Errorf("got %v, want %s and %q in it", err, u.Host, tt.want)
			}
			if s := tab.Stats(); len(s) != 1 || s[0].Host != u.Host || s[0].Requests != uint64(want) || s[0].Away != (tt.want != "") {
				t.Errorf("counted %+v", s)
			}
		})
	}
}

// TestReadersThatLeaveSayNothingOfTheHost.
func TestReadersThatLeaveSayNothingOfTheHost(t *testing.T) {
	u := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	tab := hosts.New(hosts.Options{Failures: 1, Min: time.Hour})
	c := client(t, Options{Hosts: tab, Timeout: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = c.Range(ctx, u, "", Into(make([]byte, 4)), 8)
	if s := tab.Stats(); s[0].Failed != 0 || s[0].Away {
		t.Errorf("a reader that left: %+v", s)
	}
	c = client(t, Options{Hosts: tab, Timeout: time.Millisecond})
	_, _ = c.Range(t.Context(), u, "", Into(make([]byte, 4)), 8)
	if s := tab.Stats(); s[0].Failed != 1 || !s[0].Away {
		t.Errorf("no answer in time: %+v", s)
	}
}

// TestProxiesLeftAloneArePassedByAtOnce: they are hosts of their own, so that the
// origin is not blamed for them.
func TestProxiesLeftAloneArePassedByAtOnce(t *testing.T) {
	r := newRoute(t, answer(502, "", 0, ""), nil)
	tab := hosts.New(hosts.Options{Failures: 2, Min: time.Hour, Max: time.Hour})
	u := address(t, r.proxy.URL)
	r.c = client(t, Options{Hosts: tab, Proxy: Proxy{URL: func() *url.URL { return u }, Fallback: true, Interval: time.Hour}})
	for range 4 {
		if err := r.read(t, t.Context()); err != nil {
			t.Error(err)
		}
	}
	if r.via.Load() != 2 || r.direct.Load() != 4 {
		t.Errorf("%d requests to the proxy and %d straight, want 2 and 4", r.via.Load(), r.direct.Load())
	}
	for _, s := range tab.Stats() {
		if proxy := s.Host == u.Host; s.Away != proxy {
			t.Errorf("counted %+v", s)
		}
	}
}

func TestErrorsNameTheProxyOnTheWay(t *testing.T) {
	for name, meddle := range map[string]http.HandlerFunc{"status": answer(502, "", 0, ""), "no answer": answer(0, "", 0, "")} {
		r := newRoute(t, meddle, func(p *Proxy) { p.Fallback = false })
		err := r.read(t, t.Context())
		want := address(t, r.origin.URL).Host + " through " + address(t, r.proxy.URL).Host
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q in it", name, err, want)
		}
	}
}
