package kata

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// setups are what golden files show: both runtimes on both hypervisors, and both
// majors of containerd.
var setups = map[string]Setup{
	"go-qemu":   {},
	"go-clh":    {VMM: VMMCloudHypervisor, Containerd: 1, Runc: true},
	"rust-qemu": {Runtime: Rust, Daemon: "/opt/vrafs/bin/vrafsd", Cache: "/data/nydus cache"},
	"rust-clh":  {Runtime: Rust, VMM: VMMCloudHypervisor},
}

// TestFilesAreTheGoldenOnes, and are what their readers can parse.
func TestFilesAreTheGoldenOnes(t *testing.T) {
	for name, s := range setups {
		files, err := s.Files()
		if err != nil || len(files) != 4 {
			t.Fatalf("%s: %d files, %v", name, len(files), err)
		}
		for _, f := range files {
			golden := filepath.Join("testdata", name, f.Name+filepath.Ext(f.Path))
			if *update {
				if err := errors.Join(os.MkdirAll(filepath.Dir(golden), 0o755), os.WriteFile(golden, []byte(f.Text), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if f.Text != string(want) {
				t.Errorf("%s: got\n%s\nwant\n%s", golden, f.Text, want)
			}
			var tree map[string]any
			parse := toml.Unmarshal
			if f.Name == "nydusd" {
				parse = json.Unmarshal
			}
			if err := parse([]byte(f.Text), &tree); err != nil || len(tree) == 0 {
				t.Errorf("%s: %v", golden, err)
			}
		}
	}
}

// hypervisorOf parses the drop-in of a set-up and returns its hypervisor's table.
func hypervisorOf(t *testing.T, s Setup, section string) map[string]any {
	t.Helper()
	files, err := s.Files()
	if err != nil {
		t.Fatal(err)
	}
	var tree struct {
		Hypervisor map[string]map[string]any
	}
	if err := toml.Unmarshal([]byte(files[0].Text), &tree); err != nil {
		t.Fatal(err)
	}
	if len(tree.Hypervisor) != 1 {
		t.Fatalf("%d hypervisors", len(tree.Hypervisor))
	}
	return tree.Hypervisor[section]
}

// TestDropInsSayWhatTheRuntimesNeed: kata.md, section 5.1.
func TestDropInsSayWhatTheRuntimesNeed(t *testing.T) {
	for _, tt := range []struct {
		setup   Setup
		section string
	}{
		{Setup{}, "qemu"},
		{Setup{VMM: VMMCloudHypervisor}, "clh"},
		{Setup{Runtime: Rust}, "qemu"},
		{Setup{Runtime: Rust, VMM: VMMCloudHypervisor}, "cloud-hypervisor"},
	} {
		h := hypervisorOf(t, tt.setup, tt.section)
		if args, ok := h["virtio_fs_extra_args"].([]any); h["shared_fs"] != "virtio-fs-nydus" || h["virtio_fs_daemon"] != "/usr/local/bin/vrafsd" ||
			h["virtio_fs_cache_size"] != int64(0) || !ok || len(args) != 0 {
			t.Errorf("%v: %v", tt.setup, h)
		}
		if _, ok := h["virtio_fs_is_dax"]; ok != (tt.setup.Runtime == Rust) {
			t.Errorf("%v: virtio_fs_is_dax is a key of runtime-rs alone: %v", tt.setup, h)
		}
	}
}

func TestPathsThatNoFileCanHoldAreRefused(t *testing.T) {
	for _, p := range []string{"vrafsd", "/usr/bin/vrafsd\n", `/usr/"bin`, `/usr\bin`, "/usr/*", "\x00"} {
		for _, s := range []Setup{{Daemon: p}, {Cache: p}, {Image: p}} {
			if _, err := s.Files(); !errors.Is(err, ErrSetup) {
				t.Errorf("%q: %v", p, err)
			}
		}
	}
	if _, err := (Setup{Containerd: 3}).Files(); !errors.Is(err, ErrSetup) {
		t.Error(err)
	}
}
