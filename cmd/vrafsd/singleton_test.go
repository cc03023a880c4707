package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"vrafs/internal/testenv"
)

// singleton starts a daemon without file systems.
func singleton(t *testing.T, api string, more ...string) *process {
	t.Helper()
	return start(t, exec.Command(binary, append([]string{"singleton", "--apisock", api}, more...)...), "", api)
}

// entry is a blob cache entry as nydus-snapshotter writes it.
func (im *imageFixture) entry(domain, id string) string {
	text, _ := json.Marshal(map[string]any{"type": "bootstrap", "id": id, "domain_id": domain, "config": map[string]any{
		"id": id, "backend_type": "localfs", "backend_config": map[string]any{"dir": im.BlobDir},
		"cache_type": "fscache", "cache_config": map[string]any{"work_dir": im.cache},
		"prefetch_config": map[string]any{"enable": true, "threads_count": 8, "merging_size": 1 << 20},
		"metadata_path":   im.Bootstrap,
	}})
	return string(text)
}

// TestSingletonPrefetchesWhatIsBound: an image that was bound once is then served from
// the same directory by a daemon whose back end has no blob.
func TestSingletonPrefetchesWhatIsBound(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE)
	im := smallImage(t)
	list := filepath.Join(t.TempDir(), "list.json")
	if err := os.WriteFile(list, []byte(`{"blobs":[`+im.entry("d", "first")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, api := sockets(t)
	p := singleton(t, api, "--config", list).ready()
	p.must(204, "PUT", "/api/v2/blobs", im.entry("d", "second"))
	for _, id := range []string{"first", "second"} {
		p.eventually(`"data_all_ready":true`, "/api/v1/metrics/blobcache?id="+id)
	}
	out, err := exec.Command(binary, "ps").Output()
	if err != nil || !strings.Contains(string(out), "d/first") || !strings.Contains(string(out), "d/second") || !strings.Contains(string(out), "100%") {
		t.Errorf("ps: %s, %v", out, err)
	}
	// One goes, the other keeps the blob.
	p.must(204, "DELETE", "/api/v2/blobs?domain_id=d&blob_id=first", "")
	p.must(200, "GET", "/api/v1/metrics/blobcache?id=second", "")
	p.signal(syscall.SIGTERM)
	if err := p.wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(api); err == nil {
		t.Error("the control socket is still there")
	}
	h := newHost(t)
	blobs := im.BlobDir
	im.BlobDir = t.TempDir()
	h.fuse(t, h.api, im.withConfig(t)...).ready()
	im.BlobDir = blobs
	im.CompareMount(t, h.dir)
}

// TestLeftOverSocketHasASingletonWait for a takeover, where there is a cache of the
// kernel's to take over; another one starts anew.
func TestLeftOverSocketHasASingletonWait(t *testing.T) {
	_, api := sockets(t)
	singleton(t, api).ready().kill()
	p := singleton(t, api, "--fscache", t.TempDir()).ready()
	if got := p.state(); got != "INIT" {
		t.Error(got)
	}
	p.waitLog("A previous daemon crashed! Try to failover later.")
	p.kill()
	p = singleton(t, api).ready()
	if got := p.state(); got != "RUNNING" {
		t.Error(got)
	}
}
