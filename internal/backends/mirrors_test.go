package backends

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"vrafs/backend"
	"vrafs/internal/opener"
	"vrafs/internal/testregistry"
)

const repo = "user/image"

var payload = bytes.Repeat([]byte("0123456789abcdef"), 4096)

// A stand is a registry behind a server of the test's own that counts, and may be down.
type stand struct {
	host   string
	asked  atomic.Int64 // for blobs
	shown  atomic.Int64 // with credentials
	pinged atomic.Int64
	down   atomic.Bool
	header http.Header // wanted with every request
}

func newStand(t *testing.T, url string) *stand {
	t.Helper()
	s := &stand{}
	s.host = testregistry.Proxy(t, url, func(w http.ResponseWriter, r *http.Request) bool {
		blob := strings.Contains(r.URL.Path, "/blobs/")
		switch {
		case blob:
			s.asked.Add(1)
		case r.URL.Path == "/v2/":
			s.pinged.Add(1)
		}
		if r.Header.Get("Authorization") != "" {
			s.shown.Add(1)
		}
		for name := range s.header {
			if r.Header.Get(name) != s.header.Get(name) {
				t.Errorf("%s has no %s: %v", r.URL.Path, name, r.Header)
			}
		}
		if s.down.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
		return s.down.Load()
	})
	return s
}

// openBlob opens a blob of a configured back end; both end with the test.
func openBlob(t *testing.T, kind, section, id string, n *Network) backend.Blob {
	t.Helper()
	o, release, err := Open(parsed(t, kind, section), Options{Opener: opener.Local(), Network: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	b, err := o.Open(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func readPayload(t *testing.T, ctx context.Context, b backend.Blob) {
	t.Helper()
	p := make([]byte, 1000)
	if _, err := b.ReadAt(ctx, p, 77); err != nil || !bytes.Equal(p, payload[77:1077]) {
		t.Fatalf("%v, or wrong bytes", err)
	}
}

// TestMirrorsStandBeforeTheirRegistry: two of them with headers of their own; a read goes
// on at the next place when one fails, and back when its probe answers.
func TestMirrorsStandBeforeTheirRegistry(t *testing.T) {
	var stands []*stand
	id := ""
	for range 3 {
		s := testregistry.Start(t, testregistry.Options{})
		id = s.Push(t, repo, payload)
		stands = append(stands, newStand(t, s.URL))
	}
	first, second, origin := stands[0], stands[1], stands[2]
	first.header = http.Header{"X-Mirror": {"one"}}
	n := &Network{}
	b := openBlob(t, "registry", fmt.Sprintf(`{"scheme":"http","host":%q,"repo":%q,"mirrors":[
		{"host":"http://%s","headers":{"x-mirror":"one"},"health_check_interval":0,"failure_limit":2},{"host":%q}]}`,
		origin.host, repo, first.host, second.host), id, n)
	step := func(name string, want ...int64) {
		t.Helper()
		var before [3]int64
		for i, s := range stands {
			before[i] = s.asked.Load()
		}
		readPayload(t, t.Context(), b)
		for i, s := range stands {
			if got := s.asked.Load() - before[i]; got != want[i] {
				t.Errorf("%s: place %d was asked %d times, want %d", name, i, got, want[i])
			}
		}
	}
	step("all is well", 1, 0, 0)
	first.down.Store(true)
	step("the first is down", 1, 1, 0)
	step("once more", 1, 1, 0)
	step("which was enough", 0, 1, 0)
	second.down.Store(true)
	step("both are down", 0, 1, 1)
	if p := n.Places(); len(p) != 2 || p[0].Sick == p[1].Sick {
		t.Errorf("places %+v, want one of two that is sick", p)
	}
	second.down.Store(false)
	first.down.Store(false)
	for first.asked.Load() == 3 { // until its probe has answered
		readPayload(t, t.Context(), b)
	}
	step("all is well again", 1, 0, 0)
	if first.pinged.Load() == 0 {
		t.Error("the first was not probed")
	}
}

// TestMirrorsAreShownWhatTheOriginGranted unless they have credentials of their own.
func TestMirrorsAreShownWhatTheOriginGranted(t *testing.T) {
	tokens := testregistry.StartTokens(t, testregistry.TokenSettings{User: "user", Password: "hunter2"})
	s := testregistry.Start(t, testregistry.Options{Tokens: tokens})
	id := s.Push(t, repo, payload)
	auth := testregistry.Auth("user", "hunter2")
	for _, tt := range []struct {
		through                string
		mirror, shown, origins int64 // requests of three reads
	}{
		{"false", 3, 2, 2}, // refused without a token, which the origin then gives
		{"true", 4, 3, 0},
	} {
		origin, mirror := newStand(t, s.URL), newStand(t, s.URL)
		b := openBlob(t, "registry", fmt.Sprintf(`{"scheme":"http","host":%q,"repo":%q,"auth":%q,"mirrors":[{"host":%q,"auth_through":%s}]}`,
			origin.host, repo, auth, mirror.host, tt.through), id, nil)
		for range 3 {
			readPayload(t, t.Context(), b)
		}
		if mirror.asked.Load() != tt.mirror || mirror.shown.Load() != tt.shown || origin.asked.Load() != tt.origins {
			t.Errorf("auth_through %s: mirror asked %d times, %d with credentials, origin %d times; want %+v",
				tt.through, mirror.asked.Load(), mirror.shown.Load(), origin.asked.Load(), tt)
		}
	}
}

func TestReadsThatWantTheOriginPassMirrorsBy(t *testing.T) {
	s := testregistry.Start(t, testregistry.Options{})
	id := s.Push(t, repo, payload)
	origin, mirror := newStand(t, s.URL), newStand(t, s.URL)
	b := openBlob(t, "registry", fmt.Sprintf(`{"scheme":"http","host":%q,"repo":%q,"mirrors":[{"host":%q}]}`, origin.host, repo, mirror.host), id, nil)
	readPayload(t, backend.FromOrigin(t.Context()), b)
	if mirror.asked.Load() != 0 || origin.asked.Load() != 1 {
		t.Errorf("mirror asked %d times, origin %d", mirror.asked.Load(), origin.asked.Load())
	}
}

func TestMirrorsThatCannotBeAskedAreRefused(t *testing.T) {
	for _, m := range []string{`{}`, `{"host":"ftp://m"}`, `{"host":"http://m/path"}`, `{"host":"m","ping_url":"x"}`, `{"host":"m","headers":{"a b":"hunter2"}}`} {
		_, _, err := Open(parsed(t, "registry", `{"host":"h","repo":"r","mirrors":[`+m+`]}`), Options{Opener: opener.Local()})
		if err == nil || !strings.Contains(err.Error(), "mirrors.") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", m, err)
		}
	}
}
