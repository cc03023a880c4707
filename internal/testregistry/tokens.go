package testregistry

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	service = "vrafs test registry"
	issuer  = "vrafs test tokens"
)

// An Issuer is a token server that a registry trusts.
type Issuer interface {
	// realm is where tokens are asked for, and certificate, in PEM, of who signs them.
	realm() (url string, certificate []byte)
	// pushToken is a token to fill a repository with.
	pushToken(t testing.TB, repo string) string
}

// Tokens is a token server of the tests' own. Its settings may be changed between
// requests, with Change.
type Tokens struct {
	URL      string
	identity *identity

	mu       sync.Mutex
	set      TokenSettings
	requests []string
}

// TokenSettings are how a token server behaves.
type TokenSettings struct {
	User, Password string // the only one that gets tokens, unless User is empty
	GetOnly        bool   // refuse POST
	Shape          string // "token" or "access_token"; default "token"
	Life           time.Duration
	Down           bool // answer 503
}

// StartTokens runs a token server until the test ends.
func StartTokens(t testing.TB, set TokenSettings) *Tokens {
	t.Helper()
	k := &Tokens{identity: newIdentity(t), set: set}
	s := httptest.NewServer(k)
	t.Cleanup(s.Close)
	k.URL = s.URL + "/token"
	return k
}

// Change changes the settings.
func (k *Tokens) Change(f func(*TokenSettings)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(&k.set)
}

// Requests are the methods of the requests so far.
func (k *Tokens) Requests() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(k.requests, " ")
}

// ServeHTTP answers a request for a token.
func (k *Tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.requests = append(k.requests, r.Method)
	user, password, _ := r.BasicAuth()
	switch {
	case k.set.Down:
		http.Error(w, "down", http.StatusServiceUnavailable)
	case k.set.GetOnly && r.Method != http.MethodGet:
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
	case k.set.User != "" && (user != k.set.User || password != k.set.Password):
		http.Error(w, "who are you?", http.StatusUnauthorized)
	case r.FormValue("service") != service || r.Method == http.MethodPost && r.FormValue("client_id") == "":
		http.Error(w, "what service?", http.StatusBadRequest)
	default:
		shape := k.set.Shape
		if shape == "" {
			shape = "token"
		}
		answer := map[string]any{shape: k.sign(k.life(), grants(r.Form["scope"]))}
		if k.set.Life != 0 {
			answer["expires_in"] = k.set.Life.Seconds()
		}
		_ = json.NewEncoder(w).Encode(answer)
	}
}

// life is that of tokens. Preconditions: mu is held.
func (k *Tokens) life() time.Duration {
	if k.set.Life != 0 {
		return k.set.Life
	}
	return 10 * time.Minute
}

func (k *Tokens) realm() (string, []byte) { return k.URL, k.identity.pem() }

// pushToken lives long also where those that are asked for don't.
func (k *Tokens) pushToken(_ testing.TB, repo string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sign(10*time.Minute, []any{grant(repo, []string{"pull", "push"})})
}

// Pull is a token that lets somebody read a repository.
func (k *Tokens) Pull(repo string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sign(k.life(), []any{grant(repo, []string{"pull"})})
}

// grants is the access that the scopes ask for: everybody gets all of it. A scope may
// be a list, separated by blanks.
func grants(scopes []string) []any {
	list := []any{}
	for _, s := range strings.Fields(strings.Join(scopes, " ")) {
		if part := strings.Split(s, ":"); len(part) == 3 && part[0] == "repository" {
			list = append(list, grant(part[1], strings.Split(part[2], ",")))
		}
	}
	return list
}

func grant(repo string, actions []string) any {
	return map[string]any{"type": "repository", "name": repo, "actions": actions}
}

// sign makes a JSON web token (RFC 7515) of the kind the registry reads.
func (k *Tokens) sign(life time.Duration, access []any) string {
	now := time.Now()
	text := part(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(k.identity.der)}}) + "." +
		part(map[string]any{
			"iss": issuer, "sub": "", "aud": service, "jti": fmt.Sprint(len(k.requests)),
			"nbf": now.Add(-time.Minute).Unix(), "iat": now.Unix(), "exp": now.Add(life).Unix(),
			"access": access,
		})
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, k.identity.key, digest[:])
	if err != nil {
		return ""
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature[:])
}

func part(v any) string {
	p, _ := json.Marshal(v)
	return base64.RawURLEncoding.EncodeToString(p)
}
