package opener

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
)

func writeFile(t *testing.T, dir string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, "image.boot")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLocalFilesAreMappedAndOthersCopied(t *testing.T) {
	content := bytes.Repeat([]byte("bootstrap"), 3000)
	for _, tt := range []struct {
		name   string
		dir    func(t *testing.T) string
		open   func(Opener, string) (*Mapping, error)
		copied bool
	}{
		{"tmpfs", func(t *testing.T) string { return tmpfs(t) }, MapBootstrap, false},
		{"tmpfs_as_a_copy", func(t *testing.T) string { return tmpfs(t) }, MapCopy, true},
		{"overlayfs", overlayOnTmpfs, MapBootstrap, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := tt.open(Local(), writeFile(t, tt.dir(t), content))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(m.Bytes(), content) || m.Copied() != tt.copied {
				t.Errorf("%d bytes, copied %v", len(m.Bytes()), m.Copied())
			}
			if err := m.Close(); err != nil || m.Bytes() != nil {
				t.Errorf("close: %v", err)
			}
			if err := m.Close(); err != nil {
				t.Errorf("close again: %v", err)
			}
		})
	}
}

// tmpfs mounts one of its own, so that its kind is known.
func tmpfs(t *testing.T) string {
	t.Helper()
	testenv.Need(t, testenv.Root)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// overlayOnTmpfs mounts an overlay, whose lower layers may be anything.
func overlayOnTmpfs(t *testing.T) string {
	t.Helper()
	testenv.Need(t, testenv.Overlay)
	base, dir := tmpfs(t), t.TempDir()
	for _, d := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	opts := "lowerdir=" + base + "/lower,upperdir=" + base + "/upper,workdir=" + base + "/work"
	if err := unix.Mount("overlay", dir, "overlay", 0, opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TestCopiesOutliveTheirFile cuts the file short and overwrites it.
func TestCopiesOutliveTheirFile(t *testing.T) {
	content := bytes.Repeat([]byte{7}, 100000)
	path := writeFile(t, t.TempDir(), content)
	m, err := MapCopy(Local(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := os.WriteFile(path, []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Bytes(), content) {
		t.Error("the copy has changed")
	}
}

// TestTruncationCanBeRecovered shows what a goroutine that reads a mapping has to
// be ready for, and that it is enough.
func TestTruncationCanBeRecovered(t *testing.T) {
	path := writeFile(t, tmpfs(t), make([]byte, 100000))
	m, err := MapBootstrap(Local(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	fault := make(chan any)
	go func() { fault <- faults(func() { t.Logf("read %d", m.Bytes()[50000]) }) }()
	if <-fault == nil {
		t.Error("a page past the end was read")
	}
}

func TestWhatCannotBeMappedIsAnError(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{"empty": writeFile(t, dir, nil), "directory": dir, "missing": dir + "/x", "device": "/dev/zero"} {
		if m, err := MapBootstrap(Local(), path); err == nil {
			m.Close()
			t.Errorf("%s was mapped", name)
		}
	}
	if _, err := Seal(strings.NewReader("short"), 10); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short input: %v", err)
	}
	for _, n := range []int64{0, -1, maxMapping + 1} {
		if _, err := Seal(strings.NewReader(""), n); err == nil {
			t.Errorf("%d bytes sealed", n)
		}
	}
	for _, n := range []uint64{0, maxMapping + 1} {
		if _, err := Memory(n); err == nil {
			t.Errorf("%d bytes mapped", n)
		}
	}
}

// TestSealedMemoryTakesOnlyWhatIsAsked reads no more of the source than it needs.
func TestSealedMemoryTakesOnlyWhatIsAsked(t *testing.T) {
	r := strings.NewReader("bootstrap and more")
	m, err := Seal(r, 9)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if rest, _ := io.ReadAll(r); string(m.Bytes()) != "bootstrap" || string(rest) != " and more" {
		t.Errorf("sealed %q, left %q", m.Bytes(), rest)
	}
	if err := faults(func() { m.Bytes()[0] = 1 }); err == nil {
		t.Error("sealed memory was written")
	}
}

func TestMemoryIsZeroAndCanBeFrozen(t *testing.T) {
	m, err := Memory(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if !bytes.Equal(m.Bytes(), make([]byte, 1<<20)) {
		t.Error("not zero")
	}
	m.Bytes()[5] = 1
	if err := m.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := faults(func() { m.Bytes()[5] = 2 }); err == nil || m.Bytes()[5] != 1 {
		t.Error("frozen memory was written")
	}
	m.Close()
	if err := m.Freeze(); err == nil {
		t.Error("a closed mapping was frozen")
	}
}

// faults runs f and gives the memory fault that ended it, nil if none did.
func faults(f func()) (fault any) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { fault = recover() }()
	f()
	return nil
}
