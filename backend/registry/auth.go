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
	header string // Authorization; empty for none
	// configured are the credentials of the configuration at that time, and used those
	// that it was made of: the same, or a helper's.
	configured, used string
	// source is where a token is from; nil for what is no token.
	source     *tokenSource
	renew, end time.Time // zero: it has no end
}

// auth knows how to be let in.
type auth struct {
	opt     *Options
	tokens  tokens
	now     func() time.Time
	granted atomic.Pointer[grant]  // nil, or what the registry last asked for
	helped  atomic.Pointer[helped] // nil, or what the helper gave last
	turn    chan struct{}          // holds a value while somebody gets a grant
	renewal renewal
}

// helped are a helper's credentials in place of configured ones.
type helped struct {
	configured, used string
	renew, end       time.Time
}

func (a *auth) init(client *httprange.Client, opt *Options) {
	a.opt, a.tokens.client, a.now, a.turn = opt, client, time.Now, make(chan struct{}, 1)
	a.renewal.init()
}

func (a *auth) close() { a.renewal.close() }

// configured are the credentials of the configuration.
func (a *auth) configured() string {
	if a.opt.Credentials == nil {
		return ""
	}
	return a.opt.Credentials()
}

// credentials are those to use: the helper's, once it was asked in place of those of the
// configuration, until they end.
func (a *auth) credentials() string {
	configured := a.configured()
	if h := a.helped.Load(); h != nil && h.configured == configured && a.now().Before(h.end) {
		return h.used
	}
	return configured
}

// help asks the helper for others than refused. Preconditions: it is the caller's turn.
func (a *auth) help(ctx context.Context, refused string) (string, error) {
	now := a.now()
	used, end, err := a.opt.Helper(ctx, refused)
	switch {
	case err != nil && ctx.Err() != nil:
		return "", context.Cause(ctx)
	case err != nil:
		return "", &backend.Error{Host: a.opt.Host, Status: http.StatusUnauthorized, Cause: err,
			Remedy: "make the credential helper give some that may pull from " + a.opt.Repo}
	}
	life := end.Sub(now)
	a.helped.Store(&helped{a.configured(), used, end.Add(-margin(life)), end})
	return used, nil
}

// current is what to send with a request.
func (a *auth) current() *grant {
	if g := a.fixed(); g != nil {
		return g
	}
	g := a.usable()
	if g == nil {
		return &grant{}
	}
	if !g.end.IsZero() && !a.now().Before(g.renew) {
		a.renewal.start(a.now(), func(ctx context.Context) error { return a.renew(ctx, g) })
	}
	return g
}

// fixed is the token that is sent as it is; nil if there is none.
func (a *auth) fixed() *grant {
	if a.opt.Token == nil {
		return nil
	}
	if token := a.opt.Token(); token != "" {
		return &grant{header: "Bearer " + token}
	}
	return nil
}

// usable is what was granted, unless that has ended or the credentials are other
// ones now.
func (a *auth) usable() *grant {
	g := a.granted.Load()
	if g == nil || g.configured != a.configured() || !g.end.IsZero() && !a.now().Before(g.end) {
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
	if g := a.fixed(); g != nil {
		if g.header != used.header {
			return g, nil // it was replaced meanwhile
		}
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

// replaceable reports whether the helper may know of something better than a grant that was
// refused.
func (a *auth) replaceable(g *grant) bool {
	return a.opt.Helper != nil && a.fixed() == nil && (g.source != nil || g.used != "")
}

// replace gets a grant of the same kind with other credentials from the helper, unless
// somebody has got another meanwhile.
func (a *auth) replace(ctx context.Context, refused *grant) (*grant, error) {
	if err := a.enter(ctx); err != nil {
		return nil, err
	}
	defer func() { <-a.turn }()
	if g := a.usable(); g != nil && g != refused {
		return g, nil
	}
	used, err := a.help(ctx, refused.used)
	if err != nil {
		return nil, err
	}
	g, err := a.make(ctx, refused.source, used)
	if err == nil {
		a.granted.Store(g)
	}
	return g, err
}

var errCredentials = errors.New("the credentials are not base64 of user:password")

// meet answers the first challenge that it can.
func (a *auth) meet(ctx context.Context, list []challenge) (*grant, error) {
	credentials := a.credentials()
	for _, c := range list {
		switch {
		case c.scheme == "bearer":
			s, err := newSource(c, a.opt)
			if err != nil {
				return nil, err
			}
			g, err := a.make(ctx, s, credentials)
			if e := (*backend.Error)(nil); a.opt.Helper == nil || !errors.As(err, &e) || !denied(e.Status) {
				return g, err
			}
			if credentials, err = a.help(ctx, credentials); err != nil {
				return nil, err
			}
			return a.make(ctx, s, credentials)
		case c.scheme == "basic" && credentials == "" && a.opt.Helper != nil:
			used, err := a.help(ctx, "")
			if err != nil {
				return nil, err
			}
			return a.make(ctx, nil, used)
		case c.scheme == "basic" && credentials != "":
			return a.make(ctx, nil, credentials)
		}
	}
	return nil, &backend.Error{Host: a.opt.Host, Status: http.StatusUnauthorized, Class: backend.ErrPermanent,
		Remedy: "configure auth for " + a.opt.Repo}
}

// make makes a grant of credentials: a token of a source or, where that is nil, themselves.
func (a *auth) make(ctx context.Context, s *tokenSource, credentials string) (*grant, error) {
	if strings.ContainsFunc(credentials, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, &backend.Error{Host: a.opt.Host, Cause: errCredentials, Class: backend.ErrPermanent}
	}
	g := &grant{configured: a.configured(), used: credentials, source: s}
	if s == nil {
		g.header = "Basic " + credentials
		if h := a.helped.Load(); h != nil && h.used == credentials {
			g.renew, g.end = h.renew, h.end
		}
		return g, nil
	}
	if credentials != "" && a.opt.Scheme == "https" && s.realm.Scheme == "http" && !a.opt.HTTP.SkipVerify {
		return nil, &backend.Error{Host: a.opt.Host, Cause: errPlain, Class: backend.ErrPermanent,
			Remedy: "give the token server TLS, or set skip_verify"}
	}
	asked := a.now()
	token, life, err := a.tokens.request(ctx, s, credentials)
	if err != nil {
		return nil, err
	}
	g.header = "Bearer " + token
	g.renew, g.end = asked.Add(life-margin(life)), asked.Add(life)
	return g, nil
}

// renew replaces a grant by a new one of the same kind, with new credentials of the helper
// if those are near their end, too.
func (a *auth) renew(ctx context.Context, old *grant) error {
	if err := a.enter(ctx); err != nil {
		return err
	}
	defer func() { <-a.turn }()
	if a.usable() != old {
		return nil
	}
	used := old.used
	if h := a.helped.Load(); h != nil && h.used == used && !a.now().Before(h.renew) {
		var err error
		if used, err = a.help(ctx, used); err != nil {
			return err
		}
	}
	g, err := a.make(ctx, old.source, used)
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
