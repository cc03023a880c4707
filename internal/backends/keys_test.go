package backends

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"

	"vrafs/config"
	"vrafs/internal/httprange"
	"vrafs/internal/opener"
)

// told is everything that a back end is told by its section.
func told(t *testing.T, kind string, section map[string]any) string {
	t.Helper()
	text, err := json.Marshal(section)
	if err != nil {
		t.Fatal(err)
	}
	b := parsed(t, kind, string(text))
	o := &Options{Opener: opener.Local(), Network: &Network{}}
	common := func(h *config.HTTP) string {
		opt, err := o.http(h)
		if err != nil {
			t.Fatal(err)
		}
		p := &opt.Proxy
		return fmt.Sprintln(opt.SkipVerify, opt.CAFiles, opt.Timeout, opt.ConnectTimeout, h.RetryLimit, p.URL(), p.Ping, p.Fallback,
			p.UseHTTP, p.Interval, p.Pause, h.Proxy.WindowSize)
	}
	switch kind {
	case config.RegistryType:
		r := o.registry(b.Registry, httprange.Options{})
		return common(&b.Registry.HTTP) + fmt.Sprintln(r.Scheme, r.Host, r.Repo, r.Token(), r.Credentials(), r.BlobURLScheme, r.BlobRedirectedHost,
			len(b.Registry.Mirrors))
	case config.S3Type:
		s := o.s3(b.S3, httprange.Options{})
		return common(&b.S3.HTTP) + fmt.Sprintln(s.Scheme, s.Endpoint, s.Region, s.Name, s.Prefix, s.Keys(), s.VirtualHosted)
	case config.OSSType:
		s := o.oss(b.OSS, httprange.Options{})
		return common(&b.OSS.HTTP) + fmt.Sprintln(s.Scheme, s.Endpoint, s.Name, s.Prefix, s.Keys(), len(b.OSS.Mirrors))
	}
	return common(&b.HTTPProxy.HTTP) + fmt.Sprintln(b.HTTPProxy.Addr.Reveal(), b.HTTPProxy.Path)
}

// TestEveryKeyOfANetworkBackEndReachesIt: what it is told changes with each of nydusd's
// keys, and with ours. What they do then is for the tests of the parts.
func TestEveryKeyOfANetworkBackEndReachesIt(t *testing.T) {
	type keys = map[string]any
	mirrors := []keys{{"host": "m"}}
	common := keys{"skip_verify": true, "ca_cert_files": []string{"/a.pem"}, "timeout": 7, "connect_timeout": 7, "retry_limit": 7}
	proxy := keys{"url": "http://p", "ping_url": "http://p/ping", "fallback": false, "check_interval": 7, "check_pause_elapsed": 7,
		"use_http": true, "window_size": 7}
	store := keys{"scheme": "http", "endpoint": "other", "bucket_name": "other", "object_prefix": "p/", "access_key_id": "i", "access_key_secret": "s", "security_token": "t"}
	for _, tt := range []struct {
		kind string
		base keys
		own  []keys
	}{
		{"registry", keys{"host": "h", "repo": "r"}, []keys{{"scheme": "http", "host": "other", "repo": "other", "auth": "dTpw", "registry_token": "t",
			"blob_url_scheme": "http", "blob_redirected_host": "o", "mirrors": mirrors}}},
		{"s3", keys{"endpoint": "e", "region": "r", "bucket_name": "b"}, []keys{store, {"region": "other", "addressing_style": "virtual"}}},
		{"oss", keys{"endpoint": "e", "bucket_name": "b"}, []keys{store, {"mirrors": mirrors}}},
		{"http-proxy", keys{"addr": "http://h"}, []keys{{"addr": "http://other", "path": "/p"}}},
	} {
		plain := told(t, tt.kind, tt.base)
		check := func(name string, change keys) {
			t.Helper()
			section := maps.Clone(tt.base)
			maps.Copy(section, change)
			if told(t, tt.kind, section) == plain {
				t.Errorf("%s: %s changes nothing", tt.kind, name)
			}
		}
		for _, set := range append(tt.own, common) {
			for key, value := range set {
				check(key, keys{key: value})
			}
		}
		for key, value := range proxy {
			check("proxy."+key, keys{"proxy": keys{key: value}})
		}
	}
}
