package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"vrafs/internal/testregistry"
)

const repo = "library/image"

// push stores the blobs of an image in a registry.
func (im *imageFixture) push(t *testing.T, s *testregistry.Server) {
	t.Helper()
	blobs, err := os.ReadDir(im.BlobDir)
	if err != nil || len(blobs) == 0 {
		t.Fatalf("%d blobs, %v", len(blobs), err)
	}
	for _, b := range blobs {
		data, err := os.ReadFile(filepath.Join(im.BlobDir, b.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if id := s.Push(t, repo, data); id != b.Name() {
			t.Fatalf("blob %s has digest %s", b.Name(), id)
		}
	}
}

// pulled is a configuration as nydus-snapshotter writes it for a registry.
func (im *imageFixture) pulled(host string, more map[string]any) string {
	r := map[string]any{"scheme": "http", "host": host, "repo": repo, "auth": "", "timeout": 5, "connect_timeout": 5, "retry_limit": 2}
	for k, v := range more {
		r[k] = v
	}
	return im.v1(map[string]any{"device": map[string]any{
		"backend": map[string]any{"type": "registry", "config": r},
		"cache":   map[string]any{"type": "blobcache", "config": map[string]any{"work_dir": im.cache}},
	}})
}

// TestCredentialsOfTheEnvironment count before those of the configuration, and show
// nowhere.
func TestCredentialsOfTheEnvironment(t *testing.T) {
	const password = "hunter2hunter2"
	auth := testregistry.Auth("user", password)
	h, im := newHost(t), oneFile(t, "text")
	s := testregistry.Start(t, testregistry.Options{Tokens: testregistry.StartTokens(t, testregistry.TokenSettings{User: "user", Password: password})})
	im.push(t, s)
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(im.pulled(s.Host, map[string]any{"auth": testregistry.Auth("user", "stale")})), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("IMAGE_PULL_AUTH", auth)
	p := h.fuse(t, h.api, "--bootstrap", im.Bootstrap, "--config", path).ready()
	im.CompareMount(t, h.dir)
	if log := p.log() + p.must(200, "GET", "/api/v1/daemon/events", ""); strings.Contains(log, password) || strings.Contains(log, auth) {
		t.Errorf("a credential shows:\n%s", log)
	}
}

// TestRegistryTroubleClearsByItself: reads give EIO and an event tells why; when the
// trouble is over they give bytes, without a restart.
func TestRegistryTroubleClearsByItself(t *testing.T) {
	h, im := newHost(t), oneFile(t, "text")
	s := testregistry.Start(t, testregistry.Options{User: "user", Password: "password"})
	im.push(t, s)
	var down atomic.Bool
	host := testregistry.Proxy(t, s.URL, func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Header.Get("X-Tenant") != "blue":
			w.WriteHeader(http.StatusTeapot)
		case down.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			return false
		}
		return true
	})
	t.Setenv("NYDUS_HEADER_X-Tenant", "blue")
	p := h.fuse(t, h.api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(im.pulled(host, nil)))
	read := func() error {
		text, err := os.ReadFile(filepath.Join(h.dir, "a/f"))
		if err == nil && string(text) != "text" {
			t.Errorf("got %q", text)
		}
		return err
	}
	for _, step := range []struct {
		name  string
		auth  string
		down  bool
		event string // empty: the read succeeds
	}{
		{"no credentials", "", false, host + " answered 401 Unauthorized; configure auth for " + repo},
		{"wrong credentials", testregistry.Auth("user", "wrong"), false, "401 Unauthorized; configure an auth"},
		{"server in trouble", testregistry.Auth("user", "password"), true, host + " answered 503 Service Unavailable"},
		{"all is well", "", false, ""},
	} {
		down.Store(step.down)
		if step.auth != "" {
			p.must(204, "PUT", "/api/v1/config?id=/a", `{"registry_auth":"`+step.auth+`"}`)
		}
		err := read()
		if step.event == "" && err != nil || step.event != "" && !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", step.name, err)
		}
		if events := p.must(200, "GET", "/api/v1/daemon/events", ""); !strings.Contains(events, step.event) {
			t.Errorf("%s: no %q in %s", step.name, step.event, events)
		}
	}
}
