package api

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const mountBody = `{"fs_type":"rafs","source":"/b","config":"{}"}`

func TestRequests(t *testing.T) {
	entry := `{"type":"bootstrap"}`
	for _, tt := range []struct {
		name   string
		method string
		target string
		body   string
		err    error // of the daemon
		status int
		want   string // body, or call if the status is 204
	}{
		{"daemon", "GET", "/api/v1/daemon", "", nil, 200,
			`{"version":{"package_ver":"v2.4.4","git_commit":"34e6071e","build_time":"2026-07-20T00:00:00Z","profile":"release","rustc":"rustc 1.84.0"},"id":null,"supervisor":null,"state":"RUNNING","backend_collection":{}}`},
		{"daemon v2", "GET", "/api/v2/daemon", "", nil, 200,
			`{"version":{"package_ver":"v2.4.4","git_commit":"34e6071e","build_time":"2026-07-20T00:00:00Z","profile":"release","rustc":"rustc 1.84.0"},"id":null,"supervisor":null,"state":"RUNNING","backend_collection":null}`},
		{"daemon with body", "GET", "/api/v1/daemon", "x", nil, 400, errBody("BadRequest")},
		{"wrong method", "DELETE", "/api/v1/daemon", "", nil, 400, errBody("BadRequest")},
		{"no route", "GET", "/api/v1/nothing", "", nil, 404, errBody("NoRoute")},
		{"no route, trailing slash", "GET", "/api/v1/daemon/", "", nil, 404, errBody("NoRoute")},
		{"log level", "PUT", "/api/v1/daemon", `{"log_level":"DEBUG"}`, nil, 204, "log debug"},
		{"log level v2", "PUT", "/api/v2/daemon", `{"log_level":"off"}`, nil, 204, "log off"},
		{"unknown log level", "PUT", "/api/v1/daemon", `{"log_level":"loud"}`, nil, 500, errBody("Configure(ResponsePayloadType)")},
		{"log level without body", "PUT", "/api/v1/daemon", "", nil, 400, errBody("BadRequest")},
		{"log level broken", "PUT", "/api/v1/daemon", "{x", nil, 400,
			errBody(`ParseBody(Error("invalid character 'x' looking for beginning of object key string", line: 1, column: 2))`)},
		{"log level absent", "PUT", "/api/v1/daemon", `{"Log_level":"info"}`, nil, 400,
			errBody("ParseBody(Error(\"missing field `log_level`\", line: 1, column: 20))")},
		{"log level cut", "PUT", "/api/v1/daemon", "{\n\"log_level\":", nil, 400,
			errBody(`ParseBody(Error("EOF while parsing a value", line: 2, column: 12))`)},
		{"log level of a wrong type", "PUT", "/api/v1/daemon", `{"log_level":1}`, nil, 400,
			errBody("ParseBody(Error(\"invalid type for `log_level`, expected a string\", line: 1, column: 15))")},
		{"list for object", "PUT", "/api/v1/daemon", `[]`, nil, 400, errBody(`ParseBody(Error("invalid type, expected an object", line: 1, column: 1))`)},

		{"start", "PUT", "/api/v1/daemon/start", "", nil, 204, "start"},
		{"start with body", "PUT", "/api/v1/daemon/start", "{}", nil, 400, errBody("BadRequest")},
		{"start refused", "PUT", "/api/v1/daemon/start", "", Errorf(UnexpectedEvent, "Start"), 400,
			errBody(`Upgrade(DaemonAbnormal(UnexpectedEvent("Start")))`)},
		{"exit", "PUT", "/api/v1/daemon/exit", "", nil, 204, "exit"},
		{"sendfd", "PUT", "/api/v1/daemon/fuse/sendfd", "", nil, 204, "sendfd"},
		{"sendfd before INIT", "PUT", "/api/v1/daemon/fuse/sendfd", "", Errorf(NotReady, ""), 503, errBody("Upgrade(DaemonAbnormal(NotReady))")},
		{"sendfd under virtiofs", "PUT", "/api/v1/daemon/fuse/sendfd", "", Errorf(Unsupported, ""), 501, errBody("Upgrade(DaemonAbnormal(Unsupported))")},
		{"takeover", "PUT", "/api/v1/daemon/fuse/takeover", "", nil, 204, "takeover"},
		{"takeover without supervisor", "PUT", "/api/v1/daemon/fuse/takeover", "", Errorf(UpgradeManager, "MissingSupervisorPath"), 500,
			errBody(`Upgrade(DaemonAbnormal(UpgradeManager("MissingSupervisorPath")))`)},
		{"events", "GET", "/api/v1/daemon/events", "", nil, 200,
			`{"max_errors":500,"total_errors":1,"max_size":51200,"total_size":4,"errors":["boom"]}`},

		{"mount", "POST", "/api/v1/mount?mountpoint=/containers", mountBody, nil, 204, "mount /containers"},
		{"mount, encoded", "POST", "/api/v1/mount?mountpoint=%2Frafs%2Fa+b%25%2Flowerdir", mountBody, nil, 204, "mount /rafs/a+b%/lowerdir"},
		{"mount, encoded once", "POST", "/api/v1/mount?mountpoint=%252F", mountBody, nil, 204, "mount %2F"},
		{"mount, badly encoded", "POST", "/api/v1/mount?mountpoint=/%zz", mountBody, nil, 400,
			errBody(`QueryString("'mountpoint' is not percent-encoded")`)},
		{"mount without place", "POST", "/api/v1/mount?x=1", mountBody, nil, 400,
			errBody(`QueryString("'mountpoint' should be specified in query string")`)},
		{"mount without body", "POST", "/api/v1/mount?mountpoint=/a", "", nil, 400, errBody("BadRequest")},
		{"mount without config", "POST", "/api/v1/mount?mountpoint=/a", `{"fs_type":"rafs","source":"/b"}`, nil, 400,
			errBody("ParseBody(Error(\"missing field `config`\", line: 1, column: 32))")},
		{"mount, config an object", "POST", "/api/v1/mount?mountpoint=/a", `{"source":"/b","config":{}}`, nil, 400,
			errBody("ParseBody(Error(\"invalid type for `config`, expected a string\", line: 1, column: 27))")},
		{"mount with prefetch list", "POST", "/api/v1/mount?mountpoint=/a", `{"source":"/b","config":"","prefetch_files":["/x"],"new":1}`, nil, 204, "mount /a"},
		{"mount, prefetch null", "POST", "/api/v1/mount?mountpoint=/a", `{"source":"/b","config":"","prefetch_files":null}`, nil, 204, "mount /a"},
		{"mount, relative prefetch file", "POST", "/api/v1/mount?mountpoint=/a", `{"source":"/b","config":"","prefetch_files":["x"]}`, nil, 500,
			errBody(`Mount(MountFilesystem(Other("invalid prefetch file list")))`)},
		{"mount in use", "POST", "/api/v1/mount?mountpoint=/a", mountBody, errors.New("object or filesystem already exists"), 500,
			errBody(`Mount(MountFilesystem(Other("object or filesystem already exists")))`)},
		{"mount of unknown type", "POST", "/api/v1/mount?mountpoint=/a", mountBody,
			errors.New("invalid argument `only 'rafs' and 'passthrough_fs' are supported, but x was specified`"), 500,
			errBody("Mount(MountFilesystem(Other(\"invalid argument `only 'rafs' and 'passthrough_fs' are supported, but x was specified`\")))")},
		{"remount", "PUT", "/api/v1/mount?mountpoint=/a", mountBody, nil, 204, "remount /a"},
		{"remount in mode cached", "PUT", "/api/v1/mount?mountpoint=/a", mountBody, Errorf(Unsupported, ""), 501, errBody("Mount(MountFilesystem(Unsupported))")},
		{"unmount unknown", "DELETE", "/api/v1/mount?mountpoint=/none", "", nil, 500,
			errBody(`Mount(MountFilesystem(Other("object or filesystem doesn't exist")))`)},
		{"unmount with body", "DELETE", "/api/v1/mount?mountpoint=/none", "x", nil, 400, errBody("BadRequest")},
		{"backend of no image", "GET", "/api/v1/daemon/backend?mountpoint=/a", "", errors.New("x"), 500,
			errBody(`FsBackendInfo(Metrics(Daemon(Other("x"))))`)},
		{"backend without place", "GET", "/api/v1/daemon/backend", "", nil, 400,
			errBody(`QueryString("'mountpoint' should be specified in query string")`)},

		{"pattern of unknown id", "GET", "/api/v1/metrics/pattern?id=/x", "", Errorf(NoCounter, ""), 404, errBody("Pattern(Metrics(Stats(NoCounter)))")},
		{"metrics ambiguous", "GET", "/api/v1/metrics", "", Errorf(NoCounter, ""), 404, errBody("GlobalMetrics(Metrics(Stats(NoCounter)))")},
		{"inflight idle", "GET", "/api/v1/metrics/inflight", "", nil, 204, "metrics"},
		{"inflight under virtiofs", "GET", "/api/v1/metrics/inflight", "", Errorf(Unsupported, ""), 501, errBody("InflightMetrics(Metrics(Daemon(Unsupported)))")},
		{"prefetch", "GET", "/api/v1/prefetch?mountpoint=/a", "", nil, 200, `{"state":"running","paused":false,"total":7,"done":3}`},
		{"prefetch of what", "GET", "/api/v1/prefetch", "", nil, 400,
			errBody(`QueryString("'mountpoint' should be specified in query string")`)},
		{"prefetch where no image is", "GET", "/api/v1/prefetch?mountpoint=/a", "", Errorf(NoCounter, ""), 404, errBody("Prefetch(Metrics(Stats(NoCounter)))")},
		{"pause", "PUT", "/api/v1/prefetch?mountpoint=/a", `{"paused":true}`, nil, 204, "prefetch /a paused true all false "},
		{"pause by no boolean", "PUT", "/api/v1/prefetch?mountpoint=/a", `{"paused":null}`, nil, 400,
			errBody("ParseBody(Error(\"invalid type for `paused`, expected a boolean\", line: 1, column: 15))")},
		{"a list", "PUT", "/api/v1/prefetch?mountpoint=/a", `{"version":"v1","files":[{"path":"/x","ranges":[[0,9]]}],"all":true}`, nil, 204, "prefetch /a paused as it is all true /x\t0-8\n"},
		{"no list", "PUT", "/api/v1/prefetch?mountpoint=/a", `{"files":7}`, nil, 400,
			errBody(`ParseBody(Error("list of files: json: cannot unmarshal number into Go struct field .files of type []filelist.File", line: 1, column: 11))`)},
		{"what was read", "GET", "/api/v1/prefetch/files?mountpoint=/a", "", nil, 200,
			`{"version":"v1","files":[{"path":"/a"},{"path":"/b","ranges":[[4096,1]]}]}`},
		{"abort one", "DELETE", "/api/v1/metrics/inflight?unique=7", "", nil, 200, `{"aborted":2}`},
		{"abort old ones", "DELETE", "/api/v1/metrics/inflight?older_than=10", "", nil, 200, `{"aborted":2}`},
		{"abort of an unknown one", "DELETE", "/api/v1/metrics/inflight?unique=7", "", Errorf(NoCounter, ""), 404, errBody("InflightMetrics(Metrics(Stats(NoCounter)))")},
		{"abort of no number", "DELETE", "/api/v1/metrics/inflight?unique=x", "", nil, 400, errBody("BadRequest")},
		{"abort of a negative age", "DELETE", "/api/v1/metrics/inflight?older_than=-1", "", nil, 400, errBody("BadRequest")},
		{"abort of what", "DELETE", "/api/v1/metrics/inflight", "", nil, 400,
			errBody(`QueryString("'older_than' should be specified in query string")`)},
		{"files with odd latest", "GET", "/api/v1/metrics/files?latest=maybe", "", nil, 400, errBody("BadRequest")},

		{"config empty", "GET", "/api/v1/config?id=/a", "", nil, 200, `{}`},
		{"config", "PUT", "/api/v1/config?id=%2Fa", `{"registry_auth":"dTpw","proxy_url":""}`, nil, 204, "override /a"},
		{"config without id", "PUT", "/api/v1/config", `{"dragonfly_scheduler_endpoint":"x"}`, nil, 204, "override "},
		{"config with unknown key", "PUT", "/api/v1/config?id=/a", `{"registry_auth":"dTpw","x":"y"}`, nil, 500, errBody("Configure(ResponsePayloadType)")},
		{"config: keys of a store", "PUT", "/api/v1/config?id=/a", `{"access_key_id":"i","access_key_secret":"s","security_token":"t"}`, nil, 204, "override /a"},
		{"config: half of a store's keys", "PUT", "/api/v1/config?id=/a", `{"registry_auth":"dTpw","access_key_id":"i"}`, nil, 500,
			errBody(`Configure(DaemonAbnormal(Other("access_key_id and access_key_secret are set together, with the security_token of a session")))`)},
		{"config: a session's token alone", "PUT", "/api/v1/config?id=/a", `{"security_token":"t"}`, nil, 500,
			errBody(`Configure(DaemonAbnormal(Other("access_key_id and access_key_secret are set together, with the security_token of a session")))`)},
		{"config not flat", "PUT", "/api/v1/config?id=/a", `{"registry_auth":{}}`, nil, 400,
			errBody("ParseBody(Error(\"invalid type for `registry_auth`, expected a string\", line: 1, column: 20))")},

		{"bind", "PUT", "/api/v2/blobs", entry, nil, 204, "put " + entry},
		{"bind malformed", "PUT", "/api/v2/blobs", entry, Errorf(BadRequest, "no \"id\""), 400, errBody(`ParseBody(Error("no \"id\"", line: 0, column: 0))`)},
		{"Prometheus by another method", "POST", "/metrics", "", nil, 400, errBody("BadRequest")},
		{"bind nonsense", "PUT", "/api/v2/blobs", "x", nil, 400, errBody(`ParseBody(Error("invalid character 'x' looking for beginning of value", line: 1, column: 1))`)},
		{"bind under fuse", "PUT", "/api/v2/blobs", entry, Errorf(Unsupported, ""), 501, errBody("CreateBlobObject(DaemonAbnormal(Unsupported))")},
		{"unbind", "DELETE", "/api/v2/blobs?domain_id=d&blob_id=b", "", nil, 204, "unbind d b"},
		{"unbind all", "DELETE", "/api/v2/blobs?domain_id=d", "", nil, 204, "unbind d "},
		{"unbind unknown", "DELETE", "/api/v2/blobs?domain_id=d", "", errors.New("blob_cache: cache entry not found"), 500,
			errBody(`DeleteBlobObject(DaemonAbnormal(Other("blob_cache: cache entry not found")))`)},
		{"delete blob", "DELETE", "/api/v2/blobs?blob_id=b", "", nil, 204, "delete b"},
		{"delete nothing", "DELETE", "/api/v2/blobs", "", nil, 400,
			errBody(`QueryString("'domain_id' should be specified in query string")`)},
		{"delete blob under fuse", "DELETE", "/api/v2/blobs?blob_id=b", "", Errorf(Unsupported, ""), 501, errBody("DeleteBlobFile(DaemonAbnormal(Unsupported))")},
		{"list blobs", "GET", "/api/v2/blobs?domain_id=d", "", nil, 200,
			`[{"type":"bootstrap","id":"i","domain_id":"d","metadata_path":"/m","data_blobs":[],"config_v2":null}]`},
		{"list blobs under fuse", "GET", "/api/v2/blobs?domain_id=d", "", Errorf(Unsupported, ""), 501, errBody("GetBlobObjects(DaemonAbnormal(Unsupported))")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			f.err = tt.err
			c, _ := serve(t, f)
			resp, body := ask(t, c, tt.method, tt.target, tt.body)
			if resp.StatusCode != tt.status {
				t.Fatalf("got %d %s, want %d", resp.StatusCode, body, tt.status)
			}
			if resp.StatusCode == 204 {
				if body != "" || f.last() != tt.want {
					t.Errorf("got body %q and call %q, want call %q", body, f.last(), tt.want)
				}
			} else if body != tt.want {
				t.Errorf("got  %s\nwant %s", body, tt.want)
			}
			length := strconv.Itoa(len(body))
			if resp.StatusCode == 204 {
				length = "" // RFC 9110, 8.6
			}
			h := resp.Header
			if h.Get("Server") != "Nydus API" || h.Get("Content-Type") != "application/json" || h.Get("Content-Length") != length {
				t.Errorf("headers %v", h)
			}
		})
	}
}

func errBody(message string) string {
	p, _ := json.Marshal(map[string]string{"code": "UNDEFINED", "message": message})
	return string(p)
}

func TestMountCommandReachesTheDaemonWhole(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	config := strings.Repeat(`{"a":"\\\"é"}`, 128<<10/12)
	body, _ := json.Marshal(map[string]any{"source": "/b", "fs_type": "rafs", "config": config, "prefetch_files": []string{"/x", "/y"}})
	if resp, text := ask(t, c, "POST", "/api/v1/mount?mountpoint=/a", string(body)); resp.StatusCode != 204 {
		t.Fatalf("got %d %s", resp.StatusCode, text)
	}
	want := MountCmd{"/b", "rafs", config, []string{"/x", "/y"}}
	if got := f.mounts["/a"]; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestMetricsQueries(t *testing.T) {
	for _, tt := range []struct {
		target string
		want   MetricsQuery
		value  any
		body   string
	}{
		{"/api/v1/metrics?id=/", MetricsQuery{FSMetrics, "/", true, false}, FSStats{ID: "/", DataRead: 6}, ""},
		{"/api/v1/metrics/files?id=%2Fa&latest=true", MetricsQuery{FilesMetrics, "/a", true, true}, [][]uint64{{1, 3}, {7}}, `[[1,3],[7]]`},
		{"/api/v1/metrics/files", MetricsQuery{FilesMetrics, "", false, false}, map[string]FileStats{}, `{}`},
		{"/api/v1/metrics/pattern?id=", MetricsQuery{PatternMetrics, "", true, false}, []AccessPattern{}, `[]`},
		{"/api/v1/metrics/backend", MetricsQuery{BackendMetrics, "", false, false}, BackendStats{BackendType: "registry", ReadCount: 1},
			`{"backend_type":"registry","read_count":1,"read_errors":0,"read_amount_total":0,"read_cumulative_latency_millis_total":0,"read_cumulative_latency_millis_dist":[0,0,0,0,0,0,0,0],"read_count_block_size_dist":[0,0,0,0,0,0,0,0],"read_latency_sizes_dist":[[0,0,0,0,0,0,0,0],[0,0,0,0,0,0,0,0],[0,0,0,0,0,0,0,0],[0,0,0,0,0,0,0,0],[0,0,0,0,0,0,0,0],[0,0,0,0,0,0,0,0],[0,0,0,0,0,0,0,0],[0,0,0,0,0,0,0,0]]}`},
		{"/api/v1/metrics/blobcache?id=x", MetricsQuery{BlobcacheMetrics, "x", true, false}, BlobcacheStats{UnderlyingFiles: []string{}},
			`{"underlying_files":[],"store_path":"","partial_hits":0,"whole_hits":0,"total":0,"entries_count":0,"prefetch_data_amount":0,"prefetch_requests_count":0,"prefetch_workers":0,"prefetch_unmerged_chunks":0,"prefetch_cumulative_time_millis":0,"prefetch_begin_time_secs":0,"prefetch_begin_time_millis":0,"prefetch_end_time_secs":0,"prefetch_end_time_millis":0,"buffered_backend_size":0,"data_all_ready":false}`},
		{"/api/v1/metrics/inflight", MetricsQuery{InflightMetrics, "", false, false}, []Inflight{{Inode: 5, Opcode: 15, Unique: 101}},
			`[{"inode":5,"opcode":15,"unique":101,"timestamp_secs":0,"timestamp_nanos":0}]`},
	} {
		f := newFake()
		f.metrics = tt.value
		c, _ := serve(t, f)
		resp, body := ask(t, c, "GET", tt.target, "")
		if resp.StatusCode != 200 || f.query != tt.want || (tt.body != "" && body != tt.body) {
			t.Errorf("%s: got %d %s, query %+v", tt.target, resp.StatusCode, body, f.query)
		}
	}
}

func TestBuckets(t *testing.T) {
	for _, tt := range []struct {
		f    func(uint64) int
		in   []uint64
		want []int
	}{
		{SizeBucket, []uint64{0, 1023, 1024, 4095, 4096, 16384, 65536, 131072, 524287, 524288, 1 << 20, 1 << 40}, []int{0, 0, 1, 1, 2, 3, 4, 5, 5, 6, 7, 7}},
		{ReadLatencyBucket, []uint64{0, 200, 201, 1000, 20_000, 50_000, 500_000, 1_000_000, 2_000_000, 2_000_001}, []int{0, 0, 1, 1, 2, 3, 4, 5, 6, 7}},
		{BackendLatencyBucket, []uint64{1, 2, 20, 50, 100, 500, 1000, 2000, 2001}, []int{0, 1, 1, 2, 3, 4, 5, 6, 7}},
	} {
		for i, n := range tt.in {
			if got := tt.f(n); got != tt.want[i] {
				t.Errorf("%d: got %d, want %d", n, got, tt.want[i])
			}
		}
	}
}

func TestPrometheusText(t *testing.T) {
	c, _ := serve(t, newFake())
	resp, body := ask(t, c, "GET", "/metrics", "")
	const want = "# HELP vrafs_reads_total Reads.\n# TYPE vrafs_reads_total counter\nvrafs_reads_total{mountpoint=\"/a\\\"\\\\\\n\"} 3\nvrafs_reads_total 0.5\n"
	if resp.StatusCode != 200 || body != want || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
}

func TestMountedTime(t *testing.T) {
	got, _ := json.Marshal(NewMountedTime(time.Date(2026, 7, 24, 10, 15, 30, 123456789, time.FixedZone("", 7200))))
	if string(got) != "[2026,205,8,15,30,123456789,0,0,0]" {
		t.Errorf("got %s", got)
	}
}

func TestBodiesAreBounded(t *testing.T) {
	c, sock := serve(t, newFake())
	big := `{"source":"/b","fs_type":"rafs","config":"` + strings.Repeat("x", MaxBody) + `"}`
	if resp, body := ask(t, c, "POST", "/api/v1/mount?mountpoint=/a", big); resp.StatusCode != 400 {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
	// The same without a length in advance.
	conn := dial(t, sock)
	fmt.Fprintf(conn, "POST /api/v1/mount?mountpoint=/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	go func() {
		chunk := strings.Repeat("y", 1<<20)
		for range 6 {
			if _, err := fmt.Fprintf(conn, "%x\r\n%s\r\n", len(chunk), chunk); err != nil {
				return
			}
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 400 {
		t.Errorf("got %v, %v", resp, err)
	}
	// A body where none may be, announced but never sent in full: refused at its first byte.
	conn = dial(t, sock)
	fmt.Fprintf(conn, "PUT /api/v1/daemon/start HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nz")
	if resp, err = http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != 400 {
		t.Errorf("got %v, %v", resp, err)
	}
}

func dial(t testing.TB, sock string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestSlowRequestsDoNotBlockOthers(t *testing.T) {
	f := newFake()
	f.block = make(chan struct{})
	c, sock := serve(t, f)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if resp, body := ask(t, c, "POST", fmt.Sprintf("/api/v1/mount?mountpoint=/%d", i), mountBody); resp.StatusCode != 204 {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
		})
	}
	half := dial(t, sock) // a request that never ends
	fmt.Fprintf(half, "GET /api/v1/daemon HTTP/1.1\r\nHos")
	for range 20 {
		dial(t, sock) // and silent connections
	}
	if resp, _ := ask(t, c, "GET", "/api/v1/daemon", ""); resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
	close(f.block)
	wg.Wait()
	if len(f.mounts) != 16 {
		t.Errorf("got %d mounts", len(f.mounts))
	}
}

// TestNothingTimesOut: waiting for it would not show it.
func TestNothingTimesOut(t *testing.T) {
	s := newServer(newFake())
	if s.ReadTimeout|s.ReadHeaderTimeout|s.WriteTimeout|s.IdleTimeout != 0 {
		t.Errorf("time-outs: read %v, header %v, write %v, idle %v", s.ReadTimeout, s.ReadHeaderTimeout, s.WriteTimeout, s.IdleTimeout)
	}
}

// TestConnectionsAreKeptWhateverTheirHost: several requests go over one, with any host,
// with Content-Length 0 and a type where no body may be, and with a body that was refused
// only at the end.
func TestConnectionsAreKeptWhateverTheirHost(t *testing.T) {
	_, sock := serve(t, newFake())
	conn := dial(t, sock)
	in := bufio.NewReader(conn)
	for _, tt := range []struct {
		request string
		status  int
		last    bool
	}{
		{"GET /api/v1/daemon HTTP/1.1\r\nHost: unix\r\n\r\n", 200, false},
		{"GET /api/v1/daemon HTTP/1.1\r\nHost: localhost:1\r\nContent-Length: 0\r\nContent-Type: application/json\r\n\r\n", 200, false},
		{"GET http://any/api/v1/daemon/events HTTP/1.1\r\nHost: any\r\n\r\n", 200, false},
		{"PUT /api/v1/daemon HTTP/1.1\r\nHost: \r\nContent-Length: 20\r\n\r\n{\"log_level\":\"warn\"}", 204, false},
		{"PUT /api/v1/daemon HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n{\"log_level\":\"warn\"}\r\n0\r\n\r\n", 204, false},
		{"PATCH /api/v1/daemon HTTP/1.1\r\nHost: h\r\n\r\n", 400, false},
		{"GET /api/v1/none HTTP/1.1\r\nHost: h\r\n\r\n", 404, false},
		{"PUT /api/v1/daemon/start HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", 400, true},
	} {
		if _, err := conn.Write([]byte(tt.request)); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != tt.status || resp.Close != tt.last || resp.ProtoMinor != 1 {
			t.Errorf("%q: got %s, closed %v, %v", tt.request, resp.Status, resp.Close, err)
		}
	}
}

func TestSilentConnectionLivesUntilTheServerEnds(t *testing.T) {
	f := newFake()
	var conn net.Conn
	t.Run("serve", func(t *testing.T) {
		c, sock := serve(t, f)
		var err error
		if conn, err = net.Dial("unix", sock); err != nil {
			t.Fatal(err)
		}
		ask(t, c, "GET", "/api/v1/daemon", "")
	})
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end of the stream", err)
	}
}

func TestQuote(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"a", `"a"`}, {`a"\`, `"a\"\\"`}, {"a\nb\t\r\x00", `"a\nb\t\r\0"`}, {"\x1b", `"\u{1b}"`}, {"é'", `"é'"`},
	} {
		if got := quote(tt.in); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

// TestKeysOfAStoreAreSetAsAWhole: what a request leaves out of them is empty then, and no
// answer shows them, or another credential of ours.
func TestKeysOfAStoreAreSetAsAWhole(t *testing.T) {
	f := newFake()
	f.overrides["/a"] = map[string]string{"access_key_id": "i", "access_key_secret": "s", "security_token": "t", "registry_token": "r", "proxy_url": "p"}
	h := Handler(f)
	ask := func(method, body string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://unix/api/v1/config?id=/a", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		w := recorder{header: http.Header{}}
		h.ServeHTTP(&w, r)
		return w.status, string(w.body)
	}
	if status, body := ask("GET", ""); status != 200 || body != `{"proxy_url":"p"}` {
		t.Errorf("got %d %s", status, body)
	}
	for _, body := range []string{`{"access_key_id":"i2","access_key_secret":"s2"}`, `{"access_key_id":"","access_key_secret":""}`, `{"security_token":""}`} {
		status, _ := ask("PUT", body)
		set := f.overrides["/a"]
		if token, ok := set["security_token"]; status != 204 || len(set) != 3 || !ok || token != "" {
			t.Errorf("%s: %d, set %q", body, status, set)
		}
	}
}

// FuzzBody: any body of any command gives a JSON answer with a known status.
func FuzzBody(f *testing.F) {
	for _, s := range []string{mountBody, `{"log_level":"info"}`, `{"registry_auth":"x"}`, `{"type":"bootstrap"}`, `{`, `null`, `[1]`, "{\"a\":\"\xff\"}"} {
		f.Add(uint8(0), []byte(s), "mountpoint=/a")
	}
	targets := []struct{ method, path string }{
		{"POST", "/api/v1/mount"}, {"PUT", "/api/v1/mount"}, {"PUT", "/api/v1/daemon"}, {"PUT", "/api/v1/config"},
		{"PUT", "/api/v2/blobs"}, {"DELETE", "/api/v2/blobs"}, {"GET", "/api/v1/metrics/files"}, {"DELETE", "/api/v1/metrics/inflight"},
		{"PUT", "/api/v1/prefetch"},
	}
	h := Handler(newFake())
	f.Fuzz(func(t *testing.T, n uint8, body []byte, raw string) {
		tg := targets[int(n)%len(targets)]
		r, err := http.NewRequest(tg.method, "http://unix"+tg.path, strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err) // the fuzzed bytes are in none of what it looks at
		}
		r.URL.RawQuery = raw
		w := recorder{header: http.Header{}}
		h.ServeHTTP(&w, r)
		switch w.status {
		case 204:
		case 200, 400, 500, 501:
			if !json.Valid(w.body) {
				t.Fatalf("%d %q", w.status, w.body)
			}
		default:
			t.Fatalf("status %d", w.status)
		}
	})
}

type recorder struct {
	header http.Header
	status int
	body   []byte
}

func (r *recorder) Header() http.Header { return r.header }
func (r *recorder) WriteHeader(s int)   { r.status = s }
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = 200
	}
	r.body = append(r.body, p...)
	return len(p), nil
}
