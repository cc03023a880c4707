package daemon

import (
	"fmt"
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
	case config.LocalDiskType:
		o, err := localdisk.New(d.o, localdisk.Options{Path: b.LocalDisk.DevicePath, Whole: b.LocalDisk.DisableGPT})
		return o, func() {}, err
	case config.RegistryType:
		return d.openRemote(place, &b.Registry.HTTP, func(h httprange.Options) (remote, error) {
			return registry.New(d.o, d.registryOptions(place, b.Registry, h))
		})
	case config.S3Type:
		return d.openRemote(place, &b.S3.HTTP, func(h httprange.Options) (remote, error) { return s3.New(d.o, s3Options(b.S3, h)) })
	case config.OSSType:
		return d.openRemote(place, &b.OSS.HTTP, func(h httprange.Options) (remote, error) { return oss.New(d.o, ossOptions(b.OSS, h)) })
	case config.HTTPProxyType:
		return d.openRemote(place, &b.HTTPProxy.HTTP, func(h httprange.Options) (remote, error) {
			return httpproxy.New(d.o, httpproxy.Options{HTTP: h, Addr: b.HTTPProxy.Addr.Reveal(), Path: b.HTTPProxy.Path})
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

// openRemote makes a network back end, and puts around it what all of them need.
// Pauses between tries hold no share of the bytes under way.
func (d *Daemon) openRemote(place string, h *config.HTTP, open func(httprange.Options) (remote, error)) (backend.Opener, func(), error) {
	opt, err := d.httpOptions(place, h)
	if err != nil {
		return nil, nil, err
	}
	r, err := open(opt)
	if err != nil {
		return nil, nil, err
	}
	return retry.New(d.fetchBytes.Wrap(r), retry.Options{Retries: int(h.RetryLimit)}), r.Close, nil
}

func (d *Daemon) httpOptions(place string, h *config.HTTP) (httprange.Options, error) {
	proxy, err := d.proxyOptions(place, &h.Proxy)
	return httprange.Options{
		SkipVerify: h.SkipVerify, CAFiles: h.CACertFiles, Header: d.cfg.Header, Proxy: proxy,
		Timeout: time.Duration(h.Timeout) * time.Second, ConnectTimeout: time.Duration(h.ConnectTimeout) * time.Second,
	}, err
}

func (d *Daemon) registryOptions(place string, r *config.Registry, h httprange.Options) registry.Options {
	return registry.Options{
		HTTP: h, Scheme: r.Scheme, Host: r.Host, Repo: r.Repo, Token: r.RegistryToken.Reveal(),
		BlobURLScheme: r.BlobURLScheme, BlobRedirectedHost: r.BlobRedirectedHost,
		Credentials: func() string { return d.setting(place, "registry_auth", r.Auth.Reveal()) },
	}
}

func s3Options(s *config.S3, h httprange.Options) s3.Options {
	return s3.Options{
		HTTP: h, Scheme: s.Scheme, Endpoint: s.Endpoint, Region: s.Region, Bucket: s.BucketName, Prefix: s.ObjectPrefix,
		AccessKeyID: s.AccessKeyID.Reveal(), AccessKeySecret: s.AccessKeySecret.Reveal(),
	}
}

func ossOptions(o *config.OSS, h httprange.Options) oss.Options {
	return oss.Options{
		HTTP: h, Scheme: o.Scheme, Endpoint: o.Endpoint, Bucket: o.BucketName, Prefix: o.ObjectPrefix,
		AccessKeyID: o.AccessKeyID.Reveal(), AccessKeySecret: o.AccessKeySecret.Reveal(),
	}
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
