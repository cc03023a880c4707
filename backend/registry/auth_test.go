package registry

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vrafs/backend"
	"vrafs/internal/testregistry"
)

// guarded is a registry behind a token server, with one blob.
func guarded(t *testing.T, set testregistry.TokenSettings) (tokens *testregistry.Tokens, host, id string) {
	t.Helper()
	tokens = testregistry.StartTokens(t, set)
	s := testregistry.Start(t, testregistry.Options{Tokens: tokens})
	return tokens, s.Host, s.Push(t, repo, payload)
}

func TestTokensAreRenewedBeforeTheyEnd(t *testing.T) {
	tokens, host, id := guarded(t, testregistry.TokenSettings{Life: time.Hour})
	r := open(t, host, nil)
	var ahead atomic.Int64
	r.auth.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	b := blobOf(t, r, id)
	for _, tt := range []struct {
		name  string
		at    time.Duration
		down  bool
		posts string
	}{
		{"the first", 0, false, "POST"},
		{"in its life it stays", 54 * time.Minute, false, "POST"},
		{"near its end a read renews it, in vain", 59*time.Minute + 50*time.Second, true, "POST POST"},
		{"which isn't tried again at once", 59*time.Minute + 51*time.Second, true, "POST POST"},
		{"but a moment later", 59*time.Minute + 56*time.Second, false, "POST POST POST"},
		{"then it has a new life", 110 * time.Minute, false, "POST POST POST"},
		{"after its end it's asked for in the read", 10 * time.Hour, false, "POST POST POST POST"},
	} {
		ahead.Store(int64(tt.at))
		tokens.Change(func(s *testregistry.TokenSettings) { s.Down = tt.down })
		if err := read(t, b, 0); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		r.auth.renewal.wg.Wait()
		if got := tokens.Requests(); got != tt.posts {
			t.Errorf("%s: token requests %q, want %q", tt.name, got, tt.posts)
		}
	}
}

// TestRefusedTokensAreReplaced is a token that the registry no longer takes, though
// it seems good here.
func TestRefusedTokensAreReplaced(t *testing.T) {
	tokens, host, id := guarded(t, testregistry.TokenSettings{})
	r := open(t, host, nil)
	b := blobOf(t, r, id)
	if err := read(t, b, 0); err != nil {
		t.Fatal(err)
	}
	old := *r.auth.granted.Load()
	old.header = "Bearer " + strings.Repeat("x", 20)
	r.auth.granted.Store(&old)
	if err := read(t, b, 16); err != nil || tokens.Requests() != "POST POST" {
		t.Errorf("got %v after %q", err, tokens.Requests())
	}
}

func TestServersThatWantGetArePostedToOnce(t *testing.T) {
	tokens, host, id := guarded(t, testregistry.TokenSettings{GetOnly: true})
	r := open(t, host, nil)
	for range 2 {
		if err := read(t, blobOf(t, r, id), 0); err != nil {
			t.Fatal(err)
		}
		r.auth.forget(r.auth.granted.Load())
	}
	if got := tokens.Requests(); got != "POST GET GET" {
		t.Errorf("token requests %q", got)
	}
}

func TestChangedCredentialsCountAtTheNextRead(t *testing.T) {
	_, host, id := guarded(t, testregistry.TokenSettings{User: "user", Password: "second"})
	var auth atomic.Pointer[string]
	set := func(s string) { auth.Store(&s) }
	set(testregistry.Auth("user", "first"))
	b := blobOf(t, open(t, host, func(o *Options) { o.Credentials = func() string { return *auth.Load() } }), id)
	if err := read(t, b, 0); !errors.Is(err, backend.ErrPermanent) {
		t.Errorf("wrong credentials: %v", err)
	}
	set(testregistry.Auth("user", "second"))
	if err := read(t, b, 0); err != nil {
		t.Errorf("right credentials: %v", err)
	}
	set("")
	if err := read(t, b, 0); err == nil {
		t.Error("a token of former credentials is still used")
	}
}

// TestFixedTokensAreSentAsTheyAre, and once more if they are other ones after a refusal.
func TestFixedTokensAreSentAsTheyAre(t *testing.T) {
	for _, tt := range []struct {
		name     string
		token    string
		next     string // after the first request
		ok       bool
		requests int64
	}{
		{"good", "good", "good", true, 1},
		{"stale", "stale", "stale", false, 1},
		{"replaced under way", "stale", "good", true, 2},
		{"replaced by a stale one", "stale", "older", false, 2},
	} {
		var asked atomic.Int64
		host := testregistry.Proxy(t, "http://127.0.0.1:1", func(w http.ResponseWriter, r *http.Request) bool {
			asked.Add(1)
			if r.Header.Get("Authorization") != "Bearer good" {
				w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token"`)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			serve(w, r)
			return true
		})
		r := open(t, host, func(o *Options) {
			o.Token = func() string {
				if asked.Load() > 0 {
					return tt.next
				}
				return tt.token
			}
		})
		err := read(t, blobOf(t, r, strings.Repeat("ab", 32)), 0)
		if (err == nil) != tt.ok || asked.Load() != tt.requests {
			t.Errorf("%s: %v after %d requests", tt.name, err, asked.Load())
		}
		if err != nil && !strings.Contains(err.Error(), "registry_token") {
			t.Errorf("no remedy in %v", err)
		}
	}
}

// TestErrorsSayWhatToDoAndShowNoSecret: each on one line, with blob and host.
func TestErrorsSayWhatToDoAndShowNoSecret(t *testing.T) {
	const password = "hunter2hunter2"
	blob := strings.Repeat("ab", 32)
	challenge := func(value string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", value)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	realm := func(w http.ResponseWriter, r *http.Request, answer func(http.ResponseWriter)) {
		if r.URL.Path == "/token" {
			answer(w)
			return
		}
		challenge(`Bearer realm="http://`+r.Host+`/token?key=`+password+`"`)(w, r)
	}
	text := func(s string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { _, _ = w.Write([]byte(s)) }
	}
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		auth    string
		want    string
	}{
		{"no credentials", challenge(`Basic realm="r"`), "", "401 Unauthorized; configure auth"},
		{"no challenge", challenge(""), testregistry.Auth("u", password), "401 Unauthorized; configure auth"},
		{"wrong credentials", challenge(`Basic realm="r"`), testregistry.Auth("u", password), "401 Unauthorized; configure an auth"},
		{"credentials that can't be sent", challenge(`Basic realm="r"`), password + "\n", "not base64"},
		{"denied", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "", "403 Forbidden; configure an auth"},
		{"a realm that is no address", challenge(`Bearer realm="file:///etc/` + password + `"`), "", "no usable realm"},
		{"a token server without tokens", func(w http.ResponseWriter, r *http.Request) { realm(w, r, text(`{}`)) }, "", "no token"},
		{"a token server without JSON", func(w http.ResponseWriter, r *http.Request) { realm(w, r, text(password)) }, "", "not JSON"},
		{"a token that can't be sent", func(w http.ResponseWriter, r *http.Request) { realm(w, r, text(`{"token":"`+password+`\n"}`)) }, "", "can be sent"},
		{"a token server that refuses", func(w http.ResponseWriter, r *http.Request) {
			realm(w, r, func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) })
		}, testregistry.Auth("u", password), "403 Forbidden; it gives the registry's tokens: check auth"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			host := testregistry.Proxy(t, "http://127.0.0.1:1", func(w http.ResponseWriter, r *http.Request) bool {
				tt.handler(w, r)
				return true
			})
			r := open(t, host, func(o *Options) { o.Credentials = func() string { return tt.auth } })
			err := read(t, blobOf(t, r, blob), 0)
			if err == nil || !errors.Is(err, backend.ErrPermanent) {
				t.Fatalf("got %v", err)
			}
			line := err.Error()
			for _, want := range []string{"blob " + blob, host, tt.want} {
				if strings.Count(line, want) != 1 {
					t.Errorf("%q does not say %q once", line, want)
				}
			}
			if strings.Contains(line, password) || tt.auth != "" && strings.Contains(line, tt.auth) || strings.Contains(line, "\n") {
				t.Errorf("%q shows too much", line)
			}
		})
	}
}

func TestCredentialsDoNotLeaveTLS(t *testing.T) {
	opt := &Options{Scheme: "https", Host: "h", Repo: repo, Credentials: func() string { return "eDp5" }}
	a := &auth{}
	a.init(nil, opt)
	defer a.close()
	_, err := a.answer(t.Context(), &grant{}, []string{`Bearer realm="http://auth.example/token"`})
	if !errors.Is(err, errPlain) || !errors.Is(err, backend.ErrPermanent) {
		t.Errorf("got %v, want %v", err, errPlain)
	}
}

func TestTokensEndWellAfterTheirRenewal(t *testing.T) {
	for _, life := range []time.Duration{time.Nanosecond, time.Second, time.Minute, time.Hour, maxLife} {
		if m := margin(life); m < 0 || m > life/2 || m > renewBefore+maxRenewJitter {
			t.Errorf("life %v: renewed %v before", life, m)
		}
	}
}
