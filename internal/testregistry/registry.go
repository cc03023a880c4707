package testregistry

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"vrafs/internal/testenv"
)

// Options choose a registry. The zero value speaks plain HTTP with everybody.
type Options struct {
	TLS bool
	// User and Password are of the only one it lets in, unless User is empty.
	User, Password string
	Tokens         Issuer // lets in who has its tokens, unless nil
}

// A Server is a running registry.
type Server struct {
	URL    string // scheme://127.0.0.1:port
	Host   string // 127.0.0.1:port
	CAFile string // PEM, of its certificate and its token server's; empty without TLS
	opt    Options
}

// Start runs a registry until the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	testenv.Need(t, testenv.Registry)
	s := &Server{opt: o}
	dir := t.TempDir()
	env := append(os.Environ(),
		"REGISTRY_STORAGE=filesystem", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="+filepath.Join(dir, "data"),
		"REGISTRY_HTTP_ADDR=127.0.0.1:0", "REGISTRY_HTTP_SECRET=test", "OTEL_TRACES_EXPORTER=none")
	if o.TLS {
		own := newIdentity(t)
		certificate, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		write(t, certificate, own.pem())
		write(t, key, own.keyPEM(t))
		env = append(env, "REGISTRY_HTTP_TLS_CERTIFICATE="+certificate, "REGISTRY_HTTP_TLS_KEY="+key)
		trusted := own.pem()
		if o.Tokens != nil {
			_, tokens := o.Tokens.realm()
			trusted = append(trusted, tokens...)
		}
		s.CAFile = filepath.Join(dir, "trusted.pem")
		write(t, s.CAFile, trusted)
	}
	if o.User != "" {
		env = append(env, "REGISTRY_AUTH=htpasswd", "REGISTRY_AUTH_HTPASSWD_REALM=test", "REGISTRY_AUTH_HTPASSWD_PATH="+passwords(t, dir, o.User, o.Password))
	}
	if o.Tokens != nil {
		url, certificate := o.Tokens.realm()
		write(t, filepath.Join(dir, "tokens.pem"), certificate)
		env = append(env, "REGISTRY_AUTH=token", "REGISTRY_AUTH_TOKEN_REALM="+url, "REGISTRY_AUTH_TOKEN_SERVICE="+service,
			"REGISTRY_AUTH_TOKEN_ISSUER="+issuer, "REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE="+filepath.Join(dir, "tokens.pem"))
	}
	s.run(t, dir, env)
	return s
}

// passwords writes a file in the manner of htpasswd, and returns its path.
func passwords(t testing.TB, dir, user, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "htpasswd")
	write(t, path, append([]byte(user+":"), hash...))
	return path
}

var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)

// run starts the program and waits until it listens.
func (s *Server) run(t testing.TB, dir string, env []string) {
	t.Helper()
	config := filepath.Join(dir, "config.yml")
	write(t, config, []byte("version: 0.1\nstorage: {filesystem: {}}\n"))
	cmd := exec.Command(testenv.Program("docker-registry"), "serve", config)
	cmd.Env = env
	spawn(t, cmd, func(line string) bool {
		m := listening.FindStringSubmatch(line)
		if m != nil {
			s.Host = m[1]
		}
		return m != nil
	})
	s.URL = map[bool]string{false: "http://", true: "https://"}[s.opt.TLS] + s.Host
}

// Push stores a blob and returns its id, the hexadecimal SHA-256.
func (s *Server) Push(t testing.TB, repo string, data []byte) string {
	t.Helper()
	digest := sha256.Sum256(data)
	id := hex.EncodeToString(digest[:])
	resp := s.do(t, http.MethodPost, s.URL+"/v2/"+repo+"/blobs/uploads/", repo, nil, http.StatusAccepted)
	place, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	q := place.Query()
	q.Set("digest", "sha256:"+id)
	place.RawQuery = q.Encode()
	s.do(t, http.MethodPut, place.String(), repo, data, http.StatusCreated)
	return id
}

func (s *Server) do(t testing.TB, method, address, repo string, body []byte, status int) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	switch {
	case s.opt.User != "":
		req.SetBasicAuth(s.opt.User, s.opt.Password)
	case s.opt.Tokens != nil:
		req.Header.Set("Authorization", "Bearer "+s.opt.Tokens.pushToken(t, repo))
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != status {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s %s: %s: %s", method, req.URL.Path, resp.Status, text)
	}
	return resp
}

// Auth is base64 of user:password, as nydusd's configurations have it.
func Auth(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
