package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"vrafs/internal/opener"
)

func TestCgroupMemoryIsTheLeastLimitAbove(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  uint64
		ok    bool
	}{
		{"version 2, limit of the parent", map[string]string{
			"proc/self/cgroup": "0::/pod/c\n", "sys/fs/cgroup/pod/c/memory.max": "max\n", "sys/fs/cgroup/pod/memory.max": "1000000\n"}, 1_000_000, true},
		{"version 1", map[string]string{
			"proc/self/cgroup": "12:cpu,cpuacct:/x\n5:memory:/pod\n0::/\n",
			"sys/fs/cgroup/memory/pod/memory.limit_in_bytes": "2000000\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":     "9223372036854771712\n"}, 2_000_000, true},
		{"no limit", map[string]string{"proc/self/cgroup": "0::/\n"}, 0, false},
		{"no cgroup", nil, 0, false},
		{"path with dots", map[string]string{"proc/self/cgroup": "0::/../..\n", "sys/fs/cgroup/memory.max": "7\n"}, 7, true},
		{"malformed", map[string]string{"proc/self/cgroup": "x\n0::\n"}, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range tt.files {
				p := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, ok := cgroupMemory(opener.Local(), root)
			if ok != tt.ok || ok && got != tt.want {
				t.Errorf("got %d, %v; want %d, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}
