package backends

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"vrafs/config"
	"vrafs/internal/dragonfly"
	"vrafs/internal/dragonfly/dragonflytest"
	"vrafs/internal/httprange"
	"vrafs/internal/opener"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// parsed is the back end of a configuration with one section of that kind.
func parsed(t *testing.T, kind, section string) *config.Backend {
	t.Helper()
	c, err := config.Parse(fmt.Appendf(nil, `{"version":2,"backend":{"type":%q,%q:%s}}`, kind, kind, section))
	if err != nil {
		t.Fatal(err)
	}
	return c.Backend
}

func TestOpenRefusesWhatCannotBeAsked(t *testing.T) {
	const secret = "hunter2"
	proxied := func(url string) string { return `{"host":"h","repo":"r","proxy":{` + url + `}}` }
	for _, tt := range []struct {
		name string
		b    *config.Backend
		want string
	}{
		{"nothing", nil, "names no backend"},
		{"an unknown type", &config.Backend{Type: "tape"}, "`tape`"},
		{"localfs without a place", &config.Backend{Type: config.LocalFSType, LocalFS: &config.LocalFS{}}, "localfs: neither"},
		{"localdisk without a device", &config.Backend{Type: config.LocalDiskType, LocalDisk: &config.LocalDisk{}}, "device_path"},
		{"a registry without certificates", parsed(t, "registry", `{"host":"h","repo":"r","ca_cert_files":["/missing"]}`), "ca_cert_files"},
		{"a proxy that is no web address", parsed(t, "registry", proxied(`"url":"socks5://u:`+secret+`@p"`)), "proxy.url"},
		{"a probe that is none", parsed(t, "registry", proxied(`"ping_url":"//`+secret+`@p"`)), "proxy.ping_url"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := Open(tt.b, Options{Opener: opener.Local()})
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), secret) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestReadsAreTriedAsOftenAsConfigured, by a back end that is released afterwards.
func TestReadsAreTriedAsOftenAsConfigured(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1); r.Header.Get("X-Tenant") != "blue" {
			t.Errorf("got headers %v", r.Header)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(s.Close)
	n := &Network{}
	o, release, err := Open(parsed(t, "http-proxy", fmt.Sprintf(`{"addr":%q,"retry_limit":1}`, s.URL)),
		Options{Opener: opener.Local(), Network: n, Header: http.Header{"X-Tenant": {"blue"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	b, err := o.Open(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.ReadAt(t.Context(), make([]byte, 1), 0); err == nil || asked.Load() != 2 || n.Retries() != 1 {
		t.Errorf("got %v after %d requests, %d of them counted as second tries; want 2 and 1", err, asked.Load(), n.Retries())
	}
}

// TestProxiesMayBeSetAtRunTime: what is set counts before what is configured, as long
// as it is an address.
func TestProxiesMayBeSetAtRunTime(t *testing.T) {
	const configured = "http://configured:1"
	for _, tt := range []struct{ configured, set, want string }{
		{"", "", ""},
		{configured, "", configured},
		{"", "http://set:2", "http://set:2"},
		{configured, "http://set:2", "http://set:2"},
		{configured, "set:2", configured},
	} {
		o := Options{Set: set("proxy_url", tt.set)}
		p, err := o.proxy(&config.Proxy{URL: config.NewURL(tt.configured)})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if u := p.URL(); u != nil {
			got = u.String()
		}
		if got != tt.want {
			t.Errorf("configured %q, set %q: got %q, want %q", tt.configured, tt.set, got, tt.want)
		}
	}
}

// set is Options.Set where one key may be set.
func set(key, value string) func(...string) []string {
	return func(keys ...string) []string {
		if value == "" || len(keys) != 1 || keys[0] != key {
			return nil
		}
		return []string{value}
	}
}

// TestKeysMayBeSetAtRunTime as a whole: what is set without a token has none.
func TestKeysMayBeSetAtRunTime(t *testing.T) {
	now := []string(nil)
	o := Options{Set: func(keys ...string) []string {
		if !slices.Equal(keys, []string{"access_key_id", "access_key_secret", "security_token"}) {
			t.Errorf("asked for %q", keys)
		}
		return now
	}}
	const section = `{"endpoint":"e","region":"r","bucket_name":"b","access_key_id":"i","access_key_secret":"s","security_token":"t"}`
	all := []func() httprange.Keys{o.s3(parsed(t, "s3", section).S3, httprange.Options{}).Keys, o.oss(parsed(t, "oss", section).OSS, httprange.Options{}).Keys}
	for _, tt := range []struct {
		set  []string
		want httprange.Keys
	}{
		{nil, httprange.Keys{ID: "i", Secret: "s", Token: "t"}},
		{[]string{"i2", "s2", "t2"}, httprange.Keys{ID: "i2", Secret: "s2", Token: "t2"}},
		{[]string{"i3", "s3", ""}, httprange.Keys{ID: "i3", Secret: "s3"}},
	} {
		now = tt.set
		for _, keys := range all {
			if got := keys(); got != tt.want {
				t.Errorf("set %q: got %q", tt.set, got)
			}
		}
	}
}

// TestSchedulersMayBeSetAtRunTime likewise; without one there are no peers.
func TestSchedulersMayBeSetAtRunTime(t *testing.T) {
	peer := dragonflytest.StartPeer(t)
	scheduler := func(port string) string {
		s := dragonflytest.Start(t)
		s.Set(dragonflytest.Host(t, 1, peer.URL, "127.0.0.1:"+port))
		return s.URL
	}
	configured, other := scheduler("1"), scheduler("2")
	cluster := dragonfly.New(nil)
	defer cluster.Close()
	for _, tt := range []struct {
		configured, set, want string
		ok                    bool
	}{
		{"", "", "", false},
		{configured, "", "127.0.0.1:1", true},
		{"", other, "127.0.0.1:2", true},
		{configured, other + "/", "127.0.0.1:2", true},
		{configured, "set:2", "127.0.0.1:1", true},
		{"", "set:2", "", false},
	} {
		o := Options{Network: &Network{Dragonfly: cluster}, Set: set("dragonfly_scheduler_endpoint", tt.set)}
		p, err := o.proxy(&config.Proxy{DragonflySchedulerEndpoint: config.NewURL(tt.configured)})
		if err != nil {
			t.Fatal(err)
		}
		u, ok := p.Peer(&url.URL{Host: "registry", Path: "/x"})
		got := ""
		if u != nil {
			got = u.Host
		}
		if ok != tt.ok || got != tt.want {
			t.Errorf("configured %q, set %q: got %q, %v", tt.configured, tt.set, got, ok)
		}
	}
	if _, _, err := Open(parsed(t, "registry", `{"host":"h","repo":"r","proxy":{"dragonfly_scheduler_endpoint":"hunter2:x"}}`),
		Options{Opener: opener.Local(), Network: &Network{Dragonfly: cluster}}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestOptionsWithoutEffectAreToldOf(t *testing.T) {
	var log bytes.Buffer
	b := parsed(t, "registry", `{"host":"h","repo":"r","proxy":{"dragonfly_scheduler_endpoint":"http://u:hunter2@d:8002"}}`)
	_, release, err := Open(b, Options{Opener: opener.Local(), Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	release()
	if s := log.String(); !strings.Contains(s, "option=dragonfly_scheduler_endpoint") || strings.Contains(s, "hunter2") {
		t.Errorf("got %q", s)
	}
}

func TestIntervalsOfAnyLengthArePositive(t *testing.T) {
	for _, seconds := range []uint64{0, 1, math.MaxInt64, math.MaxUint64} {
		if d := interval(seconds); d < 0 || d == 0 && seconds > 0 {
			t.Errorf("%d s: got %v", seconds, d)
		}
	}
}
