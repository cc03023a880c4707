package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
	"vrafs/vhostuser/vhostusertest"
)

// TestPrefetchMakesAnImageLocal, and says so in the metrics.
func TestPrefetchMakesAnImageLocal(t *testing.T) {
	im := smallImage(t)
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(im.v1(map[string]any{"fs_prefetch": map[string]any{"enable": true, "threads_count": 2}})))
	p.eventually(`"data_all_ready":true`, "/api/v1/metrics/blobcache")
	before := p.must(200, "GET", "/api/v1/metrics/backend", "")
	g := boot(t, sock, vhostusertest.GuestConfig{})
	for _, f := range g.tree(t, "/a", im.Tree) {
		if err := readAll(g.clients[0], f); err != nil {
			t.Error(err)
		}
	}
	if after := p.must(200, "GET", "/api/v1/metrics/backend", ""); after != before {
		t.Errorf("the back end was asked although everything was local:\n%s\n%s", before, after)
	}
	var b struct {
		Requests uint64 `json:"prefetch_requests_count"`
		Bytes    uint64 `json:"prefetch_data_amount"`
		Begin    uint64 `json:"prefetch_begin_time_secs"`
	}
	if err := json.Unmarshal([]byte(p.must(200, "GET", "/api/v1/metrics/blobcache", "")), &b); err != nil || b.Requests == 0 || b.Bytes == 0 || b.Begin == 0 {
		t.Errorf("got %+v, %v", b, err)
	}
}

// TestPrefetchListReplacesTheTable: only what the list names is fetched.
func TestPrefetchListReplacesTheTable(t *testing.T) {
	source := t.TempDir()
	for _, name := range []string{"wanted", "other"} {
		if err := os.WriteFile(filepath.Join(source, name), []byte(strings.Repeat(name, 10_000)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	im := imageOf(t, source)
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("\n /wanted \n/missing\n\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config.json")
	text := im.v1(map[string]any{"amplify_io": 0, "fs_prefetch": map[string]any{"enable": true, "prefetch_all": false}})
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sock, api := sockets(t)
	p := virtiofs(t, sock, api, "--bootstrap", im.Bootstrap, "--config", config, "--prefetch-files", list).ready()
	p.waitLog("/missing")
	p.eventually(`"prefetch_data_amount":60000,`, "/api/v1/metrics/blobcache?id=")
}

// TestListThatIsNotFetchedIsTold: prefetch is off where no configuration turns it on,
// also with --localfs-dir, and then a list brings nothing.
func TestListThatIsNotFetchedIsTold(t *testing.T) {
	im := oneFile(t, "text")
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte("/f\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sock, api := sockets(t)
	p := virtiofs(t, sock, api, "--bootstrap", im.Bootstrap, "--localfs-dir", im.BlobDir, "--prefetch-files", list).ready()
	p.waitLog("list of files is not fetched")
	if got, want := p.must(200, "GET", "/api/v1/prefetch?mountpoint=/", ""), prefetchStatus("none", false, 0, 0); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestV5NeedsNoCache: its data goes to a private directory that ends with the
// mount.
func TestV5NeedsNoCache(t *testing.T) {
	im := makeImage(t, testimage.Options{Version: rafs.V5, Compressor: rafs.CompressorZstd, Tree: testtree.Options{Seed: 2}})
	sock, api := sockets(t)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	p := virtiofs(t, sock, api).ready()
	config := `{"device":{"backend":{"type":"localfs","config":{"dir":"` + im.BlobDir + `"}}},"mode":"direct","digest_validate":true}`
	p.must(204, "POST", "/api/v1/mount?mountpoint=/", im.mountBody(config))
	g := boot(t, sock, vhostusertest.GuestConfig{})
	for _, f := range g.tree(t, "/", im.Tree)[:50] {
		if err := readAll(g.clients[0], f); err != nil {
			t.Error(err)
		}
	}
	p.must(204, "DELETE", "/api/v1/mount?mountpoint=/", "")
	p.endsInTime()
	if left, _ := filepath.Glob(filepath.Join(tmp, "vrafsd-*")); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

// TestThousandMounts at once, restored after a kill.
func TestThousandMounts(t *testing.T) {
	testenv.Long(t)
	im := oneFile(t, "text")
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 50 {
				p.must(204, "POST", fmt.Sprintf("/api/v1/mount?mountpoint=/m/%d/%d", i, j), im.mountBody(""))
			}
		})
	}
	wg.Wait()
	p.kill()
	p = virtiofs(t, sock, api).ready()
	var info struct {
		Backends map[string]any `json:"backend_collection"`
	}
	if err := json.Unmarshal([]byte(p.must(200, "GET", "/api/v1/daemon", "")), &info); err != nil || len(info.Backends) != 1000 {
		t.Errorf("got %d mounts, %v", len(info.Backends), err)
	}
	g := boot(t, sock, vhostusertest.GuestConfig{})
	if e, err := walk(g.clients[0], "/m/19/49/f"); err != nil || e.Attr.Size != 4 {
		t.Errorf("got %+v, %v", e, err)
	}
	p.endsInTime()
}

// TestWhoClearsTheSocketStartsAnew: runtime-rs removes stale sockets first.
func TestWhoClearsTheSocketStartsAnew(t *testing.T) {
	im := oneFile(t, "text")
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	p.must(204, "POST", "/api/v1/mount?mountpoint=/a", im.mountBody(""))
	p.kill()
	if err := os.Remove(sock); err != nil {
		t.Fatal(err)
	}
	p = virtiofs(t, sock, api).ready()
	if body := p.must(200, "GET", "/api/v1/daemon", ""); !strings.Contains(body, `"backend_collection":{}`) {
		t.Errorf("got %s", body)
	}
	// The state of the former daemon must not come back after the next kill.
	p.kill()
	p = virtiofs(t, sock, api).ready()
	if body := p.must(200, "GET", "/api/v1/daemon", ""); !strings.Contains(body, `"backend_collection":{}`) {
		t.Errorf("got %s", body)
	}
}

// TestMountThatCannotBeRestoredIsLeftOut: the others come back.
func TestMountThatCannotBeRestoredIsLeftOut(t *testing.T) {
	good, lost, changed := oneFile(t, "good"), oneFile(t, "lost"), oneFile(t, "changed")
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	for place, im := range map[string]*imageFixture{"good": good, "lost": lost, "changed": changed} {
		p.must(204, "POST", "/api/v1/mount?mountpoint=/"+place, im.mountBody(""))
	}
	g := boot(t, sock, vhostusertest.GuestConfig{Order: vhostusertest.CloudHypervisor, Inflight: true})
	e, err := walk(g.clients[0], "/lost/f")
	if err != nil {
		t.Fatal(err)
	}
	p.kill()
	_ = g.conn.Close()
	if err := os.Remove(lost.Bootstrap); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(oneFile(t, "other").Bootstrap, changed.Bootstrap); err != nil {
		t.Fatal(err)
	}
	p = virtiofs(t, sock, api).ready()
	p.waitLog("mount can't be restored")
	g.connect(t, sock)
	if err := g.Reconnect(g.conn); err != nil {
		t.Fatal(err)
	}
	if data, err := g.clients[0].Getattr(e.Node); err == nil {
		t.Errorf("a lost file shows %+v", data)
	}
	if e, err := walk(g.clients[0], "/good/f"); err != nil || e.Attr.Size != 4 {
		t.Errorf("got %+v, %v", e, err)
	}
	var info struct {
		Backends map[string]any `json:"backend_collection"`
	}
	if err := json.Unmarshal([]byte(p.must(200, "GET", "/api/v1/daemon", "")), &info); err != nil || len(info.Backends) != 1 {
		t.Errorf("got %v, %v", info.Backends, err)
	}
	// Their places can be used again.
	p.must(204, "POST", "/api/v1/mount?mountpoint=/lost", good.mountBody(""))
}

// TestDamagedStateIsRefused rather than served half.
func TestDamagedStateIsRefused(t *testing.T) {
	sock, api := sockets(t)
	virtiofs(t, sock, api).ready().kill()
	if err := os.WriteFile(sock+".state", []byte("no state"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := virtiofs(t, sock, api)
	if err := p.wait(); err == nil || p.cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("got %v", err)
	}
	p.waitLog("saved state")
	if _, err := os.Stat(sock + ".state"); err != nil {
		t.Error("the state was thrown away")
	}
}
