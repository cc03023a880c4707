package blobcache

import (
	"os"
	"path/filepath"
	"testing"

	"vrafs/rafs"
)

// TestEvictionSilencesFilesInThePlaceOfOurs evicts a blob whose sidecar or map was
// replaced, or could not be opened: what lies at their names must not outlive the data.
func TestEvictionSilencesFilesInThePlaceOfOurs(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, b *blobFile, dir string){
		"another sidecar": func(t *testing.T, _ *blobFile, dir string) { replace(t, filepath.Join(dir, "one"+sidecarSuffix)) },
		"another map":     func(t *testing.T, _ *blobFile, dir string) { replace(t, filepath.Join(dir, "one"+mapSuffix)) },
		"no sidecar": func(t *testing.T, b *blobFile, _ string) {
			if err := b.side.close(); err != nil {
				t.Fatal(err)
			}
			b.side = nil
		},
		"no map": func(t *testing.T, b *blobFile, _ string) {
			if err := b.cmap.close(); err != nil {
				t.Fatal(err)
			}
			b.cmap = nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := makeSample(t, blobSpec{id: "one", sizes: sizes(16, 65536), comp: rafs.CompressorZstd})
			dir := t.TempDir()
			e := newEnv(t, s, dir, Options{}, nil)
			e.check(s.all())
			b := onlyFile(t, e.store)
			lose(t, b, dir)
			freed := uint64(0)
			for range 2 { // the first takes the marks of use off
				n, err := e.store.evictCold(b)
				if err != nil {
					t.Fatal(err)
				}
				freed += n
			}
			if freed == 0 {
				t.Fatal("nothing was evicted: the test shows nothing")
			}
			e.close()
			next := newEnv(t, s, dir, Options{}, nil)
			next.check(s.all()[:1])
			b = onlyFile(t, next.store)
			for i := range rafs.ChunkIndex(16) {
				if i != s.all()[0].Index && (b.cmap.has(i) || b.side.read(i) != proof{}) {
					t.Errorf("chunk %d: there is a bit or a proof of evicted data", i)
				}
			}
			next.check(s.all())
		})
	}
}

// replace puts a copy in the place of a file.
func replace(t *testing.T, path string) {
	t.Helper()
	p, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path+".new", p, 0o644)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}
