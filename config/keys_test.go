package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// A key is one of nydusd.md section 3 with what it means when it is absent and when it
// is set.
type key struct {
	v1, v2 string // paths; "" where the version has none
	with   string // the back end or cache that it belongs to; "" is any
	def    any    // its default; required for those that must be there
	set    any    // another value
	get    func(*Config) any
}

// required is the default of keys that have none.
const required = "(required)"

// Back ends with the least they need.
var leastBackends = map[string]map[string]any{
	"localfs":    {"dir": "/d"},
	"localdisk":  {"device_path": "/dev/x"},
	"registry":   {"host": "h", "repo": "r"},
	"oss":        {"endpoint": "e", "bucket_name": "b"},
	"s3":         {"endpoint": "e", "region": "r", "bucket_name": "b"},
	"http-proxy": {"addr": "http://a"},
}

// keys are all keys of section 3.
func keys() (list []key) {
	add := func(v1, v2 string, def, set any, get func(*Config) any) {
		list = append(list, key{v1: v1, v2: v2, def: def, set: set, get: get})
	}
	add("", "version", required, 2, func(c *Config) any { return c.Version })
	add("device.id", "id", "", "x", func(c *Config) any { return c.ID })
	add("device.backend.type", "backend.type", required, "localfs", func(c *Config) any { return c.Backend.Type })
	add("device.cache.compressed", "cache.compressed", false, true, func(c *Config) any { return c.Cache.Compressed })
	add("device.cache.validate", "cache.validate", false, true, func(c *Config) any { return c.Cache.Validate })
	add("device.cache.type", "cache.type", "", "dummycache", func(c *Config) any { return c.Cache.Type })
	add("mode", "", required, "cached", func(c *Config) any { return c.Rafs.Mode })
	add("", "rafs.mode", "direct", "cached", func(c *Config) any { return c.Rafs.Mode })
	add("digest_validate", "rafs.validate", false, true, func(c *Config) any { return c.Rafs.Validate })
	add("iostats_files", "rafs.iostats_files", false, true, func(c *Config) any { return c.Rafs.IOStatsFiles })
	add("access_pattern", "rafs.access_pattern", false, true, func(c *Config) any { return c.Rafs.AccessPattern })
	add("latest_read_files", "rafs.latest_read_files", false, true, func(c *Config) any { return c.Rafs.LatestReadFiles })
	add("enable_xattr", "rafs.enable_xattr", false, true, func(c *Config) any { return c.Rafs.EnableXattr })
	add("amplify_io", "rafs.batch_size", 1048576, 0, func(c *Config) any { return c.Rafs.BatchSize })
	list = append(list, prefetchKeys("cache", func(c *Config) *Prefetch { return &c.Cache.Prefetch })...)
	list = append(list, prefetchKeys("rafs", func(c *Config) *Prefetch { return &c.Rafs.Prefetch })...)
	list = append(list, cacheKeys()...)
	for kind, get := range map[string]func(*Config) *HTTP{
		"registry": func(c *Config) *HTTP { return &c.Backend.Registry.HTTP }, "oss": func(c *Config) *HTTP { return &c.Backend.OSS.HTTP },
		"s3": func(c *Config) *HTTP { return &c.Backend.S3.HTTP }, "http-proxy": func(c *Config) *HTTP { return &c.Backend.HTTPProxy.HTTP },
	} {
		list = append(list, httpKeys(kind, get)...)
	}
	return append(list, backendKeys()...)
}

// prefetchKeys are those of a prefetch table. Version 1 has one for both.
func prefetchKeys(of string, p func(*Config) *Prefetch) (list []key) {
	for _, k := range []struct {
		v1, v2   string
		def, set any
		get      func(*Prefetch) any
	}{
		{"enable", "", false, true, func(p *Prefetch) any { return p.Enable }},
		{"", "enable", required, true, func(p *Prefetch) any { return p.Enable }},
		{"threads_count", "threads", 8, 3, func(p *Prefetch) any { return p.Threads }},
		{"merging_size", "batch_size", 1048576, 4096, func(p *Prefetch) any { return p.BatchSize }},
		{"bandwidth_rate", "bandwidth_limit", 0, 7, func(p *Prefetch) any { return p.BandwidthLimit }},
		{"prefetch_all", "", true, false, func(p *Prefetch) any { return p.PrefetchAll }},
		{"", "prefetch_all", false, true, func(p *Prefetch) any { return p.PrefetchAll }},
		{"stream_prefetch", "stream_prefetch", false, true, func(p *Prefetch) any { return p.StreamPrefetch }},
	} {
		n := key{def: k.def, set: k.set, get: func(c *Config) any { return k.get(p(c)) }}
		if k.v1 != "" {
			n.v1 = "fs_prefetch." + k.v1
		}
		if k.v2 != "" {
			n.v2 = of + ".prefetch." + k.v2
		}
		list = append(list, n)
	}
	return list
}

func cacheKeys() []key {
	file := func(name string, def, set any, get func(*FileCache) any) key {
		return key{v1: "device.cache.config." + name, v2: "cache.filecache." + name, with: "filecache", def: def, set: set,
			get: func(c *Config) any { return get(c.Cache.FileCache) }}
	}
	return []key{
		file("work_dir", ".", "/w", func(f *FileCache) any { return f.WorkDir }),
		file("disable_indexed_map", false, true, func(f *FileCache) any { return f.DisableIndexedMap }),
		file("enable_encryption", false, false, func(f *FileCache) any { return f.EnableEncryption }),
		file("enable_convergent_encryption", false, true, func(f *FileCache) any { return f.EnableConvergentEncryption }),
		file("encryption_key", "", "abcd", func(f *FileCache) any { return f.EncryptionKey.Reveal() }),
		{v1: "device.cache.config.work_dir", v2: "cache.fscache.work_dir", with: "fscache", def: ".", set: "/w",
			get: func(c *Config) any { return c.Cache.FSCache.WorkDir }},
		{v2: "overlay.upper_dir", with: "overlay", def: required, set: "/u", get: func(c *Config) any { return c.Overlay.UpperDir }},
		{v2: "overlay.work_dir", with: "overlay", def: required, set: "/w", get: func(c *Config) any { return c.Overlay.WorkDir }},
	}
}

// of is a key of a back end's section.
func of(kind, name string, def, set any, get func(*Config) any) key {
	k := key{v1: "device.backend.config." + name, v2: "backend." + kind + "." + name, with: kind, def: def, set: set, get: get}
	if kind == HTTPProxyType {
		k.v1 = "" // refused there
	}
	return k
}

func httpKeys(kind string, h func(*Config) *HTTP) []key {
	proxy := func(name string, def, set any, get func(*Proxy) any) key {
		return of(kind, "proxy."+name, def, set, func(c *Config) any { return get(&h(c).Proxy) })
	}
	return []key{
		of(kind, "skip_verify", false, true, func(c *Config) any { return h(c).SkipVerify }),
		of(kind, "ca_cert_files", []any{}, []any{"/a", "/b"}, func(c *Config) any { return h(c).CACertFiles }),
		of(kind, "timeout", 5, 9, func(c *Config) any { return h(c).Timeout }),
		of(kind, "connect_timeout", 5, 9, func(c *Config) any { return h(c).ConnectTimeout }),
		of(kind, "retry_limit", 0, 255, func(c *Config) any { return h(c).RetryLimit }),
		proxy("url", "", "http://p", func(p *Proxy) any { return p.URL.Reveal() }),
		proxy("ping_url", "", "http://p/ping", func(p *Proxy) any { return p.PingURL.Reveal() }),
		proxy("fallback", true, false, func(p *Proxy) any { return p.Fallback }),
		proxy("check_interval", 5, 6, func(p *Proxy) any { return p.CheckInterval }),
		proxy("check_pause_elapsed", 300, 6, func(p *Proxy) any { return p.CheckPauseElapsed }),
		proxy("use_http", false, true, func(p *Proxy) any { return p.UseHTTP }),
		proxy("dragonfly_scheduler_endpoint", "", "http://d:8002", func(p *Proxy) any { return p.DragonflySchedulerEndpoint.Reveal() }),
	}
}

func backendKeys() []key {
	return []key{
		of("localfs", "blob_file", "", "/f", func(c *Config) any { return c.Backend.LocalFS.BlobFile }),
		of("localfs", "dir", required, "/x", func(c *Config) any { return c.Backend.LocalFS.Dir }),
		of("localfs", "alt_dirs", []any{}, []any{"/x"}, func(c *Config) any { return c.Backend.LocalFS.AltDirs }),
		of("localdisk", "device_path", required, "/x", func(c *Config) any { return c.Backend.LocalDisk.DevicePath }),
		of("localdisk", "disable_gpt", false, true, func(c *Config) any { return c.Backend.LocalDisk.DisableGPT }),
		of("registry", "scheme", "https", "http", func(c *Config) any { return c.Backend.Registry.Scheme }),
		of("registry", "host", required, "x", func(c *Config) any { return c.Backend.Registry.Host }),
		of("registry", "repo", required, "x", func(c *Config) any { return c.Backend.Registry.Repo }),
		of("registry", "auth", "", "dTpw", func(c *Config) any { return c.Backend.Registry.Auth.Reveal() }),
		of("registry", "registry_token", "", "t", func(c *Config) any { return c.Backend.Registry.RegistryToken.Reveal() }),
		of("registry", "blob_url_scheme", "", "http", func(c *Config) any { return c.Backend.Registry.BlobURLScheme }),
		of("registry", "blob_redirected_host", "", "x", func(c *Config) any { return c.Backend.Registry.BlobRedirectedHost }),
		of("oss", "scheme", "https", "http", func(c *Config) any { return c.Backend.OSS.Scheme }),
		of("oss", "endpoint", required, "x", func(c *Config) any { return c.Backend.OSS.Endpoint }),
		of("oss", "bucket_name", required, "x", func(c *Config) any { return c.Backend.OSS.BucketName }),
		of("oss", "object_prefix", "", "x/", func(c *Config) any { return c.Backend.OSS.ObjectPrefix }),
		of("oss", "access_key_id", "", "x", func(c *Config) any { return c.Backend.OSS.AccessKeyID.Reveal() }),
		of("oss", "access_key_secret", "", "x", func(c *Config) any { return c.Backend.OSS.AccessKeySecret.Reveal() }),
		of("s3", "scheme", "https", "http", func(c *Config) any { return c.Backend.S3.Scheme }),
		of("s3", "endpoint", required, "x", func(c *Config) any { return c.Backend.S3.Endpoint }),
		of("s3", "region", required, "x", func(c *Config) any { return c.Backend.S3.Region }),
		of("s3", "bucket_name", required, "x", func(c *Config) any { return c.Backend.S3.BucketName }),
		of("s3", "object_prefix", "", "x/", func(c *Config) any { return c.Backend.S3.ObjectPrefix }),
		of("s3", "access_key_id", "", "x", func(c *Config) any { return c.Backend.S3.AccessKeyID.Reveal() }),
		of("s3", "access_key_secret", "", "x", func(c *Config) any { return c.Backend.S3.AccessKeySecret.Reveal() }),
		of("http-proxy", "addr", required, "http://x", func(c *Config) any { return c.Backend.HTTPProxy.Addr.Reveal() }),
		of("http-proxy", "path", "/", "/x", func(c *Config) any { return c.Backend.HTTPProxy.Path }),
	}
}

// document is the least text that k belongs into, as tables, for version 1 or 2.
func (k *key) document(version int) map[string]any {
	backend := "localfs"
	if leastBackends[k.with] != nil {
		backend = k.with
	}
	least := map[string]any{}
	for name, v := range leastBackends[backend] {
		least[name] = v
	}
	cache := map[string]any{}
	if version == 1 {
		if k.with == "filecache" || k.with == "fscache" {
			cache = map[string]any{"type": k.with, "config": map[string]any{}}
		}
		return map[string]any{"mode": "direct", "device": map[string]any{
			"backend": map[string]any{"type": backend, "config": least}, "cache": cache}}
	}
	if k.with == "filecache" || k.with == "fscache" {
		cache = map[string]any{"type": k.with, k.with: map[string]any{}}
	}
	d := map[string]any{"version": 2, "backend": map[string]any{"type": backend, backend: least}, "cache": cache}
	if k.with == "overlay" {
		d["overlay"] = map[string]any{"upper_dir": "/a", "work_dir": "/b"}
	}
	return d
}

// put sets the value at a path, in tables that are made where missing; those of prefetch
// in version 2 have to say whether they are on.
func put(d map[string]any, path string, v any) {
	for {
		name, rest, more := strings.Cut(path, ".")
		if !more {
			d[name] = v
			return
		}
		next, ok := d[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			if name == "prefetch" {
				next["enable"] = false
			}
			d[name] = next
		}
		d, path = next, rest
	}
}

// drop removes what is at a path.
func drop(d map[string]any, path string) {
	for {
		name, rest, more := strings.Cut(path, ".")
		if !more {
			delete(d, name)
			return
		}
		next, ok := d[name].(map[string]any)
		if !ok {
			return
		}
		d, path = next, rest
	}
}

// texts are a document in every format of its version.
func texts(t *testing.T, version int, d map[string]any) map[string]string {
	t.Helper()
	js, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{fmt.Sprint("v", version, " JSON"): string(js)}
	if version == 2 {
		p, err := toml.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		out["v2 TOML"] = string(p)
	}
	return out
}

// same compares a value of a configuration with one of a text.
func same(got, want any) bool {
	a, errA := json.Marshal(got)
	b, errB := json.Marshal(want)
	return errA == nil && errB == nil && string(a) == string(b)
}

// each calls f for every version that has the key.
func (k *key) each(t *testing.T, f func(t *testing.T, version int, path string)) {
	t.Helper()
	for version, path := range map[int]string{1: k.v1, 2: k.v2} {
		if path != "" {
			t.Run(fmt.Sprintf("v%d %s %s", version, k.with, path), func(t *testing.T) { f(t, version, path) })
		}
	}
}

// TestEveryKeyHasItsDefaultAndItsMeaning in each version and format.
func TestEveryKeyHasItsDefaultAndItsMeaning(t *testing.T) {
	for _, k := range keys() {
		k.each(t, func(t *testing.T, version int, path string) {
			d := k.document(version)
			if version == 2 && k.v1 == "" && strings.Contains(path, ".prefetch.") {
				put(d, path, k.set) // the table is there, for the key that it requires
			}
			drop(d, path)
			for format, text := range texts(t, version, d) {
				c, err := Parse([]byte(text))
				switch {
				case k.def == required:
					if err == nil {
						t.Errorf("%s: without it: got %v", format, k.get(c))
					}
				case err != nil:
					t.Errorf("%s: without it: %v", format, err)
				case !same(k.get(c), k.def):
					t.Errorf("%s: default %v, want %v", format, k.get(c), k.def)
				}
			}
			put(d, path, k.set)
			for format, text := range texts(t, version, d) {
				c, err := Parse([]byte(text))
				if err != nil || !same(k.get(c), k.set) {
					t.Errorf("%s: set to %v: %v\n%s", format, k.set, err, text)
				}
			}
		})
	}
}

// TestEveryKeyOfAWrongTypeIsRefused with its name and line.
func TestEveryKeyOfAWrongTypeIsRefused(t *testing.T) {
	const text, number = "of another type", 987654
	for _, k := range keys() {
		k.each(t, func(t *testing.T, version int, path string) {
			wrong, mark := any(text), text
			if reflect.TypeOf(k.set).Kind() == reflect.String {
				wrong, mark = number, fmt.Sprint(number)
			}
			d := k.document(version)
			put(d, path, wrong)
			for format, text := range texts(t, version, d) {
				_, err := Parse([]byte(text))
				line := 1 + strings.Count(text[:strings.Index(text, mark)], "\n")
				if format != "v2 TOML" && path == "version" {
					continue // which decides what the text is
				}
				ke, ok := errors.AsType[*KeyError](err)
				if !ok || ke.Key != path || ke.Line != line || !errors.Is(err, ErrParse) || strings.Contains(err.Error(), mark) {
					t.Errorf("%s: got %v, want %s at line %d of\n%s", format, err, path, line, text)
				}
			}
		})
	}
}
