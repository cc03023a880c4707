// Package credhelper asks a helper outside of this process for a registry's credentials.
//
//	us --connect, CredentialProviderRequest, end of writing--> Unix socket --> helper
//	us <----------------- CredentialProviderResponse, end ---------------------+
//
// The two documents are those of kubelet's credential providers, one on a plugin's
// standard input, the other on its standard output. So any such plugin serves as it
// is behind a socket that starts it for each connection (systemd: Accept=yes).
//
// Credentials are in memory only. One answer serves all who want the same, for as
// long as it says; while it is asked, others wait. A helper that gave what the registry
// refused is not asked again for a minute.
//
// Trust: the helper's, for what it may say; its answer is bounded, and no error shows it.
// Concurrency: everything may be called from any goroutine. Source: Kubernetes,
// credentialprovider.kubelet.k8s.io/v1.
package credhelper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

const (
	apiGroup = "credentialprovider.kubelet.k8s.io/"
	// maxAnswer bounds an answer in bytes, maxTime how long it takes.
	maxAnswer = 64 << 10
	maxTime   = 10 * time.Second
	// An answer that names no time serves for defaultLife, every other at least for
	// minLife and at most for maxLife.
	defaultLife = 10 * time.Minute
	minLife     = time.Minute
	maxLife     = 24 * time.Hour
	// maxKept bounds the answers that are kept.
	maxKept = 256
)

var (
	errAnswer = errors.New("the answer is no CredentialProviderResponse")
	errNone   = errors.New("the helper has no credentials for it")
	errSame   = errors.New("the helper's credentials were refused a moment ago")
)

// A Helper is one socket. Make it with New.
type Helper struct {
	socket string
	now    func() time.Time
	turn   chan struct{} // holds a value while somebody asks; guards m

	m map[string]*answer // by what an answer is good for
}

// Credentials are what a registry is shown.
type Credentials struct {
	Auth string    // base64 of user:password
	End  time.Time // then they are no good any more
}

// An answer is that with a past.
type answer struct {
	auth  map[string]login
	since time.Time
	end   time.Time
}

type login struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// New makes a helper of the socket at an absolute path. It asks nobody.
func New(socket string) *Helper {
	return &Helper{socket: socket, now: time.Now, turn: make(chan struct{}, 1), m: map[string]*answer{}}
}

// Get gives credentials for an image, host/repository, and others than refused. It waits
// for the helper, or until ctx ends.
func (h *Helper) Get(ctx context.Context, image, refused string) (Credentials, error) {
	c, err := h.get(ctx, image, refused)
	switch {
	case ctx.Err() != nil && err != nil:
		err = context.Cause(ctx)
	case err != nil:
		err = fmt.Errorf("credential helper %s: %s: %w", h.socket, image, err)
	}
	return c, err
}

func (h *Helper) get(ctx context.Context, image, refused string) (Credentials, error) {
	select {
	case h.turn <- struct{}{}:
	case <-ctx.Done():
		return Credentials{}, context.Cause(ctx)
	}
	defer func() { <-h.turn }()
	now := h.now()
	host, _, _ := strings.Cut(image, "/")
	for _, key := range []string{"image " + image, "registry " + host, "global"} {
		a := h.m[key]
		if a == nil || !now.Before(a.end) {
			delete(h.m, key)
			continue
		}
		c, ok := a.find(image)
		if ok && c.Auth != refused {
			return c, nil
		}
		if now.Sub(a.since) < minLife {
			return Credentials{}, map[bool]error{true: errSame, false: errNone}[ok]
		}
	}
	key, a, err := h.ask(ctx, image, host)
	if err != nil {
		return Credentials{}, err
	}
	if len(h.m) >= maxKept {
		clear(h.m)
	}
	h.m[key] = a
	c, ok := a.find(image)
	if !ok {
		return Credentials{}, errNone
	}
	return c, nil
}

// ask asks the helper, and says what its answer is good for.
func (h *Helper) ask(ctx context.Context, image, host string) (key string, a *answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", h.socket)
	if err != nil {
		return "", nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	request, err := json.Marshal(map[string]string{"kind": "CredentialProviderRequest", "apiVersion": apiGroup + "v1", "image": image})
	if err != nil {
		return "", nil, err
	}
	if _, err := conn.Write(append(request, '\n')); err != nil {
		return "", nil, err
	}
	if c, ok := conn.(*net.UnixConn); ok {
		if err := c.CloseWrite(); err != nil {
			return "", nil, err
		}
	}
	text, err := io.ReadAll(io.LimitReader(conn, maxAnswer+1))
	if err != nil {
		return "", nil, err
	}
	kind, life, auth, err := parse(text)
	if err != nil {
		return "", nil, err
	}
	key = map[string]string{"Image": "image " + image, "Registry": "registry " + host, "Global": "global"}[kind]
	now := h.now()
	return key, &answer{auth: auth, since: now, end: now.Add(life)}, nil
}

// parse reads a helper's answer. kind is Image, Registry or Global.
func parse(text []byte) (kind string, life time.Duration, auth map[string]login, err error) {
	var a struct {
		Kind          string           `json:"kind"`
		APIVersion    string           `json:"apiVersion"`
		CacheKeyType  string           `json:"cacheKeyType"`
		CacheDuration *string          `json:"cacheDuration"`
		Auth          map[string]login `json:"auth"`
	}
	// The cause might show a secret.
	if len(text) > maxAnswer || json.Unmarshal(text, &a) != nil ||
		a.Kind != "CredentialProviderResponse" || !strings.HasPrefix(a.APIVersion, apiGroup) {
		return "", 0, nil, errAnswer
	}
	switch a.CacheKeyType {
	case "Image", "Registry", "Global":
	case "":
		a.CacheKeyType = "Image"
	default:
		return "", 0, nil, errAnswer
	}
	life = defaultLife
	if a.CacheDuration != nil {
		d, err := time.ParseDuration(*a.CacheDuration)
		if err != nil {
			return "", 0, nil, errAnswer
		}
		life = min(max(d, minLife), maxLife)
	}
	for pattern, l := range a.Auth {
		if strings.ContainsFunc(l.Username+l.Password, func(r rune) bool { return r < ' ' }) || strings.Contains(l.Username, ":") {
			delete(a.Auth, pattern)
		}
	}
	return a.CacheKeyType, life, a.Auth, nil
}
