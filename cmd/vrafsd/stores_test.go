package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestImagesOfOtherStoresAreReadCold: each network back end is asked for what its
// configuration says. Its own package shows that real servers take its signatures.
func TestImagesOfOtherStoresAreReadCold(t *testing.T) {
	keys := map[string]any{"access_key_id": "AKID", "access_key_secret": "hunter2hunter2", "bucket_name": "bucket", "object_prefix": "images/", "scheme": "http"}
	for _, tt := range []struct {
		kind           string
		config         func(host string) map[string]any
		url, authorize string // of every request, without the blob's and the key's id
	}{
		{"s3", func(host string) map[string]any {
			return map[string]any{"endpoint": host, "region": "eu"}
		}, "HOST/bucket/images/", "AWS4-HMAC-SHA256 Credential="},
		{"oss", func(host string) map[string]any {
			return map[string]any{"endpoint": "oss.example", "proxy": map[string]any{"url": "http://" + host, "fallback": false}}
		}, "bucket.oss.example/images/", "OSS "},
		{"http-proxy", func(host string) map[string]any {
			return map[string]any{"addr": "http://" + host, "path": "/blobs"}
		}, "HOST/blobs/", ""},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			h, im := newHost(t), smallImage(t)
			var mu sync.Mutex
			asked := map[string]bool{} // address, and what was shown there up to the key's id
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				shown, _, _ := strings.Cut(r.Header.Get("Authorization"), "AKID")
				mu.Lock()
				asked[r.Host+path.Dir(r.URL.Path)+"/ "+shown] = true
				mu.Unlock()
				http.ServeFile(w, r, filepath.Join(im.BlobDir, path.Base(r.URL.Path)))
			}))
			t.Cleanup(s.Close)
			host := strings.TrimPrefix(s.URL, "http://")
			section := tt.config(host)
			for k, v := range keys {
				section[k] = v
			}
			c, _ := json.Marshal(map[string]any{"version": 2, "backend": map[string]any{"type": tt.kind, tt.kind: section},
				"cache": map[string]any{"type": "blobcache", "filecache": map[string]any{"work_dir": im.cache}}})
			p := h.fuse(t, h.api).ready()
			p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(string(c)))
			im.CompareMount(t, filepath.Join(h.dir, "a"))
			mu.Lock()
			defer mu.Unlock()
			if want := strings.Replace(tt.url, "HOST", host, 1) + " " + tt.authorize; len(asked) != 1 || !asked[want] {
				t.Errorf("asked for %v, want %s", asked, want)
			}
			if log := p.log(); strings.Contains(log, "hunter2") {
				t.Errorf("a key shows: %s", log)
			}
		})
	}
}
