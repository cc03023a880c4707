package registry

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"vrafs/backend"
	"vrafs/internal/httprange"
)

// A grant is what is sent to the registry, and how it was got. It is not changed
// once others can see it.
type grant struct {
	header      string // Authorization; empty for none
	credentials string // that it was made of
	// source is where the token is from. It is nil for what is no token; then there
	// are no times.
	source     *tokenSource
	renew, end time.Time
}

// auth knows how to be let in.
type auth struct {
	opt     *Options
	tokens  tokens
	now     func() time.Time
	granted atomic.Pointer[grant] // nil, or what the registry last asked for
	turn    chan struct{}         // holds a value while somebody gets a grant
	renewal renewal
}

func (a *auth) init(client *httprange.Client, opt *Options) {
	a.opt, a.tokens.client, a.now, a.turn = opt, client, time.Now, make(chan struct{}, 1)
	a.renewal.init()
}

func (a *auth) close() { a.renewal.close() }

func (a *auth) credentials() string {
	if a.opt.Credentials == nil {
		return ""
	}
	return a.opt.Credentials()
}

// current is what to send with a request.
func (a *auth) current() *grant {
	if a.opt.Token != "" {
		return &grant{header: "Bearer " + a.opt.Token}
	}
	g := a.usable()
	if g == nil {
		return &grant{credentials: a.credentials()}
	}
	if g.source != nil && !a.now().Before(g.renew) {
		a.renewal.start(a.now(), func(ctx context.Context) error { return a.renew(ctx, g) })
	}
	return g
}

// usable is what was granted, unless that has ended or the credentials are other
// ones now.
func (a *auth) usable() *grant {
	g := a.granted.Load()
	if g == nil || g.credentials != a.credentials() || g.source != nil && !a.now().Before(g.end) {
		return nil
	}
	return g
}

// forget takes back what the registry has refused.
func (a *auth) forget(g *grant) { a.granted.CompareAndSwap(g, nil) }

// enter waits for the turn to get a grant.
func (a *auth) enter(ctx context.Context) error {
	select {
	case a.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// answer gets a grant after the registry refused the one that was used, unless
// somebody has got another meanwhile.
func (a *auth) answer(ctx context.Context, used *grant, headers []string) (*grant, error) {
	if a.opt.Token != "" {
		return nil, &backend.Error{Host: a.opt.Host, Status: http.StatusUnauthorized, Class: backend.ErrPermanent,
			Remedy: "configure a registry_token that is still good"}
	}
	if err := a.enter(ctx); err != nil {
		return nil, err
	}
	defer func() { <-a.turn }()
	if g := a.usable(); g != nil && g != used {
		return g, nil
	}
	g, err := a.meet(ctx, parseChallenges(headers))
	if err == nil {
		a.granted.Store(g)
	}
	return g, err
}

var errCredentials = errors.New("the credentials are not base64 of user:password")

// meet answers the first challenge that it can.
func (a *auth) meet(ctx context.Context, list []challenge) (*grant, error) {
	credentials := a.credentials()
	if strings.ContainsFunc(credentials, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, &backend.Error{Host: a.opt.Host, Cause: errCredentials, Class: backend.ErrPermanent}
	}
	for _, c := range list {
		switch {
		case c.scheme == "bearer":
			s, err := newSource(c, a.opt)
			if err != nil {
				return nil, err
			}
			return a.fetch(ctx, s, credentials)
		case c.scheme == "basic" && credentials != "":
			return &grant{header: "Basic " + credentials, credentials: credentials}, nil
		}
	}
	return nil, &backend.Error{Host: a.opt.Host, Status: http.StatusUnauthorized, Class: backend.ErrPermanent,
		Remedy: "configure auth for " + a.opt.Repo}
}

// fetch gets a token.
func (a *auth) fetch(ctx context.Context, s *tokenSource, credentials string) (*grant, error) {
	if credentials != "" && a.opt.Scheme == "https" && s.realm.Scheme == "http" && !a.opt.HTTP.SkipVerify {
		return nil, &backend.Error{Host: a.opt.Host, Cause: errPlain, Class: backend.ErrPermanent,
			Remedy: "give the token server TLS, or set skip_verify"}
	}
	asked := a.now()
	token, life, err := a.tokens.request(ctx, s, credentials)
	if err != nil {
		return nil, err
	}
	return &grant{
		header: "Bearer " + token, credentials: credentials, source: s,
		renew: asked.Add(life - margin(life)), end: asked.Add(life),
	}, nil
}

// renew replaces a token by a new one from the same place.
func (a *auth) renew(ctx context.Context, old *grant) error {
	if err := a.enter(ctx); err != nil {
		return err
	}
	defer func() { <-a.turn }()
	if a.usable() != old {
		return nil
	}
	g, err := a.fetch(ctx, old.source, old.credentials)
	if err == nil {
		a.granted.Store(g)
	}
	return err
}

// When a token is renewed: so long before its end, and a random time more, for
// daemons that started together (nydusd 4.5).
const (
	renewBefore    = 20 * time.Second
	maxRenewJitter = 300 * time.Second
)

// margin is how long before its end a token of the given life is renewed.
func margin(life time.Duration) time.Duration {
	jitter := rand.N(min(life/10, maxRenewJitter) + 1)
	return min(renewBefore+jitter, life/2)
}
