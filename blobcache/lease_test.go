package blobcache

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/rafs"
)

// TestNoLeaseThatSaysTooLittle: on overlayfs the kernel grants a lease on a mapped file.
func TestNoLeaseThatSaysTooLittle(t *testing.T) {
	open := func(t *testing.T, path string) *os.File {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	t.Run("second name", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "f")
		f := open(t, path)
		if err := lease(f); err != nil {
			t.Fatal(err)
		}
		unlease(f)
		if err := os.Link(path, path+"2"); err != nil {
			t.Fatal(err)
		}
		if err := lease(f); !errors.Is(err, ErrInUse) {
			t.Errorf("%v", err)
		}
	})
	t.Run("overlayfs", func(t *testing.T) {
		testenv.Need(t, testenv.Overlay)
		dir := t.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		sub := map[string]string{}
		for _, name := range []string{"lower", "upper", "work", "all"} {
			sub[name] = filepath.Join(dir, name)
			if err := os.Mkdir(sub[name], 0o755); err != nil {
				t.Fatal(err)
			}
		}
		opt := "lowerdir=" + sub["lower"] + ",upperdir=" + sub["upper"] + ",workdir=" + sub["work"]
		if err := unix.Mount("overlay", sub["all"], "overlay", 0, opt); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(sub["all"], unix.MNT_DETACH) })
		err := lease(open(t, filepath.Join(sub["all"], "f")))
		if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "file system") {
			t.Errorf("%v", err)
		}
	})
}

func TestUsedStaysAboveZero(t *testing.T) {
	l := limitOf(t, 1<<20)
	l.used.Store(10)
	if l.less(11); l.used.Load() != 0 {
		t.Errorf("%d bytes used", l.used.Load())
	}
}

// TestRemovedFilesCount removes the cache directory under a store, which then keeps
// nothing beyond its limit all the same, and leaves alone what comes in its place.
func TestRemovedFilesCount(t *testing.T) {
	s := makeSample(t, blobSpec{id: "one", sizes: sizes(16, 65536), comp: rafs.CompressorZstd})
	dir := filepath.Join(t.TempDir(), "cache")
	e := newEnv(t, s, dir, Options{Limit: limitOf(t, 1<<30)}, nil)
	e.check(s.all())
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	l := e.store.limit
	if l.measure(); l.used.Load() < 16*65536 {
		t.Errorf("%d bytes used after the directory was removed", l.used.Load())
	}
	next := newEnv(t, s, dir, Options{}, nil)
	next.check(s.all())
	for range 2 { // the first takes the marks of use off
		if _, err := e.store.evictCold(onlyFile(t, e.store)); err != nil {
			t.Fatal(err)
		}
	}
	if l.measure(); l.used.Load() >= 2*16*65536 {
		t.Errorf("%d bytes used after the removed files were evicted", l.used.Load())
	}
	if b := onlyFile(t, next.store); !named(e.store.o, filepath.Join(dir, "one"+sidecarSuffix), b.side.id) {
		t.Error("the sidecar of the new file is gone")
	}
	next.hit(s.all())
	e.check(s.all())
}
