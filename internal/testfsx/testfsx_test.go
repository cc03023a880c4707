package testfsx

import (
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRunFindsNothingOnTheHost(t *testing.T) {
	done, err := Run(filepath.Join(t.TempDir(), "file"), Options{Ops: 2000, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []string{"write", "read", "mmap_write", "truncate", "copy", "reopen"} {
		if done[op] == 0 {
			t.Errorf("no %s among %v", op, done)
		}
	}
}

// TestRunSeesAChangedByte has somebody else write into the file.
func TestRunSeesAChangedByte(t *testing.T) {
	f := &file{path: filepath.Join(t.TempDir(), "file"), max: 1 << 10}
	if err := f.open(unix.O_CREAT); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(f.fd)
	if err := f.writeAt([]byte("what was written"), 3); err != nil {
		t.Fatal(err)
	}
	if err := f.check(); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Pwrite(f.fd, []byte("?"), 5); err != nil {
		t.Fatal(err)
	}
	if err := f.check(); !errors.Is(err, ErrWrong) {
		t.Errorf("got %v", err)
	}
	f.model[5] = '?'
	if err := unix.Ftruncate(f.fd, 7); err != nil {
		t.Fatal(err)
	}
	for name, check := range map[string]func() error{"check": f.check, "stat": f.stat} {
		if err := check(); !errors.Is(err, ErrWrong) {
			t.Errorf("%s of a shortened file: %v", name, err)
		}
	}
}
