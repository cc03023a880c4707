package blobcache

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"vrafs/internal/opener"
)

// write makes files with their names as content.
func write(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOnlyCachedBlobsAreEvicted(t *testing.T) {
	dir := t.TempDir()
	names := []string{
		"a", "a.blob.meta", "a.blob.digest", // of a back end
		"b.chunk_map",           // of an old nydusd
		"c.blob.data.chunk_map", // no chunk map
		".blob.data", "notes.txt",
		"d.blob.data.blob.data", "d.blob.data.chunk_map",
	}
	write(t, dir, names...)
	list, err := Survey(opener.Local(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, u := range list {
		ids = append(ids, u.ID)
	}
	if slices.Sort(ids); !slices.Equal(ids, []string{"c", "d"}) {
		t.Errorf("listed are %q", ids)
	}
	for _, id := range []string{"", "a", "b", "c", "d", "d.blob.data", "notes.txt", "../a"} {
		if n, err := Evict(opener.Local(), dir, id); n != 0 {
			t.Errorf("%q: %d bytes freed, %v", id, n, err)
		}
	}
	for _, name := range names {
		if p, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(p) != name {
			t.Errorf("%s: %q, %v", name, p, err)
		}
	}
}

// TestIDsDoNotShareFiles opens a blob whose sidecar would be the map of another.
func TestIDsDoNotShareFiles(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(2, 4096)}, blobSpec{id: "one" + dataSuffix, sizes: sizes(2, 4096)})
	dir := t.TempDir()
	e := newEnv(t, s, dir, Options{}, nil)
	e.check(s.all())
	f, err := os.Open(filepath.Join(dir, "one"+mapSuffix))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := openChunkMap(f, 2, true)
	if err != nil {
		t.Fatal(err)
	}
	if !m.has(0) || !m.has(1) {
		t.Error("the map is not that of the blob")
	}
	if err := m.close(); err != nil {
		t.Fatal(err)
	}
}
