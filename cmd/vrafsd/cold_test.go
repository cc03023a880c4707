package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testfault"
	"vrafs/internal/testregistry"
	"vrafs/internal/teststore"
)

// stored is the configuration of an image whose blobs are in a store.
func (im *imageFixture) stored(s *teststore.Store, cache string) string {
	text, _ := json.Marshal(map[string]any{
		"version": 2, "backend": map[string]any{"type": s.Type, s.Type: s.Section},
		"cache": map[string]any{"type": "blobcache", "filecache": map[string]any{"work_dir": cache}},
		"rafs":  map[string]any{"mode": "direct", "enable_xattr": true},
	})
	return string(text)
}

// serve starts a daemon with an image whose blobs are in a store, and an empty cache. It
// asks names for names, unless they are nil.
func (h *host) serve(t *testing.T, im *imageFixture, s *teststore.Store, names *testfault.Names) *process {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(im.stored(s, t.TempDir())), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "fuse", "--mountpoint", h.dir, "--apisock", h.api, "--keeper", "off", "--bootstrap", im.Bootstrap, "--config", path)
	if names != nil {
		names.Command(t, cmd, h.dir)
	}
	return start(t, cmd, "", h.api).ready()
}

// TestEveryBackEndGivesTheTreeCold through /dev/fuse, with nothing in the cache, from a
// real server: straight, and through caching proxies, past which nothing goes. The short
// run takes one of them for each back end.
func TestEveryBackEndGivesTheTreeCold(t *testing.T) {
	im := smallImage(t)
	names := testfault.StartNames(t)
	for i, kind := range teststore.Kinds() {
		t.Run(kind.Name, func(t *testing.T) {
			s := kind.StartDir(t, im.BlobDir)
			im.compareCold(t, s, names, nil)
			// nginx is no tunnel, and puts into TLS what it is asked for without.
			tls := strings.HasPrefix(s.URL, "https:")
			if kind.Remote && (i%2 == 0 || testenv.Soak()) {
				t.Run("nginx", func(t *testing.T) {
					cache := testregistry.StartNginx(t, testregistry.CacheOptions{Names: names.IP, TLS: tls})
					via := s.Through(cache.Host)
					via.Section["proxy"].(map[string]any)["use_http"] = tls
					im.compareCold(t, via, names, cache)
				})
			}
			if kind.Remote && (i%2 == 1 || testenv.Soak()) {
				t.Run("squid", func(t *testing.T) {
					cache := testregistry.StartSquid(t, testregistry.CacheOptions{Names: names.IP})
					im.compareCold(t, s.Through(cache.Host), names, cache)
				})
			}
		})
	}
}

// compareCold compares the tree with what a new daemon shows of it. No secret shows.
func (im *imageFixture) compareCold(t *testing.T, s *teststore.Store, names *testfault.Names, cache *testregistry.Cache) {
	t.Helper()
	h := newHost(t)
	p := h.serve(t, im, s, names)
	im.CompareMount(t, h.dir)
	var m struct {
		Type   string `json:"backend_type"`
		Reads  uint64 `json:"read_count"`
		Errors uint64 `json:"read_errors"`
		Bytes  uint64 `json:"read_amount_total"`
	}
	if err := json.Unmarshal([]byte(p.must(200, "GET", "/api/v1/metrics/backend", "")), &m); err != nil ||
		m.Type != s.Type || m.Reads == 0 || m.Bytes == 0 || m.Errors != 0 {
		t.Errorf("got %+v, %v", m, err)
	}
	log := p.must(200, "GET", "/api/v1/daemon/events", "") + p.end()
	for _, secret := range s.Secrets {
		if strings.Contains(log, secret) {
			t.Errorf("a secret shows:\n%s", log)
		}
	}
	if cache != nil {
		eventually(t, "something went through the proxy", func() bool { return cache.Served(t) > 0 })
	}
}
