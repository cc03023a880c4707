package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// listed is an image of incompressible files: two small ones and one of four chunks.
func listed(t *testing.T) *imageFixture {
	t.Helper()
	source := t.TempDir()
	random := rand.NewChaCha8([32]byte{7})
	for name, size := range map[string]int{"a": 5000, "b": 7000, "rest": 9000, "d/big": 4 << 20} {
		data := make([]byte, size)
		_, _ = random.Read(data)
		path := filepath.Join(source, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return imageOf(t, source)
}

// serving starts a daemon with the image at its root, without read-ahead of the kernel
// or of ours.
func (im *imageFixture) serving(t *testing.T, h *host, prefetch map[string]any, args ...string) *process {
	t.Helper()
	config := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(config, []byte(im.v1(map[string]any{"amplify_io": 0, "fs_prefetch": prefetch})), 0o600); err != nil {
		t.Fatal(err)
	}
	return h.fuse(t, h.api, append([]string{"--bootstrap", im.Bootstrap, "--config", config}, args...)...).ready()
}

// readAt reads a byte of a file on the host, and nothing beside it.
func (h *host) readAt(t *testing.T, name string, off int64) {
	t.Helper()
	f, err := os.Open(filepath.Join(h.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(make([]byte, 1), off); err != nil {
		t.Fatal(err)
	}
}

// TestWhatWasReadIsAListForPrefetch: in its order, with what counts of large files, by
// the tool and in the forms that nydus has; and prefetch of the list brings that and
// nothing else.
func TestWhatWasReadIsAListForPrefetch(t *testing.T) {
	program, im, h := ctlProgram(t), listed(t), newHost(t)
	off := map[string]any{"enable": false}
	p := im.serving(t, h, off)
	h.readAt(t, "b", 0)
	h.readAt(t, "d/big", 2<<20)
	h.readAt(t, "d/big", 1<<20)
	h.readAt(t, "a", 100)
	h.readAt(t, "d/big", 2<<20)
	ctl := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(program, append([]string{"ctl", "-S", h.api}, args...)...).Output()
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return string(out)
	}
	lines := ctl("files")
	if want := "/b\n/d/big\t2097152-3145727,1048576-2097151\n/a\n"; lines != want {
		t.Errorf("got %q, want %q", lines, want)
	}
	if got, want := ctl("files", "--format", "plain"), "/b\n/d/big\n/a\n"; got != want {
		t.Errorf("plain: got %q, want %q", got, want)
	}
	if got, want := ctl("files", "--format", "json"), `{"version":"v1","files":[{"path":"/b"},{"path":"/d/big","ranges":[[2097152,1048576],[1048576,1048576]]},{"path":"/a"}]}`+"\n"; got != want {
		t.Errorf("JSON: got %q, want %q", got, want)
	}
	p.end()
	_ = unix.Unmount(h.dir, unix.MNT_DETACH)

	im.cache = t.TempDir()
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	p = im.serving(t, h, map[string]any{"enable": true, "prefetch_all": false}, "--prefetch-files", list)
	const bytes = 5000 + 7000 + 2<<20
	p.eventually(`"state":"done"`, "/api/v1/prefetch?mountpoint=/")
	if got, want := p.must(200, "GET", "/api/v1/prefetch?mountpoint=/", ""), prefetchStatus("done", false, bytes, bytes); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var stats struct {
		Entries uint64 `json:"entries_count"`
		Amount  uint64 `json:"prefetch_data_amount"`
	}
	if err := json.Unmarshal([]byte(p.must(200, "GET", "/api/v1/metrics/blobcache", "")), &stats); err != nil || stats.Entries != 4 || stats.Amount > bytes+64<<10 {
		t.Errorf("%+v, %v", stats, err)
	}
	if got := ctl("files"); got != "" {
		t.Errorf("prefetch counts as reading: %q", got)
	}
}

func prefetchStatus(state string, paused bool, total, done uint64) string {
	text, _ := json.Marshal(struct {
		State  string `json:"state"`
		Paused bool   `json:"paused"`
		Total  uint64 `json:"total"`
		Done   uint64 `json:"done"`
	}{state, paused, total, done})
	return string(text)
}

// TestPrefetchIsPausedAndSeen over the API, with the tool and in ps.
func TestPrefetchIsPausedAndSeen(t *testing.T) {
	program, im, h := ctlProgram(t), listed(t), newHost(t)
	p := im.serving(t, h, map[string]any{"enable": false})
	const place = "/api/v1/prefetch?mountpoint=/"
	if got, want := p.must(200, "GET", place, ""), prefetchStatus("none", false, 0, 0); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	ctl := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(program, append([]string{"ctl", "-S", h.api, "prefetch"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	ctl("pause")
	ctl("start", "--all")
	p.eventually(`"state":"paused"`, place)
	h.readAt(t, "a", 0) // what somebody waits for comes all the same
	if m := p.must(200, "GET", "/metrics", ""); !strings.Contains(m, `vrafs_prefetch_paused{mountpoint="/"} 1`) ||
		!strings.Contains(m, `vrafs_prefetch_running{mountpoint="/"} 1`) || strings.Contains(m, `vrafs_prefetch_left_bytes{mountpoint="/"} 0`) {
		t.Errorf("metrics:\n%s", m)
	}
	ps := func(want string) {
		t.Helper()
		out, err := exec.Command(binary, "ps").Output()
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(out)) {
			if strings.Contains(l, h.api) && strings.Contains(l, want) {
				return
			}
		}
		t.Errorf("no %q in\n%s", want, out)
	}
	ps(",paused")
	ctl("resume")
	p.eventually(`"state":"done"`, place)
	p.eventually(`"data_all_ready":true`, "/api/v1/metrics/blobcache")
	ps(" 100% ")
	ps(" done ")
	if status, answer := p.ask("PUT", "/api/v1/prefetch?mountpoint=/nothing", `{"all":true}`); status != 404 {
		t.Errorf("prefetch of nothing: %d %s", status, answer)
	}
}
