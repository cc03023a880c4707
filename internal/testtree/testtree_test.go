package testtree

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"vrafs/internal/testenv"

	"golang.org/x/sys/unix"
)

func scan(t *testing.T, dir string, o ScanOptions) []Entry {
	t.Helper()
	entries, err := Scan(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestSameSeedGivesTheSameTree(t *testing.T) {
	o := Small(7)
	o.Unprivileged = os.Geteuid() != 0
	a, b := scan(t, Make(t, o), ScanOptions{}), scan(t, Make(t, o), ScanOptions{})
	if len(a) < 1200 {
		t.Errorf("only %d entries", len(a))
	}
	for _, d := range Diff(a, b, DiffOptions{}) {
		t.Error(d)
	}
}

func TestManifestKeepsEveryByte(t *testing.T) {
	o := Small(3)
	o.Unprivileged = os.Geteuid() != 0
	want := scan(t, Make(t, o), ScanOptions{})
	var buf bytes.Buffer
	if err := WriteManifest(&buf, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadManifest(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		for _, d := range Diff(want, got, DiffOptions{}) {
			t.Error(d)
		}
		t.Fatal("manifest lost something")
	}
}

func TestHolesEqualZeros(t *testing.T) {
	dir := t.TempDir()
	data := make([]byte, 3<<20+99)
	copy(data[1<<20+100:], "island")
	if err := os.WriteFile(filepath.Join(dir, "full"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "holes"))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteAt([]byte("island"), 1<<20+100)
	_ = f.Truncate(int64(len(data)))
	_ = f.Close()
	for _, o := range []ScanOptions{{}, {ReadHoles: true}} {
		es := scan(t, dir, o)
		if es[1].Digest == "" || es[1].Digest != es[2].Digest {
			t.Errorf("%+v: digests %s, %s", o, es[1].Digest, es[2].Digest)
		}
	}
}

func TestDiffSeesEachAttribute(t *testing.T) {
	testenv.Need(t, testenv.Root)
	for _, tt := range []struct {
		name, field string
		change      func(path string) error
	}{
		{"mode", "mode", func(p string) error { return os.Chmod(p, 0o4711) }},
		{"uid", "uid", func(p string) error { return os.Chown(p, 5, 0) }},
		{"gid", "gid", func(p string) error { return os.Chown(p, 0, 5) }},
		{"mtime", "mtime", func(p string) error {
			return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{{Sec: 1}, {Sec: 5, Nsec: 8}}, 0)
		}},
		{"data", "digest", func(p string) error { return os.WriteFile(p, []byte("Content"), 0) }},
		{"size", "size", func(p string) error { return os.Truncate(p, 3) }},
		{"xattr", "xattrs", func(p string) error { return unix.Setxattr(p, "user.x", []byte("y"), 0) }},
		{"link", "nlink", func(p string) error { return os.Link(p, p+"2") }},
		{"gone", "missing", os.Remove},
		{"type", "target", func(p string) error { _ = os.Remove(p); return os.Symlink("x", p) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			p := filepath.Join(dir, "file")
			if err := os.WriteFile(p, []byte("content"), 0o644); err != nil {
				t.Fatal(err)
			}
			want := scan(t, dir, ScanOptions{})
			if err := tt.change(p); err != nil {
				t.Fatal(err)
			}
			lines := strings.Join(Diff(want, scan(t, dir, ScanOptions{}), DiffOptions{SkipRoot: true}), "\n")
			if !strings.Contains(lines, tt.field) {
				t.Errorf("no %q in: %s", tt.field, lines)
			}
		})
	}
}
