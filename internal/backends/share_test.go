package backends

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"

	"vrafs/internal/testregistry"
)

// TestASecondHostTakesNothingFromTheOrigin through a cache that shares a range only with
// those who ask for the very same one, though it reads other pieces in another order.
// Without windows next to nothing is shared.
func TestASecondHostTakesNothingFromTheOrigin(t *testing.T) {
	big := bytes.Repeat(payload, 64) // 4 MiB
	s := testregistry.Start(t, testregistry.Options{})
	id := s.Push(t, repo, big)
	for _, tt := range []struct {
		window string
		shared bool
	}{{"", true}, {`,"window_size":0`, false}} {
		cache := testregistry.StartNginx(t, testregistry.CacheOptions{Exact: true}).Host
		var asked atomic.Int64
		origin := testregistry.Proxy(t, s.URL, func(http.ResponseWriter, *http.Request) bool {
			asked.Add(1)
			return false
		})
		for host, piece := range []int{300_000, 77_777} {
			asked.Store(0)
			b := openBlob(t, "registry", fmt.Sprintf(`{"scheme":"http","host":%q,"repo":%q,"proxy":{"url":"http://%s"%s}}`, origin, repo, cache, tt.window), id, nil)
			for _, i := range rand.New(rand.NewPCG(1, uint64(host))).Perm((len(big) + piece - 1) / piece) {
				off := i * piece
				p := make([]byte, min(piece, len(big)-off))
				if _, err := b.ReadAt(t.Context(), p, uint64(off)); err != nil || !bytes.Equal(p, big[off:][:len(p)]) {
					t.Fatalf("host %d at %d: %v, or wrong bytes", host, off, err)
				}
			}
			switch {
			case tt.shared && host == 0 && asked.Load() != 4, tt.shared && host == 1 && asked.Load() != 0:
				t.Errorf("host %d: %d requests to the origin, want one for each MiB, then none", host, asked.Load())
			case !tt.shared && asked.Load() == 0:
				t.Errorf("host %d: exact ranges were shared", host)
			}
		}
	}
}

// TestADeadCacheCostsNoRead: what it can't bring comes from the origin, exactly.
func TestADeadCacheCostsNoRead(t *testing.T) {
	s := testregistry.Start(t, testregistry.Options{})
	id := s.Push(t, repo, payload)
	var last atomic.Value
	origin := testregistry.Proxy(t, s.URL, func(_ http.ResponseWriter, r *http.Request) bool {
		last.Store(r.Header.Get("Range"))
		return false
	})
	b := openBlob(t, "registry", fmt.Sprintf(`{"scheme":"http","host":%q,"repo":%q,"proxy":{"url":"http://%s"}}`, origin, repo, testregistry.FreePort(t)), id, nil)
	readPayload(t, t.Context(), b)
	if last.Load() != "bytes=77-1076" {
		t.Errorf("the origin was asked for %v", last.Load())
	}
}
