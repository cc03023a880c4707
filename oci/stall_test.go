package oci

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vrafs/internal/testregistry"
)

// TestReadersGoOnWhereTheRegistryStopped without breaking the connection.
func TestReadersGoOnWhereTheRegistryStopped(t *testing.T) {
	s := testregistry.Start(t, testregistry.Options{})
	src, dst := parted(t), parse(t, s.Host+"/some/repo:tag")
	_, err := Copy(t.Context(), src, dst, CopyOptions{})
	must(t, err)
	want := whole(t, src, Options{}).Desc
	var blobs, manifests atomic.Int64 // reads
	host := testregistry.Proxy(t, s.URL, func(w http.ResponseWriter, r *http.Request) bool {
		reads := &manifests
		if strings.Contains(r.URL.Path, "/blobs/") {
			reads = &blobs
		}
		if r.Method != http.MethodGet || strings.HasSuffix(r.URL.Path, "/v2/") || reads.Add(1) > 1 {
			return false
		}
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("{"))
		must(t, http.NewResponseController(w).Flush())
		<-r.Context().Done() // the client goes
		return true
	})
	began := time.Now()
	im := whole(t, parse(t, host+"/some/repo:tag"), Options{Access: Access{stall: 2 * time.Second}})
	if blobs.Load() < 2 || manifests.Load() != 2 || im.Desc.Digest != want.Digest {
		t.Errorf("%d and %d reads, image %s, want %s", blobs.Load(), manifests.Load(), im.Desc.Digest, want.Digest)
	}
	if took := time.Since(began); took < 4*time.Second {
		t.Errorf("waited %v for a registry that may need a while", took)
	}
}

// TestSlowAnswersAreNoStops: as long as something moves, nobody is cut off.
func TestSlowAnswersAreNoStops(t *testing.T) {
	const limit = time.Second
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		tick := time.NewTicker(limit / 10)
		defer tick.Stop()
		for range 20 {
			<-tick.C
			_, _ = w.Write([]byte("x"))
			_ = http.NewResponseController(w).Flush()
		}
	}))
	defer s.Close()
	a := Access{stall: limit}
	conns, err := a.transport(strings.TrimPrefix(s.URL, "http://"))
	must(t, err)
	defer conns.CloseIdleConnections()
	resp, err := (&http.Client{Transport: conns}).Get(s.URL)
	must(t, err)
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || len(got) != 20 {
		t.Errorf("%q, %v", got, err)
	}
}

// TestGreetingsWithoutEndAreLeft: what a registry says at the first contact is not read
// for ever.
func TestGreetingsWithoutEndAreLeft(t *testing.T) {
	var sent atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		for part := make([]byte, 64<<10); ; {
			n, err := w.Write(part)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}))
	defer s.Close()
	_, err := Resolve(t.Context(), parse(t, strings.TrimPrefix(s.URL, "http://")+"/a:b"), Options{})
	if !isMissing(err) {
		t.Errorf("got %v", err)
	}
	s.CloseClientConnections()
	if n := sent.Load(); n < maxGreeting || n > 64<<20 {
		t.Errorf("%d bytes were sent", n)
	}
}
