package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// errorText is the message of an error answer, whose code is always UNDEFINED.
func errorText(t *testing.T, body string) string {
	t.Helper()
	var e struct{ Code, Message string }
	if err := json.Unmarshal([]byte(body), &e); err != nil || e.Code != "UNDEFINED" || e.Message == "" {
		t.Errorf("error body %q, %v", body, err)
	}
	return e.Message
}

// TestAPIErrors are the refusals of nydusd.md section 2 over the real socket.
func TestAPIErrors(t *testing.T) {
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	im := smallImage(t)
	p.must(204, "POST", "/api/v1/mount?mountpoint=/used", im.mountBody(""))
	for _, tt := range []struct {
		name, method, target, body string
		status                     int
		want                       string // part of the message
	}{
		{"unknown path", "GET", "/api/v1/nothing", "", 404, "NoRoute"},
		{"wrong method", "POST", "/api/v1/daemon", "", 400, "BadRequest"},
		{"body where none may be", "GET", "/api/v1/daemon", "x", 400, "BadRequest"},
		{"log level without body", "PUT", "/api/v1/daemon", "", 400, "BadRequest"},
		{"log level malformed", "PUT", "/api/v1/daemon", "{x", 400, `ParseBody(Error("`},
		{"log level unknown", "PUT", "/api/v1/daemon", `{"log_level":"loud"}`, 500, "Configure(ResponsePayloadType)"},
		{"start while running", "PUT", "/api/v1/daemon/start", "", 400, `UnexpectedEvent("Start")`},
		{"takeover while running", "PUT", "/api/v1/daemon/fuse/takeover", "", 400, `UnexpectedEvent("Takeover")`},
		{"sendfd", "PUT", "/api/v1/daemon/fuse/sendfd", "", 501, "Unsupported"},
		{"mount in use", "POST", "/api/v1/mount?mountpoint=/used", im.mountBody(""), 500, `Mount(MountFilesystem(Other("object or filesystem already exists")))`},
		{"mount without place", "POST", "/api/v1/mount", im.mountBody(""), 400, `QueryString("'mountpoint' should be specified in query string")`},
		{"mount at a relative place", "POST", "/api/v1/mount?mountpoint=a", im.mountBody(""), 500, "is not an absolute path"},
		{"mount of another type", "POST", "/api/v1/mount?mountpoint=/n", `{"source":"/","fs_type":"ext4","config":""}`, 500,
			"Mount(MountFilesystem(Other(\"invalid argument `only 'rafs' and 'passthrough_fs' are supported, but ext4 was specified`\")))"},
		{"mount without type", "POST", "/api/v1/mount?mountpoint=/n", `{"source":"/","config":""}`, 500, "only 'rafs' and 'passthrough_fs'"},
		{"mount without bootstrap", "POST", "/api/v1/mount?mountpoint=/n", `{"source":"/none","fs_type":"rafs","config":` + quoted(im.v1(nil)) + `}`, 500, "/none: no such file"},
		{"mount of no image", "POST", "/api/v1/mount?mountpoint=/n", `{"source":"/proc/self/exe","fs_type":"rafs","config":` + quoted(im.v1(nil)) + `}`, 500, "no RAFS bootstrap"},
		{"mount with a broken configuration", "POST", "/api/v1/mount?mountpoint=/n", im.mountBody("{"), 500, "failed to parse configuration information"},
		{"mount without cache", "POST", "/api/v1/mount?mountpoint=/n", im.mountBody(`{"version":2,"backend":{"type":"localfs","localfs":{"dir":"/b"}}}`), 500,
			"Rafs v6 must have local blobcache configured"},
		{"mount with an unknown back end", "POST", "/api/v1/mount?mountpoint=/n",
			im.mountBody(`{"version":2,"backend":{"type":"tape"},"cache":{"type":"filecache","filecache":{"work_dir":"` + im.cache + `"}}}`), 500, `unsupported backend type`},
		{"mount with an encrypted cache", "POST", "/api/v1/mount?mountpoint=/n",
			im.mountBody(`{"version":2,"backend":{"type":"localfs","localfs":{"dir":"/b"}},"cache":{"type":"filecache","filecache":{"work_dir":"` + im.cache + `","enable_encryption":true,"encryption_key":"00"}}}`), 500, "encrypted cache"},
		{"mount with a relative prefetch file", "POST", "/api/v1/mount?mountpoint=/n", `{"source":"/","fs_type":"rafs","config":"","prefetch_files":["x"]}`, 500, "invalid prefetch file list"},
		{"remount of nothing", "PUT", "/api/v1/mount?mountpoint=/n", im.mountBody(""), 500, "doesn't exist"},
		{"unmount of nothing", "DELETE", "/api/v1/mount?mountpoint=/n", "", 500, `Mount(MountFilesystem(Other("object or filesystem doesn't exist")))`},
		{"unmount of a pseudo directory", "DELETE", "/api/v1/mount?mountpoint=/", "", 500, "doesn't exist"},
		{"backend of nothing", "GET", "/api/v1/daemon/backend?mountpoint=/n", "", 500, `FsBackendInfo(Metrics(Daemon(Other("`},
		{"pattern of an unknown id", "GET", "/api/v1/metrics/pattern?id=/n", "", 404, "Pattern(Metrics(Stats(NoCounter)))"},
		{"metrics of an unknown id", "GET", "/api/v1/metrics?id=/n", "", 404, "NoCounter"},
		{"cache metrics of an unknown id", "GET", "/api/v1/metrics/blobcache?id=/n", "", 404, "NoCounter"},
		{"inflight", "GET", "/api/v1/metrics/inflight", "", 501, "Unsupported"},
		{"unknown override", "PUT", "/api/v1/config?id=/used", `{"color":"red"}`, 500, "Configure(ResponsePayloadType)"},
		{"bind", "PUT", "/api/v2/blobs", `{"type":"bootstrap"}`, 501, "Unsupported"},
		{"unbind", "DELETE", "/api/v2/blobs?domain_id=d", "", 501, "Unsupported"},
		{"delete blob", "DELETE", "/api/v2/blobs?blob_id=d", "", 501, "Unsupported"},
		{"list blobs", "GET", "/api/v2/blobs?domain_id=d", "", 501, "Unsupported"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body := p.ask(tt.method, tt.target, tt.body)
			if status != tt.status || !strings.Contains(errorText(t, body), tt.want) {
				t.Errorf("got %d %s, want %d with %s", status, body, tt.status, tt.want)
			}
		})
	}
	// Nothing of that is left behind.
	if body := p.must(200, "GET", "/api/v1/daemon", ""); strings.Contains(body, `"/n"`) || !strings.Contains(body, `"/used"`) {
		t.Errorf("got %s", body)
	}
	var ev struct {
		Errors []string
		Total  int `json:"total_errors"`
	}
	if err := json.Unmarshal([]byte(p.must(200, "GET", "/api/v1/daemon/events", "")), &ev); err != nil || len(ev.Errors) == 0 || len(ev.Errors) != ev.Total {
		t.Errorf("events: %+v, %v", ev, err)
	}
}

func quoted(s string) string {
	p, _ := json.Marshal(s)
	return string(p)
}

// TestMountCommands follows one mountpoint through its life.
func TestMountCommands(t *testing.T) {
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	im := smallImage(t)
	place := "/api/v1/mount?mountpoint=%2Frafs%2Fa+b%2Flowerdir"
	p.must(204, "POST", place, im.mountBody(""))
	var info struct {
		Backends map[string]struct {
			Type        string `json:"backend_type"`
			Mountpoint  string
			MountedTime []int `json:"mounted_time"`
			Config      map[string]any
		} `json:"backend_collection"`
	}
	if err := json.Unmarshal([]byte(p.must(200, "GET", "/api/v1/daemon", "")), &info); err != nil {
		t.Fatal(err)
	}
	b := info.Backends["/rafs/a+b/lowerdir"]
	if b.Type != "Rafs" || b.Mountpoint != "/rafs/a+b/lowerdir" || len(b.MountedTime) != 9 || b.Config["version"] != 2.0 {
		t.Errorf("got %+v", info)
	}
	if body := p.must(200, "GET", "/api/v2/daemon", ""); !strings.Contains(body, `"backend_collection":null`) {
		t.Errorf("got %s", body)
	}
	var sb map[string]any
	if err := json.Unmarshal([]byte(p.must(200, "GET", "/api/v1/daemon/backend?mountpoint=/rafs/a+b/lowerdir", "")), &sb); err != nil || sb["version"] != float64(0x600) || sb["inodes_count"] == 0.0 {
		t.Errorf("got %v, %v", sb, err)
	}
	p.must(204, "PUT", place, im.mountBody(""))
	p.must(204, "DELETE", place, "")
	p.must(500, "DELETE", place, "")
	p.must(204, "POST", place, im.mountBody(`version = 2
id = "t"
[backend]
type = "localfs"
[backend.localfs]
dir = "`+im.BlobDir+`"
[cache]
type = "filecache"
[cache.filecache]
work_dir = "`+im.cache+`"
`))
	p.must(200, "GET", "/api/v1/metrics/blobcache?id=t", "")
	p.must(204, "DELETE", place, "")
	p.must(404, "GET", "/api/v1/metrics", "")
	p.must(204, "PUT", "/api/v1/daemon", `{"log_level":"DEBUG"}`)
	p.must(204, "PUT", "/api/v2/daemon", `{"log_level":"off"}`)
	if body := p.must(200, "GET", "/api/v1/config?id=/x", ""); body != "{}" {
		t.Errorf("got %s", body)
	}
	p.must(204, "PUT", "/api/v1/config?id=/x", `{"proxy_url":"http://p:1"}`)
	if body := p.must(200, "GET", "/api/v1/config?id=%2Fx", ""); body != `{"proxy_url":"http://p:1"}` {
		t.Errorf("got %s", body)
	}
}

// TestExitEndsTheProcess: the answer comes first, then the orderly end.
func TestExitEndsTheProcess(t *testing.T) {
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	p.end()
}

func TestUpgradeModeWaitsInInit(t *testing.T) {
	sock, api := sockets(t)
	p := virtiofs(t, sock, api, "--upgrade", "--id", "d1", "--supervisor", filepath.Join(filepath.Dir(sock), "s.sock")).ready()
	body := p.must(200, "GET", "/api/v1/daemon", "")
	for _, want := range []string{`"state":"INIT"`, `"id":"d1"`, `"supervisor":"`} {
		if !strings.Contains(body, want) {
			t.Errorf("got %s, want %s", body, want)
		}
	}
	p.must(400, "PUT", "/api/v1/daemon/start", "")
	p.must(501, "PUT", "/api/v1/daemon/fuse/takeover", "")
	p.end()
}

// TestSecretsShowNowhere: credentials of configurations are in no answer and in no
// line of the log.
func TestSecretsShowNowhere(t *testing.T) {
	sock, api := sockets(t)
	p := virtiofs(t, sock, api, "--log-level", "trace").ready()
	im := smallImage(t)
	// The base64 texts decode to user:hunter2pw.
	secrets := []string{"hunter2pw", "dXNlcjpodW50ZXIycHc", "toKen-secret", "aKey-secret", "keyId-secret", "ca11ab1e"}
	cache := `,"cache":{"type":"blobcache","config":{"work_dir":"` + im.cache + `"}}`
	for i, backend := range []string{
		`{"type":"registry","config":{"host":"r","repo":"a/b","auth":"dXNlcjpodW50ZXIycHc=","registry_token":"toKen-secret","proxy":{"url":"http://user:hunter2pw@proxy:1"}}}`,
		`{"type":"s3","config":{"endpoint":"e","region":"r","bucket_name":"b","access_key_id":"keyId-secret","access_key_secret":"aKey-secret"}}`,
		`{"type":"oss","config":{"endpoint":"e","bucket_name":"b","access_key_id":"keyId-secret","access_key_secret":"aKey-secret"}}`,
		`{"type":"registry","config":{"host":1,"repo":"a/b","auth":"dXNlcjpodW50ZXIycHc="}}`,
		`{"type":"registry","config":{"host":"r","repo":"a/b","auth":"hunter2pw!"}}`,
	} {
		config := `{"device":{"id":"` + fmt.Sprint(i) + `","backend":` + backend + cache + `},"mode":"direct"}`
		_, body := p.ask("POST", fmt.Sprintf("/api/v1/mount?mountpoint=/%d", i), im.mountBody(config))
		checkClean(t, body, secrets)
	}
	encrypted := `{"version":2,"backend":{"type":"localfs","localfs":{"dir":"` + im.BlobDir + `"}},"cache":{"type":"filecache","filecache":{"work_dir":"` + im.cache + `","encryption_key":"ca11ab1e"}}}`
	p.must(204, "POST", "/api/v1/mount?mountpoint=/enc", im.mountBody(encrypted))
	p.must(204, "PUT", "/api/v1/config?id=/enc", `{"registry_auth":"dXNlcjpodW50ZXIycHc="}`)
	for _, target := range []string{"/api/v1/daemon", "/api/v2/daemon", "/api/v1/daemon/events", "/api/v1/metrics?id=/enc", "/api/v1/metrics/blobcache",
		"/api/v1/metrics/backend?id=/enc", "/api/v1/daemon/backend?mountpoint=/enc", "/metrics"} {
		_, body := p.ask("GET", target, "")
		checkClean(t, body, secrets)
	}
	checkClean(t, p.end(), secrets)
}

func checkClean(t *testing.T, text string, secrets []string) {
	t.Helper()
	for _, s := range secrets {
		if strings.Contains(text, s) {
			t.Errorf("%q in %s", s, text)
		}
	}
}
