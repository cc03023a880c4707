package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"vrafs/internal/testregistry"
)

// TestBlobsAreReadOutOfARegistry by the commands that read data, as nydus-image does
// with --backend-type, and by configuration.
func TestBlobsAreReadOutOfARegistry(t *testing.T) {
	const repo, text = "library/image", "out of a registry\n"
	s := testregistry.Start(t, testregistry.Options{})
	src, dir := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(src, "file"), []byte(text), 0o644))
	boot, blobs := filepath.Join(dir, "image.boot"), filepath.Join(dir, "blobs")
	must(t, os.Mkdir(blobs, 0o755))
	runQuietly(t, "", "create", "-l", "warn", "-B", boot, "-D", blobs, src)
	entries, err := os.ReadDir(blobs)
	must(t, err)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(blobs, e.Name()))
		must(t, err)
		s.Push(t, repo, data)
	}
	section := fmt.Sprintf(`{"scheme":"http","host":%q,"repo":%q}`, s.Host, repo)
	config := filepath.Join(dir, "config.json")
	must(t, os.WriteFile(config, []byte(`{"version":2,"backend":{"type":"registry","registry":`+section+`}}`), 0o644))

	tar := filepath.Join(dir, "out.tar")
	runQuietly(t, "", "unpack", "-l", "warn", "-B", boot, "--output", tar, "--backend-type", "registry", "--backend-config", section)
	if got, err := os.ReadFile(tar); err != nil || !bytes.Contains(got, []byte(text)) {
		t.Errorf("unpacked: %d bytes without the file's, %v", len(got), err)
	}
	out, err := nydusImageCommand(t.Context(), "check", "-B", boot, "-C", config).CombinedOutput()
	if err != nil {
		t.Errorf("check: %v: %s", err, out)
	}
}
