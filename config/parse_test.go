package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestParseRefusals(t *testing.T) {
	reg := `"host":"h","repo":"r"`
	for _, tt := range []struct {
		name  string
		text  string
		class error
		want  string // part of the message
	}{
		{"empty", ``, ErrParse, "version: missing"},
		{"neither format", "{\n\"a\": ", ErrParse, "line 2"},
		{"broken TOML", "version = 2\nid = [", ErrParse, "line 2"},
		{"JSON without either mark", `{"a":1}`, ErrParse, "neither version nor device"},
		{"text after the end", `{"version":2} {}`, ErrParse, "after the end"},
		{"list", `[]`, ErrParse, "neither JSON nor TOML"},
		{"null", `null`, ErrParse, ""},
		{"too big", strings.Repeat(" ", MaxSize+1), ErrTooBig, "too big"},
		{"version 3", `{"version":3}`, ErrInvalid, "version: want 2, got 3"},
		{"version text", `{"version":"2"}`, ErrParse, "version at line 1: want a whole number, got a string"},
		{"v1 without mode", `{"device":{"backend":{"type":"localfs","config":{"dir":"/d"}}}}`, ErrParse, "mode: missing"},
		{"v1 bad mode", strings.Replace(v1With("localfs", `"dir":"/d"`), `"direct"`, `"lazy"`, 1), ErrInvalid, "mode"},
		{"v1 without backend", `{"device":{},"mode":"direct"}`, ErrParse, "device.backend"},
		{"v1 without backend config", "{\"mode\":\"direct\",\n\"device\":{\n\"backend\":{\"type\":\"oss\"}}}", ErrParse, "device.backend.config at line 3: missing"},
		{"v1 http-proxy", v1With("http-proxy", `"addr":"x"`), ErrParse, "unsupported backend type"},
		{"v1 cache config null", `{"device":{"backend":{"type":"localfs","config":{"dir":"/d"}},"cache":{"type":"blobcache","config":null}},"mode":"direct"}`,
			ErrParse, "device.cache.config"},
		{"v1 unknown cache", `{"device":{"backend":{"type":"localfs","config":{"dir":"/d"}},"cache":{"type":"ram"}},"mode":"direct"}`,
			ErrInvalid, `unsupported cache type "ram"`},
		{"v2 backend without section", `{"version":2,"backend":{"type":"oss"}}`, ErrInvalid, "oss has no section"},
		{"v2 unknown backend", `{"version":2,"backend":{"type":"ftp"}}`, ErrInvalid, `unsupported backend type "ftp"`},
		{"v2 backend without type", `{"version":2,"backend":{}}`, ErrParse, "backend.type"},
		{"v2 prefetch without enable", "version=2\n[rafs]\nprefetch={threads=1}", ErrParse, "rafs.prefetch.enable at line 3: missing"},
		{"v2 no threads", "version=2\n[cache.prefetch]\nenable=true\nthreads=0", ErrInvalid, "cache: prefetch: threads"},
		{"v2 huge prefetch", "version=2\n[rafs.prefetch]\nenable=true\nbatch_size=268435457", ErrInvalid, "rafs: prefetch: batch_size"},
		{"v2 huge batch", "version=2\n[rafs]\nbatch_size=268435457", ErrInvalid, "rafs: batch_size"},
		{"v2 filecache without section", `{"version":2,"cache":{"type":"filecache"}}`, ErrInvalid, "filecache has no section"},
		{"v2 empty work_dir", `{"version":2,"cache":{"type":"filecache","filecache":{"work_dir":""}}}`, ErrInvalid, "work_dir is empty"},
		{"encryption key not hex", `{"version":2,"cache":{"type":"filecache","filecache":{"encryption_key":"zz"}}}`, ErrInvalid, "not hexadecimal"},
		{"encryption without key", `{"version":2,"cache":{"type":"filecache","filecache":{"enable_encryption":true}}}`, ErrInvalid, "encryption_key is empty"},
		{"registry without host", v2With("registry", `"repo":"r"`), ErrInvalid, "host is empty"},
		{"registry without repo", v2With("registry", `"host":"h"`), ErrInvalid, "repo is empty"},
		{"auth not base64", v2With("registry", reg+`,"auth":"hunter2!"`), ErrInvalid, "auth is not base64"},
		{"auth without colon", v2With("registry", reg+`,"auth":"aHVudGVy"`), ErrInvalid, "user:password"},
		{"oss without bucket", v2With("oss", `"endpoint":"e"`), ErrInvalid, "bucket_name is empty"},
		{"s3 without endpoint", v2With("s3", `"region":"r","bucket_name":"b"`), ErrParse, "backend.s3.endpoint"},
		{"s3 without region", v2With("s3", `"endpoint":"","bucket_name":"b"`), ErrInvalid, "region is empty"},
		{"localdisk without device", v2With("localdisk", ``), ErrInvalid, "device_path is empty"},
		{"localfs without place", v2With("localfs", `"alt_dirs":["/a"]`), ErrInvalid, "dir or blob_file is empty"},
		{"http-proxy without addr", v2With("http-proxy", ``), ErrInvalid, "addr is empty"},
		{"retry_limit above 255", v2With("registry", reg+`,"retry_limit":256`), ErrParse, "retry_limit at line 1: above 255"},
		{"overlay without work_dir", "version=2\n[overlay]\nupper_dir=\"/u\"", ErrParse, "overlay.work_dir at line 2: missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse([]byte(tt.text))
			if err == nil {
				t.Fatalf("got %s, want an error", toJSON(t, c))
			}
			if !errors.Is(err, tt.class) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want %q with %q", err, tt.class, tt.want)
			}
		})
	}
}

func TestWrongTypesNameKeyAndLine(t *testing.T) {
	for _, tt := range []struct {
		name string
		text string
		key  string
		line int
		why  string
	}{
		{"v1 number for text", strings.Replace(sampleV1, `"/42"`, `42`, 1), "device.id", 2, "want a string, got a whole number"},
		{"v1 text for number", strings.Replace(sampleV1, `"amplify_io": 1048576`, `"amplify_io": "1M"`, 1), "amplify_io", 8, "want a whole number, got a string"},
		{"v1 fraction", strings.Replace(sampleV1, `"threads_count": 8`, `"threads_count": 8.5`, 1), "fs_prefetch.threads_count", 9, "want a whole number, got another number"},
		{"v1 negative", strings.Replace(sampleV1, `"threads_count": 8`, `"threads_count": -8`, 1), "fs_prefetch.threads_count", 9, "want a whole number, got another number"},
		{"v1 list for table", strings.Replace(sampleV1, `{ "work_dir": "/var/lib/nydus/cache", "disable_indexed_map": false }`, `[{"id":1}]`, 1), "device.cache.config", 5, "want a table, got a list"},
		{"v1 same key elsewhere first", `{"x":{"mode":1,"y":[{"mode":2}]},` + "\n" + `"mode":3,"device":{}}`, "mode", 2, "want a string, got a whole number"},
		{"TOML text for boolean", strings.Replace(sampleTOML, "enable_xattr = true", `enable_xattr = "yes"`, 1), "rafs.enable_xattr", 31, "want true or false, got a string"},
		{"TOML boolean for text", strings.Replace(sampleTOML, `host = "registry.example:5000"`, `host = true`, 1), "backend.registry.host", 6, "want a string, got a boolean"},
		{"TOML date", strings.Replace(sampleTOML, "threads = 8", "threads = 2026-01-01", 1), "cache.prefetch.threads", 14, "want a whole number, got a date or time"},
		{"TOML dotted key", "version = 2\nrafs.prefetch.enable = 1\n", "rafs.prefetch.enable", 2, "want true or false, got a whole number"},
		{"TOML inline table", "version = 2\n\nrafs = { mode = 5 }\n", "rafs.mode", 3, "want a string, got a whole number"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.text))
			ke, ok := errors.AsType[*KeyError](err)
			if !ok {
				t.Fatalf("got %v, want a KeyError", err)
			}
			if ke.Key != tt.key || ke.Line != tt.line || ke.Why != tt.why {
				t.Errorf("got %s line %d %q, want %s line %d %q", ke.Key, ke.Line, ke.Why, tt.key, tt.line, tt.why)
			}
		})
	}
}

func TestUnknownKeysAreIgnored(t *testing.T) {
	for _, text := range []string{
		strings.Replace(sampleV1, `"mode": "direct"`, `"id":"x","warmup":{"a":[1]},"id_mapping":[],"external_backend":{"config_path":"/none"},"MODE":7,"mode":"direct"`, 1),
		strings.Replace(sampleV1, `"work_dir"`, `"compressed":1,"work_dir"`, 1),
		strings.Replace(sampleTOML, `[overlay]`, "[nonsense]\nmode = 1\n[overlay]", 1),
	} {
		if _, err := Parse([]byte(text)); err != nil {
			t.Errorf("%v in %s", err, text)
		}
	}
}

func TestV1WithAVersionKeyStaysV1(t *testing.T) {
	for _, v := range []string{"1", "2", `"1"`} {
		c, err := Parse([]byte(strings.Replace(sampleV1, "{", `{"version":`+v+`,`, 1)))
		if err != nil || c.Backend == nil || c.ID != "/42" {
			t.Errorf("version %s: got %v, %v", v, c, err)
		}
	}
}

const secretWord = "hunter2"

func secretConfig(t *testing.T) []*Config {
	t.Helper()
	proxy := `,"proxy":{"url":"http://u:hunter2@p:1/x?k=hunter2","ping_url":"http://hunter2@p"}`
	var out []*Config
	for _, text := range []string{
		v2With("registry", `"host":"h","repo":"r","auth":"aHVudGVyMjpodW50ZXIy","registry_token":"hunter2"`+proxy),
		v2With("oss", `"mirrors":[{"host":"http://u:hunter2@m","ping_url":"http://m?k=hunter2","headers":{"A":"hunter2"}}],"endpoint":"e","bucket_name":"b","access_key_id":"hunter2","access_key_secret":"hunter2","security_token":"hunter2"`+proxy),
		v2With("s3", `"endpoint":"e","region":"r","bucket_name":"b","access_key_id":"hunter2","access_key_secret":"hunter2"`+proxy),
		v2With("http-proxy", `"addr":"https://hunter2:x@h/p?hunter2"`+proxy),
		`{"version":2,"cache":{"type":"filecache","filecache":{"encryption_key":"6875"}},
		  "external_backends":[{"type":"x","config":{"token":"hunter2"},"patch":{"auth":"hunter2"}}]}`,
	} {
		c, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	for _, c := range secretConfig(t) {
		type hidden struct{ c Config }
		js, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var log strings.Builder
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "c", *c, "b", c.Backend)
		all := string(js) + log.String()
		values := []any{c, *c, hidden{*c}, &hidden{*c}}
		if b := c.Backend; b != nil {
			all += b.Place()
			values = append(values, b.Registry, b.OSS, b.S3, b.HTTPProxy)
			if b.Registry != nil {
				values = append(values, b.Registry.Auth, b.Registry.RegistryToken, b.Registry.Proxy)
				slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "a", b.Registry.Auth, "u", b.Registry.Proxy.URL)
			}
		}
		for _, v := range values {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
				all += fmt.Sprintf(verb, v)
			}
		}
		all += log.String()
		for _, bad := range []string{secretWord, "aHVudGVyMjpodW50ZXIy", "6875", fmt.Sprintf("%x", secretWord)} {
			if strings.Contains(all, bad) {
				t.Errorf("%q shows in %s", bad, all)
			}
		}
	}
}

func TestErrorsShowNoValues(t *testing.T) {
	for _, text := range []string{
		v2With("registry", `"host":"h","repo":"r","auth":"hunter2"`),
		v2With("registry", `"host":"h","repo":"r","auth":["hunter2"]`),
		"version = 2\nauth = hunter2\n",
		"version = 2\n[backend]\ntype='registry'\nregistry.auth = \"hunter2\n",
		`{"version":2,"backend":{"type":"registry","registry":{"auth":"hunter2`,
		`{"version":2,"cache":{"type":"filecache","filecache":{"encryption_key":"hunter2"}}}`,
	} {
		_, err := Parse([]byte(text))
		if err == nil || strings.Contains(err.Error(), secretWord) {
			t.Errorf("got %v for %s", err, text)
		}
	}
	if err := LocalDir("/d").SetRegistryAuth("hunter2!"); err == nil || strings.Contains(err.Error(), secretWord) {
		t.Errorf("got %v", err)
	}
}

func TestSetRegistryAuth(t *testing.T) {
	c, err := Parse([]byte(sampleV1))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetRegistryAuth("dTpw"); err != nil || c.Backend.Registry.Auth.Reveal() != "dTpw" {
		t.Errorf("got %v", err)
	}
}

func TestURLString(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"http://h:1/p", "http://h:1/p"},
		{"http://u:p@h:1/p?q=1", "http://h:1/p"},
		{"http://u:p/w@h", redacted},
		{"u:p@h", "h"},
		{"/run/x.sock", "/run/x.sock"},
	} {
		if got := NewURL(tt.in).String(); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestBlobEntries(t *testing.T) {
	const v1 = `{"type":"bootstrap","id":"i","domain_id":"d","config":{"id":"","backend_type":"localfs","backend_config":{"dir":"/d"},
		"cache_type":"fscache","cache_config":{"work_dir":"/w"},"prefetch_config":{"enable":true,"threads_count":4,"merging_size":4096,
		"bandwidth_rate":9},"metadata_path":"/m"}}`
	e, err := ParseBlobEntry([]byte(v1))
	if err != nil {
		t.Fatal(err)
	}
	want := Prefetch{Enable: true, Threads: 4, BatchSize: 4096, BandwidthLimit: 9, PrefetchAll: true}
	if e.MetadataPath != "/m" || e.DomainID != "d" || e.Config.Cache.FSCache.WorkDir != "/w" || e.Config.Cache.Prefetch != want {
		t.Errorf("got %+v with %s", e, toJSON(t, e.Config))
	}
	const v2 = `{"type":"bootstrap","id":"i","config_v2":{"backend":{"type":"localfs","localfs":{"dir":"/d"}},"cache":{"type":"fscache","fscache":{"work_dir":"/w"}},"metadata_path":"/m"}}`
	if e, err = ParseBlobEntry([]byte(v2)); err != nil || e.MetadataPath != "/m" || e.Config.Backend.LocalFS.Dir != "/d" {
		t.Errorf("got %+v, %v", e, err)
	}
	if list, err := ParseBlobEntries([]byte(`{"blobs":[` + v1 + `,` + v2 + `]}`)); err != nil || len(list) != 2 {
		t.Errorf("got %v, %v", list, err)
	}
	for _, bad := range []string{`{}`, `[]`, `{"type":"bootstrap","id":"i"}`, strings.Replace(v1, `"i"`, `"a/b"`, 1), strings.Replace(v2, `"/d"`, `1`, 1)} {
		if e, err := ParseBlobEntry([]byte(bad)); err == nil {
			t.Errorf("got %+v for %s", e, bad)
		}
	}
}

// FuzzParse: any text is refused with a typed error, or gives a configuration that
// parses to itself again once written out.
func FuzzParse(f *testing.F) {
	for _, s := range []string{sampleV1, sampleTOML, `{"version":2}`, v2With("s3", `"endpoint":"","region":"r","bucket_name":"b"`),
		v1With("localfs", `"dir":"/d"`), `{"version":2,"external_backends":[{"type":"x"}]}`, "version=2\nexternal_backends=[{type='a'}]", `{"device":{"device":[`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrParse) && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrTooBig) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		again, err := Parse([]byte(toJSON(t, c)))
		if err != nil {
			// What is left out of the text (secrets, credentials in addresses) may be missed.
			if c.Cache.FileCache != nil || c.Backend != nil {
				return
			}
			t.Fatalf("%v in %s", err, toJSON(t, c))
		}
		if got, want := toJSON(t, again), toJSON(t, c); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}
