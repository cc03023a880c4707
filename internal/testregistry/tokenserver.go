package testregistry

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/internal/testenv"
)

// TokenServerOptions choose a TokenServer.
type TokenServerOptions struct {
	User, Password string // the only one that gets tokens
	TLS            bool
}

// A TokenServer is the registry project's own token server. It gives tokens to one user,
// for repositories below the user's name.
type TokenServer struct {
	url      string
	o        TokenServerOptions
	identity *identity
}

// StartTokenServer runs the registry project's token server until the test ends.
func StartTokenServer(t testing.TB, o TokenServerOptions) *TokenServer {
	t.Helper()
	testenv.Need(t, testenv.TokenServer)
	dir, host := t.TempDir(), FreePort(t)
	s := &TokenServer{o: o, identity: newIdentity(t)}
	key := filepath.Join(dir, "key.pem")
	write(t, key, s.identity.keyPEM(t))
	args := []string{"-addr", host, "-issuer", issuer, "-realm", service, "-key", key, "-passwd", passwords(t, dir, o.User, o.Password)}
	scheme := "http"
	if o.TLS {
		certificate := filepath.Join(dir, "cert.pem")
		write(t, certificate, s.identity.pem())
		scheme, args = "https", append(args, "-tlscert", certificate, "-tlskey", key)
	}
	// By name: clients refuse a token server on a private address that is written in numbers.
	s.url = scheme + "://" + strings.Replace(host, "127.0.0.1", "localhost", 1) + "/token/"
	Run(t, exec.Command(testenv.Peer("token-server"), args...))
	Await(t, host)
	return s
}

func (s *TokenServer) realm() (string, []byte) { return s.url, s.identity.pem() }

func (s *TokenServer) pushToken(t testing.TB, repo string) string {
	t.Helper()
	return s.ask(t, url.Values{"scope": {"repository:" + repo + ":pull,push"}}).Token
}

// IdentityToken is what docker login keeps in place of a password.
func (s *TokenServer) IdentityToken(t testing.TB) string {
	t.Helper()
	return s.ask(t, url.Values{"offline_token": {"true"}}).Identity
}

// tokens are an answer of the server.
type tokens struct {
	Token    string `json:"access_token"`
	Identity string `json:"refresh_token"`
}

// ask asks for tokens with the user's password.
func (s *TokenServer) ask(t testing.TB, query url.Values) (answer tokens) {
	t.Helper()
	query.Set("service", service)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(s.o.User, s.o.Password)
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Token == "" {
		t.Fatalf("tokens for %v: %s, %v", query, resp.Status, err)
	}
	return answer
}
