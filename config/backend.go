package config

import "math"

// Defaults of the back-end sections.
const (
	defaultTimeout       = 5
	defaultCheckInterval = 5
	defaultCheckPause    = 300
	defaultFailureLimit  = 5
	defaultWindow        = 1 << 20
	maxWindow            = 64 << 20
	defaultS3Endpoint    = "s3.amazonaws.com"
)

// read fills the section called name, whose keys are the same in both versions.
func (b *Backend) read(name string, t table) {
	switch name {
	case LocalFSType:
		b.LocalFS = &LocalFS{AltDirs: []string{}}
		t.str("blob_file", &b.LocalFS.BlobFile)
		t.str("dir", &b.LocalFS.Dir)
		t.strs("alt_dirs", &b.LocalFS.AltDirs)
	case LocalDiskType:
		b.LocalDisk = &LocalDisk{}
		t.str("device_path", &b.LocalDisk.DevicePath)
		t.bool("disable_gpt", &b.LocalDisk.DisableGPT)
	case OSSType:
		b.OSS = readOSS(t)
	case S3Type:
		b.S3 = readS3(t)
	case RegistryType:
		b.Registry = readRegistry(t)
	case HTTPProxyType:
		b.HTTPProxy = &HTTPProxy{HTTP: readHTTP(t), Path: "/"}
		t.url("addr", &b.HTTPProxy.Addr)
		t.str("path", &b.HTTPProxy.Path)
	}
}

func readHTTP(t table) HTTP {
	h := HTTP{CACertFiles: []string{}, Timeout: defaultTimeout, ConnectTimeout: defaultTimeout}
	t.bool("skip_verify", &h.SkipVerify)
	t.strs("ca_cert_files", &h.CACertFiles)
	t.uint32("timeout", &h.Timeout)
	t.uint32("connect_timeout", &h.ConnectTimeout)
	t.uint8("retry_limit", &h.RetryLimit)
	h.Proxy = Proxy{Fallback: true, CheckInterval: defaultCheckInterval, CheckPauseElapsed: defaultCheckPause, WindowSize: defaultWindow}
	if p, ok := t.table("proxy"); ok {
		readProxy(p, &h.Proxy)
	}
	return h
}

func readProxy(t table, p *Proxy) {
	t.url("url", &p.URL)
	t.url("ping_url", &p.PingURL)
	t.bool("fallback", &p.Fallback)
	t.uint("check_interval", &p.CheckInterval, math.MaxInt64)
	t.uint("check_pause_elapsed", &p.CheckPauseElapsed, math.MaxInt64)
	t.bool("use_http", &p.UseHTTP)
	t.url("dragonfly_scheduler_endpoint", &p.DragonflySchedulerEndpoint)
	t.uint("window_size", &p.WindowSize, maxWindow)
}

func readRegistry(t table) *Registry {
	r := &Registry{HTTP: readHTTP(t), Scheme: "https"}
	scheme := ""
	if t.str("scheme", &scheme); scheme == "http" {
		r.Scheme = scheme // anything else, the empty text too, is https
	}
	t.str("host", &r.Host)
	t.str("repo", &r.Repo)
	t.secret("auth", &r.Auth)
	t.secret("registry_token", &r.RegistryToken)
	t.str("blob_url_scheme", &r.BlobURLScheme)
	t.str("blob_redirected_host", &r.BlobRedirectedHost)
	r.Mirrors = readMirrors(t)
	t.str("credential_helper", &r.CredentialHelper)
	return r
}

// readMirrors reads the mirrors of releases 2.1 to 2.3 (section 3.6).
func readMirrors(t table) (list []Mirror) {
	for _, s := range t.tables("mirrors") {
		m := Mirror{HealthCheckInterval: defaultCheckInterval, FailureLimit: defaultFailureLimit}
		s.url("host", &m.Host)
		s.url("ping_url", &m.PingURL)
		s.secrets("headers", &m.Headers)
		s.bool("auth_through", &m.AuthThrough)
		s.uint("health_check_interval", &m.HealthCheckInterval, math.MaxInt64)
		s.uint8("failure_limit", &m.FailureLimit)
		list = append(list, m)
	}
	return list
}

func readOSS(t table) *OSS {
	o := &OSS{HTTP: readHTTP(t), Scheme: "https", Mirrors: readMirrors(t)}
	readStore(t, &o.Scheme, &o.Endpoint, &o.BucketName, &o.ObjectPrefix, &o.AccessKeyID, &o.AccessKeySecret, &o.SecurityToken)
	return o
}

func readS3(t table) *S3 {
	s := &S3{HTTP: readHTTP(t), Scheme: "https", AddressingStyle: PathStyle}
	readStore(t, &s.Scheme, &s.Endpoint, &s.BucketName, &s.ObjectPrefix, &s.AccessKeyID, &s.AccessKeySecret, &s.SecurityToken)
	t.str("addressing_style", &s.AddressingStyle)
	t.str("region", &s.Region)
	if !t.has("endpoint") {
		t.missing("endpoint")
	}
	if s.Endpoint == "" {
		s.Endpoint = defaultS3Endpoint
	}
	return s
}

// readStore reads what the two object stores have in common.
func readStore(t table, scheme, endpoint, bucket, prefix *string, id, secret, token *Secret) {
	t.str("scheme", scheme)
	if *scheme == "" {
		*scheme = "https"
	}
	t.str("endpoint", endpoint)
	t.str("bucket_name", bucket)
	t.str("object_prefix", prefix)
	t.secret("access_key_id", id)
	t.secret("access_key_secret", secret)
	t.secret("security_token", token)
}
