package teststore

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/internal/testenv"
)

// Types of partitions.
const (
	BasicData       = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
	LinuxFilesystem = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
)

// localFS keeps blobs in a directory.
func localFS(t testing.TB, blobs map[string][]byte) *Store {
	t.Helper()
	return &Store{Type: "localfs", Section: map[string]any{"dir": files(t, blobs)}}
}

// files makes a directory of blobs.
func files(t testing.TB, blobs map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for id, data := range blobs {
		if err := os.WriteFile(filepath.Join(dir, id), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// localDisk keeps blobs in partitions.
func localDisk(t testing.TB, blobs map[string][]byte) *Store {
	t.Helper()
	return &Store{Type: "localdisk", Section: map[string]any{"device_path": Disk(t, blobs, BasicData)}}
}

// Disk makes a disk image with a partition per blob, of a type, one after the other. The
// GUID of each is the second half of its id, where it has one.
func Disk(t testing.TB, blobs map[string][]byte, kind string) string {
	t.Helper()
	testenv.Need(t, testenv.Sfdisk)
	path := filepath.Join(t.TempDir(), "disk")
	const sector, first, last = 512, 2048, 2048 // the tables are in the first and the last sectors
	script, at := "label: gpt\n", first
	starts := map[string]int{}
	for id, data := range blobs {
		size := max(1, (len(data)+sector-1)/sector)
		line := fmt.Sprintf("start=%d, size=%d, type=%s, name=%q", at, size, kind, id[:min(len(id), 32)])
		if g := id[min(len(id), 32):]; g != "" {
			line += fmt.Sprintf(", uuid=%s-%s-%s-%s-%s", g[:8], g[8:12], g[12:16], g[16:20], g[20:])
		}
		script += line + "\n"
		starts[id] = at
		at += (size + first - 1) / first * first
	}
	disk := make([]byte, (at+last)*sector)
	for id, data := range blobs {
		copy(disk[starts[id]*sector:], data)
	}
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(testenv.Program("sfdisk"), "--quiet", "--no-reread", path)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
	return path
}
