package testregistry

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"testing"

	"vrafs/internal/testenv"
)

// A TokenServer is the registry project's own token server. It gives tokens to one user,
// for repositories below the user's name.
type TokenServer struct {
	url            string
	user, password string
	identity       *identity
}

// StartTokenServer runs the registry project's token server until the test ends.
func StartTokenServer(t testing.TB, user, password string) *TokenServer {
	t.Helper()
	testenv.Need(t, testenv.TokenServer)
	dir, host := t.TempDir(), FreePort(t)
	s := &TokenServer{"http://" + host + "/token/", user, password, newIdentity(t)}
	key := filepath.Join(dir, "key.pem")
	write(t, key, s.identity.keyPEM(t))
	Run(t, exec.Command(testenv.Peer("token-server"), "-addr", host, "-issuer", issuer, "-realm", service, "-key", key, "-passwd", passwords(t, dir, user, password)))
	Await(t, host)
	return s
}

func (s *TokenServer) realm() (string, []byte) { return s.url, s.identity.pem() }

func (s *TokenServer) pushToken(t testing.TB, repo string) string {
	t.Helper()
	query := url.Values{"service": {service}, "scope": {"repository:" + repo + ":pull,push"}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(s.user, s.password)
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Token == "" {
		t.Fatalf("token for %s: %s, %v", repo, resp.Status, err)
	}
	return answer.Token
}
