package testtree

import (
	"path/filepath"
	"testing"

	"vrafs/internal/testenv"
)

func TestDebianRootHoldsAPythonAndATar(t *testing.T) {
	testenv.Long(t)
	entries := scan(t, DebianRoot(t), ScanOptions{NoData: true})
	found := map[string]bool{}
	for _, e := range entries {
		found[e.Path] = true
	}
	for _, path := range []string{"usr/bin/python3", "bin/busybox", "usr/bin/dpkg"} {
		if !found[path] && !found[filepath.Join("usr", path)] {
			t.Errorf("no %s among %d entries", path, len(entries))
		}
	}
	if DebianTar(t) == "" {
		t.Error("no tar")
	}
}
