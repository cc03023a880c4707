package backends

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"vrafs/backend"
	"vrafs/backend/httpproxy"
	"vrafs/backend/localdisk"
	"vrafs/backend/localfs"
	"vrafs/backend/oss"
	"vrafs/backend/registry"
	"vrafs/backend/retry"
	"vrafs/backend/s3"
	"vrafs/config"
	"vrafs/internal/health"
	"vrafs/internal/httprange"
	"vrafs/internal/opener"
)

// Options are the circumstances of a back end beyond its configuration.
type Options struct {
	Opener opener.Opener
	// Header is added to every request over HTTP.
	Header http.Header
	// Network is shared with other back ends of the process; nil for nothing.
	Network *Network
	// Set gives what was set at run time in the place of configured values, for keys that
	// are set together, or nil if the first of them isn't; it is asked at every request. Keys
	// are those of the control API's configuration. nil: nothing is.
	Set func(keys ...string) []string
	// Helper gives credentials for a repository of a registry, others than were refused and
	// in the same form (base64 of user:password), where no socket of a helper is named; nil
	// gives none.
	Helper func(host, repo, refused string) (credentials string, end time.Time, err error)
	// Log is told of options without effect.
	Log *slog.Logger
}

// Open makes the back end of a configuration, and gives what releases it. It asks
// nobody yet: a blob that isn't there shows at its first read.
func Open(b *config.Backend, o Options) (backend.Opener, func(), error) {
	if b == nil {
		return nil, nil, fmt.Errorf("invalid argument `the configuration names no backend`")
	}
	if o.Network == nil {
		o.Network = &Network{}
	}
	switch b.Type {
	case config.LocalFSType:
		fs, err := localfs.New(o.Opener, localfs.Options{File: b.LocalFS.BlobFile, Dir: b.LocalFS.Dir, AltDirs: b.LocalFS.AltDirs})
		return fs, func() {}, err
	case config.LocalDiskType:
		disk, err := localdisk.New(o.Opener, localdisk.Options{Path: b.LocalDisk.DevicePath, Whole: b.LocalDisk.DisableGPT})
		return disk, func() {}, err
	case config.RegistryType:
		return o.remote(&b.Registry.HTTP, func(h httprange.Options) (remote, error) { return o.openRegistry(b.Registry, h) })
	case config.S3Type:
		return o.remote(&b.S3.HTTP, func(h httprange.Options) (remote, error) { return s3.New(o.Opener, o.s3(b.S3, h)) })
	case config.OSSType:
		return o.remote(&b.OSS.HTTP, func(h httprange.Options) (remote, error) { return o.openOSS(b.OSS, h) })
	case config.HTTPProxyType:
		return o.remote(&b.HTTPProxy.HTTP, func(h httprange.Options) (remote, error) {
			return httpproxy.New(o.Opener, httpproxy.Options{HTTP: h, Addr: b.HTTPProxy.Addr.Reveal(), Path: b.HTTPProxy.Path})
		})
	default:
		return nil, nil, fmt.Errorf("unsupported backend type `%s`", b.Type)
	}
}

// A remote is a network back end.
type remote interface {
	backend.Opener
	Close()
}

// remote makes a network back end, and puts around it what all of them need. Pauses
// between tries hold no share of the bytes under way.
func (o *Options) remote(h *config.HTTP, open func(httprange.Options) (remote, error)) (backend.Opener, func(), error) {
	opt, err := o.http(h)
	if err != nil {
		return nil, nil, err
	}
	r, err := open(opt)
	if err != nil {
		return nil, nil, err
	}
	return retry.New(o.share(h, r, o.Network.wrap(r)), retry.Options{Retries: int(h.RetryLimit), Count: func() { o.Network.retries.Add(1) }}), r.Close, nil
}

func (o *Options) http(h *config.HTTP) (httprange.Options, error) {
	proxy, err := o.proxy(&h.Proxy)
	return httprange.Options{
		SkipVerify: h.SkipVerify, CAFiles: h.CACertFiles, Header: o.Header, Proxy: proxy, Hosts: o.Network.Hosts,
		Watch:   func(host string, h *health.Health) func() { return o.Network.watch("proxy", host, h) },
		Timeout: time.Duration(h.Timeout) * time.Second, ConnectTimeout: time.Duration(h.ConnectTimeout) * time.Second,
	}, err
}

func (o *Options) registry(r *config.Registry, h httprange.Options) registry.Options {
	return registry.Options{
		HTTP: h, Scheme: r.Scheme, Host: r.Host, Repo: r.Repo,
		Token:         func() string { return o.setting("registry_token", r.RegistryToken.Reveal()) },
		BlobURLScheme: r.BlobURLScheme, BlobRedirectedHost: r.BlobRedirectedHost,
		Credentials: func() string { return o.setting("registry_auth", r.Auth.Reveal()) },
		Helper:      o.helper(r.CredentialHelper, r.Host, r.Repo),
	}
}

// helper is how a registry gets credentials beyond those of its configuration; nil if it
// doesn't.
func (o *Options) helper(socket, host, repo string) func(context.Context, string) (string, time.Time, error) {
	if h := o.Network.helper(socket, host, repo); h != nil || o.Helper == nil {
		return h
	}
	return func(_ context.Context, refused string) (string, time.Time, error) {
		return o.Helper(host, repo, refused)
	}
}

func (o *Options) s3(s *config.S3, h httprange.Options) s3.Options {
	return s3.Options{
		Bucket: httprange.Bucket{HTTP: h, Scheme: s.Scheme, Endpoint: s.Endpoint, Name: s.BucketName, Prefix: s.ObjectPrefix,
			Keys: o.keys(s.AccessKeyID, s.AccessKeySecret, s.SecurityToken)},
		Region: s.Region, VirtualHosted: s.AddressingStyle == config.VirtualStyle,
	}
}

func (o *Options) oss(c *config.OSS, h httprange.Options) oss.Options {
	return oss.Options{Bucket: httprange.Bucket{HTTP: h, Scheme: c.Scheme, Endpoint: c.Endpoint, Name: c.BucketName, Prefix: c.ObjectPrefix,
		Keys: o.keys(c.AccessKeyID, c.AccessKeySecret, c.SecurityToken)}}
}

// keys are those of an object store: configured, or set at run time, and never parts of both.
func (o *Options) keys(id, secret, token config.Secret) func() httprange.Keys {
	return func() httprange.Keys {
		if o.Set != nil {
			if v := o.Set("access_key_id", "access_key_secret", "security_token"); v != nil {
				return httprange.Keys{ID: v[0], Secret: v[1], Token: v[2]}
			}
		}
		return httprange.Keys{ID: id.Reveal(), Secret: secret.Reveal(), Token: token.Reveal()}
	}
}

// setting is what was set at run time for a key, and else what was configured.
func (o *Options) setting(key, configured string) string {
	if o.Set != nil {
		if v := o.Set(key); v != nil {
			return v[0]
		}
	}
	return configured
}
