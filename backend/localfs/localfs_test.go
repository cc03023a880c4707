package localfs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"vrafs/backend"
	"vrafs/backend/backendtest"
	"vrafs/internal/opener"
)

func TestConformance(t *testing.T) {
	backendtest.Run(t, func(t *testing.T, blobs map[string][]byte) backend.Opener {
		dir := t.TempDir()
		for id, data := range blobs {
			write(t, filepath.Join(dir, id), data)
		}
		return open(t, Options{Dir: dir})
	})
}

func TestAltDirsServeWhatDirLacksOrHasEmpty(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	write(t, filepath.Join(one, "empty"), nil)
	write(t, filepath.Join(two, "empty"), []byte("second"))
	write(t, filepath.Join(two, "absent"), []byte("second"))
	write(t, filepath.Join(one, "both"), []byte("first."))
	write(t, filepath.Join(two, "both"), []byte("second"))
	o := open(t, Options{Dir: one, AltDirs: []string{filepath.Join(one, "missing"), two}})
	for id, want := range map[string]string{"empty": "second", "absent": "second", "both": "first."} {
		if got := read(t, o, id, len(want)); got != want {
			t.Errorf("%s: got %q, want %q", id, got, want)
		}
	}
	if _, err := o.Open(t.Context(), "nowhere"); !errors.Is(err, backend.ErrNotFound) || !errors.Is(err, backend.ErrPermanent) {
		t.Errorf("missing blob: %v", err)
	}
}

func TestOneFileServesEveryID(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	write(t, path, []byte("all"))
	o := open(t, Options{File: path})
	for _, id := range []string{"a", "b/../c"} {
		if got := read(t, o, id, 3); got != "all" {
			t.Errorf("%s: got %q", id, got)
		}
	}
}

func TestOpenRefusesWhatIsNoPlainName(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret"), []byte("x"))
	o := open(t, Options{Dir: filepath.Join(dir, "blobs")})
	for _, id := range []string{"", ".", "..", "../secret", "a/b", "a\x00"} {
		if b, err := o.Open(t.Context(), id); err == nil {
			b.Close()
			t.Errorf("%q was opened", id)
		}
	}
	if _, err := New(opener.Local(), Options{}); err == nil {
		t.Error("no place at all was accepted")
	}
}

func TestOpenRefusesDirectories(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "id"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, Options{Dir: dir}).Open(t.Context(), "id"); !errors.Is(err, backend.ErrPermanent) {
		t.Errorf("got %v", err)
	}
}

func open(t *testing.T, opt Options) backend.Opener {
	t.Helper()
	o, err := New(opener.Local(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func read(t *testing.T, o backend.Opener, id string, n int) string {
	t.Helper()
	b, err := o.Open(t.Context(), id)
	if err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	defer b.Close()
	p := make([]byte, n)
	if _, err := b.ReadAt(t.Context(), p, 0); err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	return string(p)
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
