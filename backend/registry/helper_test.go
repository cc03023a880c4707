package registry

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vrafs/internal/testregistry"
)

// A helper gives what its test says, and notes what was refused.
type helper struct {
	mu      sync.Mutex
	auth    string
	end     time.Time
	err     error
	refused []string
}

func (h *helper) get(_ context.Context, refused string) (string, time.Time, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = append(h.refused, refused)
	return h.auth, h.end, h.err
}

// TestHelpersAreAskedWhenCredentialsAreRefused, once for all reads, and not before.
func TestHelpersAreAskedWhenCredentialsAreRefused(t *testing.T) {
	good, stale := testregistry.Auth("user", "good"), testregistry.Auth("user", "stale")
	basic := func(*testing.T) testregistry.Options {
		return testregistry.Options{User: "user", Password: "good"}
	}
	tokens := func(t *testing.T) testregistry.Options {
		return testregistry.Options{Tokens: testregistry.StartTokens(t, testregistry.TokenSettings{User: "user", Password: "good"})}
	}
	for _, tt := range []struct {
		name       string
		server     func(*testing.T) testregistry.Options
		configured string
		asked      []string // what was refused
	}{
		{"basic, nothing configured", basic, "", []string{""}},
		{"basic, stale ones configured", basic, stale, []string{stale}},
		{"basic, good ones configured", basic, good, nil},
		{"token, nothing configured", tokens, "", []string{""}},
		{"token, stale ones configured", tokens, stale, []string{stale}},
		{"token, good ones configured", tokens, good, nil},
		{"nothing wanted", func(*testing.T) testregistry.Options { return testregistry.Options{} }, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := testregistry.Start(t, tt.server(t))
			id := s.Push(t, repo, payload)
			h := &helper{auth: good, end: time.Now().Add(time.Hour)}
			b := blobOf(t, open(t, s.Host, func(o *Options) {
				o.Credentials, o.Helper = func() string { return tt.configured }, h.get
			}), id)
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					if err := read(t, b, uint64(i)*16); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if strings.Join(h.refused, " ") != strings.Join(tt.asked, " ") || len(h.refused) != len(tt.asked) {
				t.Errorf("refused %q, want %q", h.refused, tt.asked)
			}
		})
	}
}

// TestHelpersCredentialsAreRenewedBeforeTheyEnd, in the background, and in the read when
// they have ended or are refused before that.
func TestHelpersCredentialsAreRenewedBeforeTheyEnd(t *testing.T) {
	var valid atomic.Value
	host := testregistry.Proxy(t, "http://127.0.0.1:1", func(w http.ResponseWriter, r *http.Request) bool {
		switch r.Header.Get("Authorization") {
		case "Basic " + valid.Load().(string):
			serve(w, r)
		case "":
			w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.WriteHeader(http.StatusForbidden) // as some registries say of what has ended
		}
		return true
	})
	h := &helper{}
	r := open(t, host, func(o *Options) { o.Helper = h.get })
	var now atomic.Int64
	r.auth.now = func() time.Time { return time.Unix(now.Load(), 0) }
	b := blobOf(t, r, strings.Repeat("ab", 32))
	give := func(auth string, end int64) {
		valid.Store(auth)
		h.mu.Lock()
		h.auth, h.end, h.err = auth, time.Unix(end, 0), nil
		h.mu.Unlock()
	}
	for _, step := range []struct {
		name  string
		at    int64
		do    func()
		ok    bool
		asked int
	}{
		{"the first read", 0, func() { give("b25lOjE=", 3600) }, true, 1},
		{"in their life they stay", 3000, nil, true, 1},
		{"near their end they are renewed", 3590, func() { h.auth, h.end = "dHdvOjI=", time.Unix(7200, 0) }, true, 2},
		{"the new ones count", 3591, func() { valid.Store("dHdvOjI=") }, true, 2},
		{"refused before their end", 4000, func() { give("dGhyZWU6Mw==", 9000) }, true, 3},
		{"after their end", 20000, func() { give("Zm91cjo0", 30000) }, true, 4},
		{"the helper has none", 40000, func() { valid.Store("x"); h.err = errors.New("no such account") }, false, 5},
		{"and again", 40001, func() { give("Zml2ZTo1", 50000) }, true, 6},
	} {
		now.Store(step.at)
		if step.do != nil {
			step.do()
		}
		err := read(t, b, 0)
		r.auth.renewal.wg.Wait()
		if (err == nil) != step.ok || len(h.refused) != step.asked {
			t.Errorf("%s: %v, asked %d times, want %d", step.name, err, len(h.refused), step.asked)
		}
		if err != nil && (!strings.Contains(err.Error(), "no such account") || !strings.Contains(err.Error(), "credential helper") || !strings.Contains(err.Error(), host)) {
			t.Errorf("%s: %v", step.name, err)
		}
	}
}
