package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTruncatedBootstrapIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "boot")
	if err := os.WriteFile(path, make([]byte, 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mem, err := unix.Mmap(int(f.Fd()), 0, 1<<16, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	sum := byte(0)
	err = guarded(func() error {
		for _, b := range mem {
			sum += b
		}
		return nil
	})
	if !errors.Is(err, errCutShort) {
		t.Errorf("got %v", err)
	}
	var list []int
	if err := guarded(func() error { list[len(list)] = 1; return nil }); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("got %v", err)
	}
	want := errors.New("x")
	if err := guarded(func() error { return want }); err != want {
		t.Errorf("got %v", err)
	}
}
