package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"vrafs/api"
	"vrafs/config"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testleak"
)

// run starts a virtiofs daemon in this process. It ends with the test.
func run(t *testing.T) *Daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "d")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d, err := Start(ctx, Config{
		VirtioFS:  &VirtioFS{Socket: filepath.Join(dir, "s"), Queues: 2},
		Root:      Root{Mountpoint: "/"},
		APISocket: filepath.Join(dir, "a"),
		Log:       slog.New(slog.DiscardHandler), Level: &slog.LevelVar{}, Opener: opener.Local(),
	})
	if err != nil {
		stop()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if err := d.Wait(); err != nil {
			t.Error(err)
		}
		left, _ := os.ReadDir(dir)
		if len(left) != 0 {
			t.Errorf("left: %v", left)
		}
		_ = os.RemoveAll(dir)
	})
	return d
}

// command is a mount request for an image.
func command(t *testing.T) api.MountCmd {
	t.Helper()
	source := t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "f"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	im := testimage.Make(t, testimage.Options{Version: 6, Source: source})
	c, _ := json.Marshal(map[string]any{
		"version": 2, "id": "i", "backend": map[string]any{"type": "localfs", "localfs": map[string]any{"dir": im.BlobDir}},
		"cache": map[string]any{"type": "filecache", "filecache": map[string]any{"work_dir": t.TempDir()}},
	})
	return api.MountCmd{Source: im.Bootstrap, FSType: "rafs", Config: string(c)}
}

// TestCommandsInParallel is for the race detector: every command from many
// goroutines at once, on places that they share.
func TestCommandsInParallel(t *testing.T) {
	cmd := command(t)
	d := run(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				place := fmt.Sprintf("/%d/x", (i+j)%3)
				_ = d.Mount(t.Context(), place, cmd)
				_ = d.Remount(t.Context(), place, cmd)
				_, _ = d.Backend(t.Context(), place)
				_ = d.Info()
				_ = d.Families()
				for kind := api.FSMetrics; kind <= api.InflightMetrics; kind++ {
					_, _ = d.Metrics(api.MetricsQuery{Kind: kind})
				}
				_ = d.SetOverride(place, map[string]string{"proxy_url": "x"})
				_, _ = d.Abort(api.AbortQuery{All: true})
				_, _ = d.Override(place), d.Events()
				_ = d.SetLogLevel("debug")
				_ = d.Unmount(t.Context(), place)
			}
		})
	}
	wg.Wait()
	if n := len(d.Info().BackendCollection); n > 3 {
		t.Errorf("%d mounts are left", n)
	}
}

// TestMountCyclesLeakNothing: neither goroutines nor descriptors.
func TestMountCyclesLeakNothing(t *testing.T) {
	cmd := command(t)
	d := run(t)
	cycle := func() {
		t.Helper()
		if err := d.Mount(t.Context(), "/a/b", cmd); err != nil {
			t.Fatal(err)
		}
		if err := d.Unmount(t.Context(), "/a/b"); err != nil {
			t.Fatal(err)
		}
	}
	cycle()
	d.root.Wait()
	ignore := goleak.IgnoreCurrent()
	before := testleak.Descriptors(t)
	for range testenv.Rounds(10_000) {
		cycle()
	}
	d.root.Wait()
	if err := goleak.Find(ignore); err != nil {
		t.Error(err)
	}
	if after := testleak.Descriptors(t); after > before {
		t.Errorf("%d descriptors, before %d", after, before)
	}
}

func TestCommandLineConfigurations(t *testing.T) {
	dir := t.TempDir()
	file := func(text string) string {
		p := filepath.Join(dir, fmt.Sprint(len(text)))
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	d := &Daemon{o: opener.Local()}
	const registry = `{"device":{"backend":{"type":"registry","config":{"host":"h","repo":"a/b"}},"cache":{"type":"blobcache","config":{"work_dir":"/c"}}},"mode":"direct"}`
	for _, tt := range []struct {
		name string
		root Root
		want func(c *config.Config) bool // nil: an error
	}{
		{"nothing to mount", Root{ConfigFile: "/none"}, func(c *config.Config) bool { return c == nil }},
		{"no configuration", Root{Bootstrap: "b"}, nil},
		{"directory", Root{Bootstrap: "b", LocalDir: "/d"}, func(c *config.Config) bool {
			return c.Backend.LocalFS.Dir == "/d" && c.Cache.FileCache.WorkDir == "/d"
		}},
		{"file", Root{Bootstrap: "b", ConfigFile: file(registry)}, func(c *config.Config) bool { return c.Backend.Registry.Auth.Reveal() == "" }},
		{"credentials of the environment", Root{Bootstrap: "b", ConfigFile: file(registry), RegistryAuth: "dTpw"},
			func(c *config.Config) bool { return c.Backend.Registry.Auth.Reveal() == "dTpw" }},
		{"broken credentials", Root{Bootstrap: "b", ConfigFile: file(registry), RegistryAuth: "?"}, nil},
		{"broken file", Root{Bootstrap: "b", ConfigFile: file("x")}, nil},
		{"shared directory", Root{SharedDir: "/d"}, func(c *config.Config) bool { return c == nil }},
		{"relative prefetch file", Root{Bootstrap: "b", LocalDir: "/d", PrefetchFiles: []string{"x"}}, nil},
	} {
		d.cfg.Root = tt.root
		r, err := d.rootMount()
		var c *config.Config
		if r != nil {
			c = r.config
		}
		if (err != nil) != (tt.want == nil) || err == nil && !tt.want(c) {
			t.Errorf("%s: got %+v, %v", tt.name, c, err)
		}
	}
}

// TestTakeoverReplacesWhatWasMountedMeanwhile: what a client mounted in INIT gives way
// to what the predecessor has there, or is it, and is counted from then on.
func TestTakeoverReplacesWhatWasMountedMeanwhile(t *testing.T) {
	theirs, ours := command(t), command(t)
	old, d := run(t), run(t)
	for _, m := range []struct {
		d     *Daemon
		place string
		cmd   api.MountCmd
	}{{old, "/a", theirs}, {old, "/same", theirs}, {d, "/a", ours}, {d, "/same", theirs}, {d, "/ours", theirs}} {
		if err := m.d.Mount(t.Context(), m.place, m.cmd); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.restore(&savedState{tree: old.root.State()}, nil); err != nil {
		t.Fatal(err)
	}
	if m := d.mounts.get("/a"); m == nil || m.cmd.Source != theirs.Source {
		t.Errorf("at /a is %+v", m)
	}
	if len(d.stores.m) != 1 {
		t.Errorf("%d cache directories are in use, want that of the predecessor's image", len(d.stores.m))
	}
	for _, got := range d.root.Mounts() {
		if d.mounts.get(got.Path).stats.Load() != got.Stats {
			t.Errorf("%s shows counters of another mount", got.Path)
		}
	}
}
