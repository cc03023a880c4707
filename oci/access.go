package oci

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// Access says how registries are reached. The zero value takes certificates from the
// system and from the directories of Docker and of containers, and credentials from
// the files and helpers of these.
type Access struct {
	// PlainHTTP speaks HTTP without TLS. Loopback addresses are tried that way anyway.
	PlainHTTP bool
	// Insecure takes any certificate, and HTTP where a registry has no TLS.
	Insecure bool
	// CAFile is a PEM file with certificates to trust beside the system's.
	CAFile string
	// CertDir has *.crt to trust, and *.cert with *.key to show.
	CertDir string
	// AuthFile is a file of credentials as docker login writes it.
	AuthFile string
	// Username and Password are used instead of the files'; Token is sent as it is.
	Username, Password, Token string
	// UserAgent is what registries are told.
	UserAgent string

	stall time.Duration // how long nothing may come; 0 is stallTimeout
}

// maxAuthFile bounds a file of credentials.
const maxAuthFile = 4 << 20

// A Credential is what a registry is shown. Its fields are secrets.
type Credential struct {
	Username, Password string
	// IdentityToken is exchanged for tokens, RegistryToken is one.
	IdentityToken, RegistryToken string
}

// Credential finds the credentials for the registry of ref: those given, or the first
// found in AuthFile, $REGISTRY_AUTH_FILE, $DOCKER_CONFIG/config.json,
// ~/.docker/config.json, $XDG_RUNTIME_DIR/containers/auth.json and
// ~/.config/containers/auth.json, where a helper may be named instead. The result is
// empty if there are none.
func (a *Access) Credential(ref Ref) (Credential, error) {
	if a.Token != "" || a.Username != "" {
		return Credential{Username: a.Username, Password: a.Password, RegistryToken: a.Token}, nil
	}
	for _, path := range a.authFiles() {
		c, err := credentialIn(path, ref)
		if errors.Is(err, fs.ErrNotExist) && path != a.AuthFile {
			continue
		}
		if err != nil || c != (Credential{}) {
			return c, err
		}
	}
	return Credential{}, nil
}

// authFiles are the places to look for credentials, the most explicit first. One that
// was named by the user is the only one.
func (a *Access) authFiles() []string {
	for _, p := range []string{a.AuthFile, os.Getenv("REGISTRY_AUTH_FILE")} {
		if p != "" {
			return []string{p}
		}
	}
	var files []string
	home, _ := os.UserHomeDir()
	add := func(dir, name string) {
		if dir != "" {
			files = append(files, filepath.Join(dir, name))
		}
	}
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		add(dir, "config.json")
	} else if home != "" {
		add(home, ".docker/config.json")
	}
	add(os.Getenv("XDG_RUNTIME_DIR"), "containers/auth.json")
	if dir, err := os.UserConfigDir(); err == nil {
		add(dir, "containers/auth.json")
	}
	return files
}

// credentialIn looks for the credentials of the repository, of the namespaces above
// it and of the registry in one file. Errors quote nothing of it.
func credentialIn(path string, ref Ref) (c Credential, err error) {
	f, err := os.Open(path)
	if err != nil {
		return c, fmt.Errorf("credentials: %w", err)
	}
	defer f.Close()
	cf, err := config.LoadFromReader(io.LimitReader(f, maxAuthFile))
	if err != nil {
		return c, fmt.Errorf("credentials: %s: %w", path, quiet(err))
	}
	for key := ref.Registry + "/" + ref.Repo; key != "."; key = filepath.Dir(key) {
		if key == name.DefaultRegistry {
			key = authn.DefaultAuthKey
		}
		a, err := cf.GetAuthConfig(key)
		if err != nil {
			return c, fmt.Errorf("credentials: %s: helper for %s: %w", path, ref.Registry, err)
		}
		a.ServerAddress = ""
		if a != (types.AuthConfig{}) {
			return Credential{a.Username, a.Password, a.IdentityToken, a.RegistryToken}, nil
		}
		if key == authn.DefaultAuthKey {
			break
		}
	}
	return c, nil
}

// quiet keeps what a JSON error quotes of its input out of messages.
func quiet(err error) error {
	var s *json.SyntaxError
	if errors.As(err, &s) {
		return fmt.Errorf("not valid JSON at byte %d", s.Offset)
	}
	return errors.New("not a file of credentials as docker login writes it")
}

// authenticator is the credential in the form that the transport wants it.
func (c Credential) authenticator() authn.Authenticator {
	if c == (Credential{}) {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: c.Username, Password: c.Password, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken,
	})
}

// Limits of a connection: a registry that does not answer at all ends in an error.
// How long an answer takes to come is not limited, only how long nothing comes.
const (
	dialTimeout  = 20 * time.Second
	stallTimeout = 2 * time.Minute
)

// transport makes the connections to a registry.
func (a *Access) transport(host string) (*http.Transport, error) {
	pool, certs, err := a.certificates(host)
	if err != nil {
		return nil, err
	}
	stall := cmp.Or(a.stall, stallTimeout)
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           watched((&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext, stall),
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: stall,
		ExpectContinueTimeout: time.Second,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
		DisableCompression:    true, // layers are compressed, and digests are of what is stored
		ForceAttemptHTTP2:     true,
		TLSClientConfig:       &tls.Config{RootCAs: pool, Certificates: certs, InsecureSkipVerify: a.Insecure, MinVersion: tls.VersionTLS12},
	}, nil
}

// certificates are what to trust and what to show: of the options, and of the
// directories that Docker and containers have for each registry.
func (a *Access) certificates(host string) (*x509.CertPool, []tls.Certificate, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	trusted, shown, err := a.certificateFiles(host)
	if err != nil {
		return nil, nil, err
	}
	for _, path := range trusted {
		if err := trust(pool, path); err != nil {
			return nil, nil, err
		}
	}
	var certs []tls.Certificate
	for _, path := range shown {
		c, err := tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".cert")+".key")
		if err != nil {
			return nil, nil, fmt.Errorf("certificates: %s: %w", path, err)
		}
		certs = append(certs, c)
	}
	return pool, certs, nil
}

// certificateFiles lists the files of certificates to trust, and of those to show.
func (a *Access) certificateFiles(host string) (trusted, shown []string, err error) {
	if a.CAFile != "" {
		trusted = append(trusted, a.CAFile)
	}
	dirs := []string{a.CertDir}
	if a.CertDir == "" {
		dirs = []string{filepath.Join("/etc/docker/certs.d", host), filepath.Join("/etc/containers/certs.d", host)}
		if dir, err := os.UserConfigDir(); err == nil {
			dirs = append(dirs, filepath.Join(dir, "containers/certs.d", host))
		}
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && a.CertDir != "" {
			return nil, nil, fmt.Errorf("certificates: %w", err)
		}
		for _, e := range entries {
			switch path := filepath.Join(dir, e.Name()); filepath.Ext(path) {
			case ".crt":
				trusted = append(trusted, path)
			case ".cert":
				shown = append(shown, path)
			}
		}
	}
	return trusted, shown, nil
}

func trust(pool *x509.CertPool, path string) error {
	pem, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("certificates: %s: no certificate in PEM form", path)
	}
	return nil
}

// registryName is the registry in the form that the transport wants it.
func (a *Access) registryName(ref Ref) (name.Repository, error) {
	opts := []name.Option{name.WeakValidation}
	if a.Insecure || a.PlainHTTP {
		opts = append(opts, name.Insecure)
	}
	return name.NewRepository(ref.Registry+"/"+ref.Repo, opts...)
}

// plainOnly refuses TLS, so that no time is lost where there is none.
type plainOnly struct{ http.RoundTripper }

// RoundTrip sends everything that has no TLS.
func (p plainOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "https" {
		return nil, errors.New("--plain-http was asked for")
	}
	return p.RoundTripper.RoundTrip(r)
}
