package main

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"vrafs/internal/dragonfly/dragonflytest"
	"vrafs/internal/testregistry"
)

// A reload is an image of files that are read one by one, each on another way.
type reload struct {
	h *host
	p *process
	// registry is the one that answers behind the address of the configuration.
	registry      atomic.Pointer[testregistry.Server]
	straight, via atomic.Int64 // its requests
}

// newReload mounts an image whose registry has a password.
func newReload(t *testing.T, password string, files ...string) (*reload, *imageFixture) {
	t.Helper()
	contents := map[string]string{}
	for _, f := range files {
		contents[f] = "text of " + f
	}
	r, im := &reload{h: newHost(t)}, treeOf(t, contents)
	r.registry.Store(r.start(t, im, password))
	origin := testregistry.Proxy(t, r.registry.Load().URL, func(w http.ResponseWriter, q *http.Request) bool {
		if q.Header.Get("Via") != "" {
			r.via.Add(1)
		} else {
			r.straight.Add(1)
		}
		target, _ := url.Parse(r.registry.Load().URL)
		httputil.NewSingleHostReverseProxy(target).ServeHTTP(w, q)
		return true
	})
	config := strings.Replace(im.pulled(origin, map[string]any{"auth": testregistry.Auth("user", password), "retry_limit": 1,
		"proxy": map[string]any{"window_size": 0}}), `"mode":"direct"`, `"mode":"direct","amplify_io":0`, 1)
	r.p = r.h.kept(t)
	r.p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(config))
	return r, im
}

// start starts a registry with an image's blobs.
func (r *reload) start(t *testing.T, im *imageFixture, password string) *testregistry.Server {
	t.Helper()
	s := testregistry.Start(t, testregistry.Options{User: "user", Password: password})
	im.push(t, s)
	return s
}

// set changes one value of the running daemon.
func (r *reload) set(key, value string) {
	r.p.must(204, "PUT", "/api/v1/config?id=/a", `{"`+key+`":"`+value+`"}`)
}

// reads checks that a file is read, or not, and on which way.
func (r *reload) reads(t *testing.T, name string, ok bool, way *atomic.Int64) {
	t.Helper()
	all, mine := r.straight.Load()+r.via.Load(), way.Load()
	text, err := os.ReadFile(filepath.Join(r.h.dir, "a", name))
	if ok != (err == nil) || ok && string(text) != "text of "+name {
		t.Errorf("%s: %q, %v", name, text, err)
	}
	if all, mine = r.straight.Load()+r.via.Load()-all, way.Load()-mine; mine == 0 || mine != all {
		t.Errorf("%s: %d of %d requests went that way", name, mine, all)
	}
}

// TestRegistryTokenMayBeReplaced: a token that is sent as it is ends, and reads go on with
// the next one, which shows nowhere.
func TestRegistryTokenMayBeReplaced(t *testing.T) {
	files := []string{"as-configured", "lost", "renewed", "then"}
	contents := map[string]string{}
	for _, f := range files {
		contents[f] = "text of " + f
	}
	h, im := newHost(t), treeOf(t, contents)
	issue := func() (*testregistry.Server, string) {
		k := testregistry.StartTokens(t, testregistry.TokenSettings{})
		s := testregistry.Start(t, testregistry.Options{Tokens: k})
		im.push(t, s)
		return s, k.Pull(repo)
	}
	first, one := issue()
	second, two := issue() // which knows nothing of the first one's tokens
	var now atomic.Pointer[testregistry.Server]
	now.Store(first)
	host := testregistry.Proxy(t, first.URL, func(w http.ResponseWriter, q *http.Request) bool {
		target, _ := url.Parse(now.Load().URL)
		httputil.NewSingleHostReverseProxy(target).ServeHTTP(w, q)
		return true
	})
	p := h.kept(t, "--log-level", "trace")
	config := strings.Replace(im.pulled(host, map[string]any{"registry_token": one, "retry_limit": 1}), `"mode":"direct"`, `"mode":"direct","amplify_io":0`, 1)
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(config))
	reads := func(name string, ok bool) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(h.dir, "a", name))
		if ok != (err == nil) || ok && string(text) != contents[name] {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	reads("as-configured", true)
	now.Store(second)
	reads("lost", false)
	p.must(204, "PUT", "/api/v1/config?id=/a", `{"registry_token":"`+two+`"}`)
	reads("renewed", true)
	_, server := h.one(t)
	kill(t, server, syscall.SIGKILL)
	reads("then", true)
	for _, target := range []string{"/api/v1/config?id=/a", "/api/v1/daemon", "/api/v1/daemon/events", "/metrics"} {
		checkClean(t, p.must(200, "GET", target, ""), []string{one, two})
	}
	checkClean(t, p.log(), []string{one, two})
}

// TestOverridesCountAtOnce: every value that nydusd can reload is used by the next read,
// here with real servers, and by the successor of a daemon that was killed.
func TestOverridesCountAtOnce(t *testing.T) {
	r, im := newReload(t, "first", "as-configured", "lost", "renewed", "proxy", "past", "peer", "no-peer", "then")
	r.reads(t, "as-configured", true, &r.straight)
	// The registry has another password now.
	r.registry.Store(r.start(t, im, "second"))
	r.reads(t, "lost", false, &r.straight)
	r.set("registry_auth", testregistry.Auth("user", "second"))
	r.reads(t, "renewed", true, &r.straight)
	r.set("proxy_url", "http://"+testregistry.StartCache(t))
	r.reads(t, "proxy", true, &r.via)
	// A proxy that is gone is passed by. A scheduler goes before it.
	r.set("proxy_url", "http://127.0.0.1:9")
	r.reads(t, "past", true, &r.straight)
	scheduler, peer := dragonflytest.Start(t), dragonflytest.StartPeer(t)
	scheduler.Set(dragonflytest.Host(t, 0, peer.URL, "127.0.0.1:9"), dragonflytest.Host(t, 1, peer.URL, testregistry.StartCache(t)))
	r.set("dragonfly_scheduler_endpoint", scheduler.URL)
	r.reads(t, "peer", true, &r.via)
	if scheduler.Asked.Load() == 0 {
		t.Error("the scheduler was not asked")
	}
	empty := dragonflytest.Start(t)
	r.set("dragonfly_scheduler_endpoint", empty.URL)
	r.reads(t, "no-peer", true, &r.straight)
	r.set("dragonfly_scheduler_endpoint", scheduler.URL)
	// A successor goes on with all of that. Its peer has nothing in its cache.
	scheduler.Set(dragonflytest.Host(t, 1, peer.URL, testregistry.StartCache(t)))
	_, server := r.h.one(t)
	kill(t, server, syscall.SIGKILL)
	asked := scheduler.Asked.Load()
	r.reads(t, "then", true, &r.via)
	if scheduler.Asked.Load() == asked {
		t.Error("the successor did not ask the scheduler")
	}
}
