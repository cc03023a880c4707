package backends

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"vrafs/backend"
	"vrafs/backend/mirror"
	"vrafs/backend/oss"
	"vrafs/backend/registry"
	"vrafs/config"
	"vrafs/internal/health"
	"vrafs/internal/httprange"
)

// mirrored is an origin with mirrors before it.
type mirrored struct {
	backend.Opener
	closers []func()
}

// Close ends the probes before the servers that they ask.
func (m *mirrored) Close() {
	for i := len(m.closers) - 1; i >= 0; i-- {
		m.closers[i]()
	}
}

// A place is a back end that says of itself whether it is alive.
type place interface {
	remote
	// Probe asks for u, or where that is nil for what such servers have.
	Probe(ctx context.Context, u *url.URL) error
}

// mirrors puts the mirrors of a configuration before an origin. open makes the back end
// of one, with its header and without a proxy.
func (o *Options) mirrors(origin remote, list []config.Mirror, scheme string, h httprange.Options,
	open func(m *config.Mirror, u *url.URL, h httprange.Options) (place, bool, error)) (remote, error) {
	if len(list) == 0 {
		return origin, nil
	}
	all := &mirrored{closers: []func(){origin.Close}}
	var mirrors []mirror.Mirror
	for i := range list {
		m := &list[i]
		u, ping, err := mirrorURLs(m, scheme)
		if err == nil {
			h.Header, err = mirrorHeader(o.Header, m.Headers)
		}
		if err != nil {
			all.Close()
			return nil, err
		}
		h.Proxy = httprange.Proxy{}
		p, probed, err := open(m, u, h)
		if err != nil {
			all.Close()
			return nil, err
		}
		w := health.Options{Failures: int(m.FailureLimit), Interval: interval(m.HealthCheckInterval), Pause: mirrorPause, WhenSick: true}
		if probed || ping != nil {
			w.Probe = func(ctx context.Context) error { return p.Probe(ctx, ping) }
		}
		watched := health.New(w)
		all.closers = append(all.closers, p.Close, watched.Close, o.Network.watch("mirror", u.Host, watched))
		mirrors = append(mirrors, mirror.Mirror{Blobs: p, Health: watched})
	}
	all.Opener = mirror.New(origin, mirrors)
	return all, nil
}

// mirrorPause is how long after the last read a sick mirror is probed.
const mirrorPause = 5 * time.Minute

// mirrorURLs are a mirror's address, by default with the origin's scheme, and that of its
// probe, which may be nil.
func mirrorURLs(m *config.Mirror, scheme string) (u, ping *url.URL, err error) {
	address := m.Host.Reveal()
	if address != "" && !strings.Contains(address, "://") {
		address = scheme + "://" + address
	}
	if u, err = proxyURL("mirrors.host", address); err == nil && (u == nil || strings.Trim(u.Path, "/") != "") {
		err = fmt.Errorf("mirrors.host: want [scheme://]name[:port]")
	}
	if err == nil {
		ping, err = proxyURL("mirrors.ping_url", m.PingURL.Reveal())
	}
	return u, ping, err
}

// mirrorHeader is what goes with every request to a mirror.
func mirrorHeader(all http.Header, own map[string]config.Secret) (http.Header, error) {
	h := all.Clone()
	if h == nil {
		h = http.Header{}
	}
	for name, value := range own {
		if !validHeader(name, value.Reveal()) {
			return nil, fmt.Errorf("mirrors.headers: %.80q: not an HTTP header", name)
		}
		h.Set(name, value.Reveal())
	}
	return h, nil
}

func (o *Options) openRegistry(r *config.Registry, h httprange.Options) (remote, error) {
	opt := o.registry(r, h)
	origin, err := registry.New(o.Opener, opt)
	if err != nil {
		return nil, err
	}
	return o.mirrors(origin, r.Mirrors, r.Scheme, h, func(m *config.Mirror, u *url.URL, h httprange.Options) (place, bool, error) {
		opt := opt
		opt.HTTP, opt.Scheme, opt.Host = h, u.Scheme, u.Host
		opt.BlobURLScheme, opt.BlobRedirectedHost = "", ""
		opt.Helper = o.helper(r.CredentialHelper, u.Host, r.Repo)
		if !m.AuthThrough {
			opt.Origin = origin
		}
		p, err := registry.New(o.Opener, opt)
		return p, true, err
	})
}

func (o *Options) openOSS(c *config.OSS, h httprange.Options) (remote, error) {
	opt := o.oss(c, h)
	origin, err := oss.New(o.Opener, opt)
	if err != nil {
		return nil, err
	}
	return o.mirrors(origin, c.Mirrors, c.Scheme, h, func(_ *config.Mirror, u *url.URL, h httprange.Options) (place, bool, error) {
		opt := opt
		opt.HTTP, opt.Scheme, opt.Host = h, u.Scheme, u.Host
		p, err := oss.New(o.Opener, opt)
		return p, false, err
	})
}
