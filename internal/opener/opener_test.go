package opener

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpenedDescriptorsAreCloseOnExec(t *testing.T) {
	dir := t.TempDir()
	f, err := Local().Open(filepath.Join(dir, "new"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
	if fi, err := f.Stat(); err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
}

func TestLocalWorksOnPaths(t *testing.T) {
	dir := t.TempDir()
	o := Local()
	sub := filepath.Join(dir, "a", "b")
	if err := o.MkdirAll(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"old", "new"} {
		f, err := o.Open(filepath.Join(sub, name), os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.WriteString(name)
		_ = f.Close()
	}
	if err := o.Rename(filepath.Join(sub, "new"), filepath.Join(sub, "old")); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(sub, "old")); err != nil || string(b) != "new" {
		t.Errorf("got %q, %v", b, err)
	}
	if err := o.Remove(filepath.Join(sub, "old")); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Open(filepath.Join(sub, "old"), os.O_RDONLY, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestNamesThatLeaveADirectoryAreRefused(t *testing.T) {
	for _, name := range []string{"", ".", "..", "/", "a/b", "../a", "a/", "a\x00b", strings.Repeat("x", 256)} {
		if err := Name(name); !errors.Is(err, ErrName) {
			t.Errorf("%.20q: %v", name, err)
		}
	}
	for _, name := range []string{"a", "...", ".a", "é", "a b\n", strings.Repeat("x", 255)} {
		if err := Name(name); err != nil {
			t.Errorf("%.20q: %v", name, err)
		}
	}
}

// TestRegularOpensOnlyFiles gives it what would hang or have an effect.
func TestRegularOpensOnlyFiles(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(fifo, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo, link, "/dev/null", filepath.Join(dir, "missing")} {
		if f, _, err := Regular(Local(), path); err == nil {
			f.Close()
			t.Errorf("%s opened", path)
		} else if !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v does not name it", path, err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("four"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, fi, err := Regular(Local(), file)
	if err != nil || fi.Size() != 4 {
		t.Fatalf("%v, %v", fi, err)
	}
	f.Close()
}
