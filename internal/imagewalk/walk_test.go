package imagewalk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"vrafs/internal/imagewalk"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/rafs"
)

// bootstrap makes an image of a small tree and returns its bootstrap.
func bootstrap(t *testing.T, v rafs.Version) []byte {
	t.Helper()
	testenv.Need(t, testenv.Root)
	dir := t.TempDir()
	for _, d := range []string{"a/deep/er", "b"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"a/deep/file", "a/z", "b/y", "c"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(testimage.Make(t, testimage.Options{Version: v, Source: dir}).Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func open(t *testing.T, data []byte) *rafs.Image {
	t.Helper()
	im, err := rafs.Open(data, rafs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func TestWalkGoesDepthFirst(t *testing.T) {
	want := []string{"/", "/a", "/a/deep", "/a/deep/er", "/a/deep/file", "/a/z", "/b", "/b/y", "/c"}
	for _, v := range []rafs.Version{rafs.V5, rafs.V6} {
		im := open(t, bootstrap(t, v))
		var got []string
		err := imagewalk.Walk(t.Context(), im, im.Root(), "/", func(p string, _ *rafs.Inode) error {
			got = append(got, p)
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("v%d: %q, %v; want %q", v, got, err, want)
		}
	}
}

func TestWalkSkipsDirectoriesAndStopsAtErrors(t *testing.T) {
	im := open(t, bootstrap(t, rafs.V6))
	stop := errors.New("enough")
	var got []string
	err := imagewalk.Walk(t.Context(), im, im.Root(), "/", func(p string, _ *rafs.Inode) error {
		got = append(got, p)
		switch p {
		case "/a":
			return imagewalk.ErrSkipDir
		case "/b/y":
			return stop
		}
		return nil
	})
	if want := []string{"/", "/a", "/b", "/b/y"}; err != stop || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

func TestWalkEndsInALoopOfDirectories(t *testing.T) {
	data := bootstrap(t, rafs.V6)
	im := open(t, data)
	deep, err := imagewalk.Find(im, "/a/deep")
	if err != nil {
		t.Fatal(err)
	}
	// The entry of /a/deep in /a leads back to the root.
	entry := binary.LittleEndian.AppendUint64(nil, uint64(deep.Ino()))
	back := binary.LittleEndian.AppendUint64(nil, uint64(im.Root()))
	loop := open(t, bytes.Replace(data, entry, back, 1))
	err = imagewalk.Walk(t.Context(), loop, loop.Root(), "/", func(string, *rafs.Inode) error { return nil })
	if !errors.Is(err, imagewalk.ErrTwice) || !errors.Is(err, rafs.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}
