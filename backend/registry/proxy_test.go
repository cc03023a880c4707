package registry

import (
	"bytes"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"vrafs/backend"
	"vrafs/backend/backendtest"
	"vrafs/internal/httprange"
	"vrafs/internal/testregistry"
)

// through is the change of Options that sets a proxy.
func through(host string) func(*Options) {
	u := &url.URL{Scheme: "http", Host: host}
	return func(o *Options) {
		o.HTTP.Proxy = httprange.Proxy{URL: func() *url.URL { return u }, Fallback: true, Interval: time.Hour}
	}
}

func TestConformanceThroughACachingProxy(t *testing.T) {
	backendtest.Run(t, func(t *testing.T, blobs map[string][]byte) backend.Opener {
		s := testregistry.Start(t, testregistry.Options{})
		push(t, s, blobs)
		return open(t, s.Host, through(testregistry.StartCache(t)))
	})
}

// TestASecondHostTakesNothingFromTheOrigin: what the first one read is shared.
func TestASecondHostTakesNothingFromTheOrigin(t *testing.T) {
	big := bytes.Repeat(payload, 3<<20/len(payload))
	s := testregistry.Start(t, testregistry.Options{})
	id := s.Push(t, repo, big)
	var asked, straight atomic.Int64
	origin := testregistry.Proxy(t, s.URL, func(_ http.ResponseWriter, r *http.Request) bool {
		if asked.Add(1); r.Header.Get("Via") == "" {
			straight.Add(1)
		}
		return false
	})
	cache := testregistry.StartCache(t)
	for host := range 2 {
		b := blobOf(t, open(t, origin, through(cache)), id)
		for off := 0; off < len(big); off += 300_000 {
			p := make([]byte, min(300_000, len(big)-off))
			if _, err := b.ReadAt(t.Context(), p, uint64(off)); err != nil || !bytes.Equal(p, big[off:][:len(p)]) {
				t.Fatalf("host %d at %d: %v, or wrong bytes", host, off, err)
			}
		}
		if n := asked.Load(); n != 3 || straight.Load() != 0 {
			t.Errorf("after host %d: %d requests to the origin, %d past the proxy; want one per MiB", host, n, straight.Load())
		}
	}
}
