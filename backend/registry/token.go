package registry

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"vrafs/backend"
	"vrafs/internal/httprange"
)

// clientID is how nydusd introduces itself to token servers.
const clientID = "nydus-registry-client"

// Bounds of a token server's answer.
const (
	maxAnswer   = 1 << 20
	maxToken    = 32 << 10
	defaultLife = 600 * time.Second
	maxLife     = 24 * time.Hour
)

var (
	errRealm     = errors.New("the registry names no usable realm for tokens")
	errPlain     = errors.New("the registry wants the credentials sent over plain HTTP")
	errNoToken   = errors.New("the answer holds no token")
	errNoAnswer  = errors.New("the answer is not JSON")
	errTokenForm = errors.New("the token is not one that can be sent")
)

// A tokenSource is where a registry lets its readers get tokens.
type tokenSource struct {
	realm          *url.URL
	service, scope string
}

// tokens asks for tokens.
type tokens struct {
	client *httprange.Client
	get    atomic.Bool // the server wants GET
}

// newSource understands a bearer challenge of the registry.
func newSource(c challenge, opt *Options) (*tokenSource, error) {
	u, err := url.Parse(c.params["realm"])
	if err != nil || !httprange.Reachable(u) {
		return nil, &backend.Error{Host: opt.Host, Cause: errRealm, Class: backend.ErrPermanent}
	}
	s := &tokenSource{realm: u, service: c.params["service"], scope: c.params["scope"]}
	if s.scope == "" {
		s.scope = "repository:" + opt.Repo + ":pull"
	}
	return s, nil
}

// request gets a token and its life. credentials may be empty.
func (t *tokens) request(ctx context.Context, s *tokenSource, credentials string) (token string, life time.Duration, err error) {
	f := httprange.Form{URL: s.realm, Values: url.Values{"scope": {s.scope}, "client_id": {clientID}}}
	if s.service != "" {
		f.Values.Set("service", s.service)
	}
	if credentials != "" {
		f.Authorization = "Basic " + credentials
	}
	body, err := t.send(ctx, f)
	if err != nil {
		return "", 0, refused(err)
	}
	if token, life, err = parseToken(body); err != nil {
		return "", 0, &backend.Error{Host: s.realm.Host, Cause: err, Class: backend.ErrPermanent}
	}
	return token, life, nil
}

// send posts a form; where that is refused it tries GET, and remembers it if it
// helps.
func (t *tokens) send(ctx context.Context, f httprange.Form) ([]byte, error) {
	if !t.get.Load() {
		f.Post = true
		body, status, err := t.client.Fetch(ctx, f, maxAnswer)
		again := status >= 400 && status < 500 && status != http.StatusTooManyRequests
		if !again && status != http.StatusNotImplemented {
			return body, err
		}
		f.Post = false
	}
	body, _, err := t.client.Fetch(ctx, f, maxAnswer)
	if err == nil {
		t.get.Store(true)
	}
	return body, err
}

// refused tells what a token server's refusal means.
func refused(err error) error {
	e := (*backend.Error)(nil)
	if !errors.As(err, &e) || e.Class == nil || e.Status == 0 {
		return err
	}
	return &backend.Error{Host: e.Host, Status: e.Status, Class: backend.ErrPermanent,
		Remedy: "it gives the registry's tokens: check auth"}
}

// parseToken reads a token server's answer, in either of its two shapes.
func parseToken(body []byte) (token string, life time.Duration, err error) {
	var a struct {
		Token       string  `json:"token"`
		AccessToken string  `json:"access_token"`
		ExpiresIn   float64 `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return "", 0, errNoAnswer // the cause might show the token
	}
	if token = a.Token; token == "" {
		token = a.AccessToken
	}
	switch {
	case token == "":
		return "", 0, errNoToken
	case len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", 0, errTokenForm
	}
	life = defaultLife
	if a.ExpiresIn >= 1 {
		life = time.Duration(min(a.ExpiresIn, maxLife.Seconds()) * float64(time.Second))
	}
	return token, life, nil
}
