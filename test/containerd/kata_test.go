package containerd

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"vrafs/config"
	"vrafs/kata"
)

// TestSnapshotterGivesKataAnExtraOption runs nydus-snapshotter with the configuration
// that `vrafs kata config` prints, and reads what it would hand to Kata's runtimes.
func TestSnapshotterGivesKataAnExtraOption(t *testing.T) {
	s := raise(t, "registry", func(s *stage) string {
		files, err := kata.Setup{Daemon: s.path("nydusd"), Image: program(t, "nydus-image"), Cache: s.path("cache")}.Files()
		must(t, err)
		text := files[2].Text + "[system]\nenable = true\naddress = \"" + systemSock + "\"\n[log]\nlog_to_stdout = true\n"
		return strings.NewReplacer(kata.SnapshotterSock, snapshotterSock, kata.NydusdConfig, s.path("nydusd.json"),
			"/var/lib/containerd-nydus", s.path("nydus")).Replace(text)
	})
	s.pull()
	if list := s.daemons(); len(list) != 0 {
		t.Errorf("the snapshotter started %+v, but Kata starts the daemon", list)
	}
	names, parents := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(s.ctr("snapshots", "--snapshotter", "nydus", "ls")) {
		if f := strings.Fields(line); f[len(f)-1] == "Committed" {
			names[f[0]] = true
			if len(f) == 3 {
				parents[f[1]] = true
			}
		}
	}
	maps.DeleteFunc(names, func(name string, _ bool) bool { return parents[name] })
	top := slices.Collect(maps.Keys(names))
	if len(top) != 1 {
		t.Fatalf("%d snapshots are nobody's parent, want the image's", len(top))
	}
	command := strings.Fields(s.ctr("snapshots", "--snapshotter", "nydus", "prepare", "--target", "/rootfs", "container", top[0]))
	if len(command) != 7 || !kata.IsNydusMount(command[2], kata.Go) || !kata.IsNydusMount(command[2], kata.Rust) {
		t.Fatalf("not a mount for Kata: %q", command)
	}
	for _, by := range []kata.Runtime{kata.Go, kata.Rust} {
		o, err := kata.ParseExtraOption(strings.Split(command[6], ","), by)
		must(t, err)
		if st, err := os.Stat(o.Source); err != nil || !st.Mode().IsRegular() {
			t.Errorf("%s: source %s: %v", by, o.Source, err)
		}
		for _, dir := range []string{"fs", "work"} {
			if st, err := os.Stat(o.SnapshotDir + "/" + dir); err != nil || !st.IsDir() {
				t.Errorf("%s: %s in %s: %v", by, dir, o.SnapshotDir, err)
			}
		}
		c, err := config.Parse([]byte(o.Config))
		must(t, err)
		if c.Backend == nil || c.Backend.Registry == nil || c.Backend.Registry.Host != registryAddress || c.Backend.Registry.Repo != "app" {
			t.Errorf("%s: back end %+v", by, c.Backend)
		}
		if o.FSVersion != "v6" {
			t.Errorf("%s: version %q", by, o.FSVersion)
		}
	}
}
