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
		r, err := registry.New(d.o, d.registryOptions(place, b.Registry))
		if err != nil {
			return nil, nil, err
		}
		return d.remote(r, &b.Registry.HTTP), r.Close, nil
	default:
		return nil, nil, fmt.Errorf("backend type `%s` is not built into this version; use localfs or registry", b.Type)
	}
}

// remote puts what all network back ends need around one. Pauses between tries
// hold no share of the bytes under way.
func (d *Daemon) remote(o backend.Opener, h *config.HTTP) backend.Opener {
	return retry.New(d.fetchBytes.Wrap(o), retry.Options{Retries: int(h.RetryLimit)})
}

func (d *Daemon) httpOptions(h *config.HTTP) httprange.Options {
	return httprange.Options{
		SkipVerify: h.SkipVerify, CAFiles: h.CACertFiles, Header: d.cfg.Header,
		Timeout: time.Duration(h.Timeout) * time.Second, ConnectTimeout: time.Duration(h.ConnectTimeout) * time.Second,
	}
}

func (d *Daemon) registryOptions(place string, r *config.Registry) registry.Options {
	return registry.Options{
		HTTP: d.httpOptions(&r.HTTP), Scheme: r.Scheme, Host: r.Host, Repo: r.Repo, Token: r.RegistryToken.Reveal(),
		BlobURLScheme: r.BlobURLScheme, BlobRedirectedHost: r.BlobRedirectedHost,
		Credentials: func() string { return d.registryAuth(place, r.Auth) },
	}
}

// registryAuth is what the API set for a mountpoint or for the daemon, and else what
// was configured.
func (d *Daemon) registryAuth(place string, configured config.Secret) string {
	for _, id := range []string{place, ""} {
		if auth := d.overrides.value(id, "registry_auth"); auth != "" {
			return auth
		}
	}
	return configured.Reveal()
}

// hasProxy reports whether a back end is to be asked through a proxy.
func hasProxy(b *config.Backend) bool {
	return b != nil && b.Registry != nil && b.Registry.Proxy.URL.Reveal() != ""
}
