package daemon

import (
	"fmt"
	"time"

	"vrafs/backend"
	"vrafs/backend/localfs"
	"vrafs/backend/registry"
	"vrafs/backend/retry"
	"vrafs/config"
	"vrafs/internal/httprange"
)

// openBackend makes the back end that a configuration names, for what is mounted at
// place, and what releases it. It asks nobody yet: a blob that isn't there shows at
// its first read.
func (d *Daemon) openBackend(place string, c *config.Config) (backend.Opener, func(), error) {
	b := c.Backend
	if b == nil {
		return nil, nil, fmt.Errorf("invalid argument `the configuration names no backend`")
	}
	switch b.Type {
	case config.LocalFSType:
		o, err := localfs.New(d.o, localfs.Options{File: b.LocalFS.BlobFile, Dir: b.LocalFS.Dir, AltDirs: b.LocalFS.AltDirs})
		return o, func() {}, err
	case config.RegistryType:
		return d.openRegistry(place, b.Registry)
	default:
		return nil, nil, fmt.Errorf("backend type `%s` is not built into this version; use localfs or registry", b.Type)
	}
}

// remote puts what all network back ends need around one. Pauses between tries
// hold no share of the bytes under way.
func (d *Daemon) remote(o backend.Opener, h *config.HTTP) backend.Opener {
	return retry.New(d.fetchBytes.Wrap(o), retry.Options{Retries: int(h.RetryLimit)})
}

func (d *Daemon) httpOptions(place string, h *config.HTTP) (httprange.Options, error) {
	proxy, err := d.proxyOptions(place, &h.Proxy)
	return httprange.Options{
		SkipVerify: h.SkipVerify, CAFiles: h.CACertFiles, Header: d.cfg.Header, Proxy: proxy,
		Timeout: time.Duration(h.Timeout) * time.Second, ConnectTimeout: time.Duration(h.ConnectTimeout) * time.Second,
	}, err
}

func (d *Daemon) openRegistry(place string, r *config.Registry) (backend.Opener, func(), error) {
	h, err := d.httpOptions(place, &r.HTTP)
	if err != nil {
		return nil, nil, err
	}
	reg, err := registry.New(d.o, registry.Options{
		HTTP: h, Scheme: r.Scheme, Host: r.Host, Repo: r.Repo, Token: r.RegistryToken.Reveal(),
		BlobURLScheme: r.BlobURLScheme, BlobRedirectedHost: r.BlobRedirectedHost,
		Credentials: func() string { return d.setting(place, "registry_auth", r.Auth.Reveal()) },
	})
	if err != nil {
		return nil, nil, err
	}
	return d.remote(reg, &r.HTTP), reg.Close, nil
}

// setting is what the API set for a mountpoint or for the daemon, and else what was
// configured.
func (d *Daemon) setting(place, key, configured string) string {
	for _, id := range []string{place, ""} {
		if v := d.overrides.value(id, key); v != "" {
			return v
		}
	}
	return configured
}
