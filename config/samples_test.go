package config

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
)

// The samples of the description of the configuration (3.2 and 3.3), verbatim but
// for the back-end section left open there.
const (
	sampleV1 = `{ "device": {
    "id": "/42",
    "backend": { "type": "registry", "config": { "host": "registry.example:5000", "repo": "library/nginx" } },
    "cache":   { "type": "blobcache", "compressed": false, "validate": false,
                 "config": { "work_dir": "/var/lib/nydus/cache", "disable_indexed_map": false } } },
  "mode": "direct",
  "digest_validate": false, "iostats_files": false, "access_pattern": false, "latest_read_files": false,
  "enable_xattr": true, "amplify_io": 1048576,
  "fs_prefetch": { "enable": false, "threads_count": 8, "merging_size": 1048576,
                   "bandwidth_rate": 0, "prefetch_all": true, "stream_prefetch": false } }`

	sampleTOML = `version = 2
id = "my-image"
[backend]
type = "registry"                # localdisk localfs oss s3 registry http-proxy
[backend.registry]
host = "registry.example:5000"
repo = "library/nginx"
[cache]
type = "filecache"               # blobcache filecache fscache dummycache ""
compressed = false
validate = false
[cache.prefetch]
enable = true
threads = 8
batch_size = 1048576
bandwidth_limit = 0
prefetch_all = false
stream_prefetch = false
[cache.filecache]
work_dir = "/var/lib/nydus/cache"
disable_indexed_map = false
enable_encryption = false
enable_convergent_encryption = false
encryption_key = ""
[cache.fscache]
work_dir = "/var/lib/nydus/fscache"
[rafs]
mode = "direct"
batch_size = 1048576             # = amplify_io
validate = false
enable_xattr = true
iostats_files = false
access_pattern = false
latest_read_files = false
[rafs.prefetch]                  # same keys as cache.prefetch
enable = true
[overlay]
upper_dir = "/overlay/upper"
work_dir = "/overlay/work"
`
)

func defaultHTTP() HTTP {
	return HTTP{CACertFiles: []string{}, Timeout: 5, ConnectTimeout: 5,
		Proxy: Proxy{Fallback: true, CheckInterval: 5, CheckPauseElapsed: 300, WindowSize: 1 << 20}}
}

func sampleRegistry() *Backend {
	return &Backend{Type: "registry", Registry: &Registry{HTTP: defaultHTTP(), Scheme: "https",
		Host: "registry.example:5000", Repo: "library/nginx"}}
}

func TestSamplesParseToWhatTheySay(t *testing.T) {
	on := Prefetch{Enable: true, Threads: 8, BatchSize: 1 << 20}
	off := Prefetch{Threads: 8, BatchSize: 1 << 20, PrefetchAll: true}
	v1 := &Config{
		Version: 2, ID: "/42", Backend: sampleRegistry(), ExternalBackends: []ExternalBackend{},
		Cache: Cache{Type: "blobcache", Prefetch: off, FileCache: &FileCache{WorkDir: "/var/lib/nydus/cache"}},
		Rafs:  Rafs{Mode: "direct", BatchSize: 1 << 20, EnableXattr: true, Prefetch: off},
	}
	v2 := &Config{
		Version: 2, ID: "my-image", Backend: sampleRegistry(), ExternalBackends: []ExternalBackend{},
		Cache: Cache{Type: "filecache", Prefetch: on,
			FileCache: &FileCache{WorkDir: "/var/lib/nydus/cache"}, FSCache: &FSCache{WorkDir: "/var/lib/nydus/fscache"}},
		Rafs:    Rafs{Mode: "direct", BatchSize: 1 << 20, EnableXattr: true, Prefetch: on},
		Overlay: &Overlay{UpperDir: "/overlay/upper", WorkDir: "/overlay/work"},
	}
	for _, tt := range []struct {
		name string
		text string
		want *Config
	}{
		{"v1 JSON", sampleV1, v1},
		{"v2 TOML", sampleTOML, v2},
		{"v2 JSON", toJSON(t, v2), v2},
		{"v1 as v2 JSON", toJSON(t, v1), v1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if !got.Equal(tt.want) {
				t.Errorf("got %s\nwant %s", toJSON(t, got), toJSON(t, tt.want))
			}
		})
	}
}

func toJSON(t testing.TB, c *Config) string {
	t.Helper()
	p, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

// v1With and v2With put one back end into the smallest text of each version.
func v1With(kind, keys string) string {
	return `{"device":{"backend":{"type":"` + kind + `","config":{` + keys + `}}},"mode":"direct"}`
}

func v2With(kind, keys string) string {
	return `{"version":2,"backend":{"type":"` + kind + `","` + kind + `":{` + keys + `}}}`
}

func TestBackendKeysAndDefaults(t *testing.T) {
	full := defaultHTTP()
	full.SkipVerify, full.CACertFiles = true, []string{"/a.pem", "/b.pem"}
	full.Timeout, full.ConnectTimeout, full.RetryLimit = 7, 8, 255
	full.Proxy = Proxy{URL: NewURL("http://p:1"), PingURL: NewURL("http://p:1/ping"), CheckInterval: 6,
		CheckPauseElapsed: 7, UseHTTP: true, DragonflySchedulerEndpoint: NewURL("http://d:8002"), WindowSize: 4096}
	const common = `"skip_verify":true,"ca_cert_files":["/a.pem","/b.pem"],"timeout":7,"connect_timeout":8,
		"retry_limit":255,"proxy":{"url":"http://p:1","ping_url":"http://p:1/ping","fallback":false,
		"check_interval":6,"check_pause_elapsed":7,"use_http":true,"dragonfly_scheduler_endpoint":"http://d:8002","window_size":4096}`
	for _, tt := range []struct {
		name   string
		kind   string
		keys   string
		want   Backend
		v2only bool
	}{
		{"localfs", "localfs", `"blob_file":"/f","dir":"/d","alt_dirs":["/e"],"readahead":true,"readahead_sec":9`,
			Backend{LocalFS: &LocalFS{BlobFile: "/f", Dir: "/d", AltDirs: []string{"/e"}}}, false},
		{"localfs, directory only", "localfs", `"dir":"/d"`,
			Backend{LocalFS: &LocalFS{Dir: "/d", AltDirs: []string{}}}, false},
		{"localdisk", "localdisk", `"device_path":"/dev/x","disable_gpt":true`,
			Backend{LocalDisk: &LocalDisk{DevicePath: "/dev/x", DisableGPT: true}}, false},
		{"registry", "registry", common + `,"scheme":"http","host":"h","repo":"r","auth":"dTpw",
			"registry_token":"tok","blob_url_scheme":"http","blob_redirected_host":"o","credential_helper":"/run/s","mirrors":[{"host":"m"},
			{"host":"http://n:1","ping_url":"http://n:1/ping","headers":{"X-A":"s"},"auth_through":true,"health_check_interval":6,"failure_limit":7}]`,
			Backend{Registry: &Registry{HTTP: full, Scheme: "http", Host: "h", Repo: "r", Auth: NewSecret("dTpw"),
				RegistryToken: NewSecret("tok"), BlobURLScheme: "http", BlobRedirectedHost: "o", CredentialHelper: "/run/s", Mirrors: []Mirror{
					{Host: NewURL("m"), HealthCheckInterval: 5, FailureLimit: 5},
					{Host: NewURL("http://n:1"), PingURL: NewURL("http://n:1/ping"), Headers: map[string]Secret{"X-A": NewSecret("s")},
						AuthThrough: true, HealthCheckInterval: 6, FailureLimit: 7}}}}, false},
		{"registry, as the snapshotter writes it", "registry",
			`"scheme":"","host":"h","repo":"r","auth":"","registry_token":null,"readahead":false,"proxy":null`,
			Backend{Registry: &Registry{HTTP: defaultHTTP(), Scheme: "https", Host: "h", Repo: "r"}}, false},
		{"oss", "oss", common + `,"scheme":"http","endpoint":"e","bucket_name":"b","object_prefix":"p/",
			"access_key_id":"i","access_key_secret":"s","security_token":"t","mirrors":[{"host":"m"}]`,
			Backend{OSS: &OSS{HTTP: full, Mirrors: []Mirror{{Host: NewURL("m"), HealthCheckInterval: 5, FailureLimit: 5}}, Scheme: "http", Endpoint: "e", BucketName: "b", ObjectPrefix: "p/",
				AccessKeyID: NewSecret("i"), AccessKeySecret: NewSecret("s"), SecurityToken: NewSecret("t")}}, false},
		{"s3", "s3", `"endpoint":"","region":"eu","bucket_name":"b"`,
			Backend{S3: &S3{HTTP: defaultHTTP(), Scheme: "https", Endpoint: "s3.amazonaws.com", Region: "eu", BucketName: "b", AddressingStyle: PathStyle}}, false},
		{"s3, every key", "s3", common + `,"scheme":"http","endpoint":"e","region":"eu","bucket_name":"b","object_prefix":"p/",
			"access_key_id":"i","access_key_secret":"s","security_token":"t","addressing_style":"virtual"`,
			Backend{S3: &S3{HTTP: full, Scheme: "http", Endpoint: "e", Region: "eu", BucketName: "b", ObjectPrefix: "p/",
				AccessKeyID: NewSecret("i"), AccessKeySecret: NewSecret("s"), SecurityToken: NewSecret("t"), AddressingStyle: VirtualStyle}}, false},
		{"http-proxy, every key", "http-proxy", common + `,"addr":"http://h","path":"/p"`,
			Backend{HTTPProxy: &HTTPProxy{HTTP: full, Addr: NewURL("http://h"), Path: "/p"}}, true},
		{"http-proxy", "http-proxy", `"addr":"/run/p.sock"`,
			Backend{HTTPProxy: &HTTPProxy{HTTP: defaultHTTP(), Addr: NewURL("/run/p.sock"), Path: "/"}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Type = tt.kind
			texts := map[string]string{"v1": v1With(tt.kind, tt.keys), "v2": v2With(tt.kind, tt.keys)}
			if tt.v2only {
				delete(texts, "v1")
			}
			for version, text := range texts {
				c, err := Parse([]byte(text))
				if err != nil {
					t.Fatalf("%s: %v", version, err)
				}
				if !reflect.DeepEqual(c.Backend, &tt.want) {
					t.Errorf("%s: got %+v, want %+v", version, c.Backend, &tt.want)
				}
			}
		})
	}
}

func TestLocalDirSharesOneDirectory(t *testing.T) {
	c := LocalDir("/blobs")
	if err := c.validate(); err != nil {
		t.Fatal(err)
	}
	if c.Backend.LocalFS.Dir != "/blobs" || c.Cache.FileCache.WorkDir != "/blobs" || c.Rafs.Mode != "direct" ||
		c.Cache.Kind() != FileCacheOn || c.Rafs.Validate {
		t.Errorf("got %s", toJSON(t, c))
	}
}

func TestUnverifiedBlobsAreAllowedByName(t *testing.T) {
	for name, text := range map[string]string{
		"v1": `{"device":{"backend":{"type":"localfs","config":{"dir":"/b"}},"cache":{"type":"blobcache","allow_unverified":["b1","b2"],"config":{"work_dir":"/c"}}},"mode":"direct"}`,
		"v2": `{"version":2,"backend":{"type":"localfs","localfs":{"dir":"/b"}},"cache":{"type":"filecache","allow_unverified":["b1","b2"],"filecache":{"work_dir":"/c"}}}`,
	} {
		c, err := Parse([]byte(text))
		if err != nil || !slices.Equal(c.Cache.AllowUnverified, []string{"b1", "b2"}) {
			t.Errorf("%s: got %+v, %v", name, c, err)
		}
	}
}
