package imagewalk_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"vrafs/internal/imagewalk"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/rafs"
)

func TestFindFollowsNoSymlinkAndNamesWhatIsMissing(t *testing.T) {
	im := open(t, bootstrap(t, rafs.V5))
	for path, ok := range map[string]bool{"/": true, "": true, "a/deep/../z": true, "//b//y/": true, "/a/nothing": false, "/c/d": false} {
		_, err := imagewalk.Find(im, path)
		if (err == nil) != ok {
			t.Errorf("%q: %v", path, err)
		}
	}
	if _, err := imagewalk.Find(im, "/a/nothing"); !errors.Is(err, rafs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// linked makes an image of files and symlinks: a name maps to its target, "" makes a
// file.
func linked(t *testing.T, v rafs.Version, names map[string]string) *rafs.Image {
	t.Helper()
	testenv.Need(t, testenv.Root)
	dir := t.TempDir()
	for name, target := range names {
		p := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		switch {
		case err != nil:
		case target == "":
			err = os.WriteFile(p, nil, 0o644)
		default:
			err = os.Symlink(target, p)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(testimage.Make(t, testimage.Options{Version: v, Source: dir}).Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	return open(t, data)
}

func TestFollowStaysInTheImage(t *testing.T) {
	names := map[string]string{
		"usr/bin/sh": "", "usr/lib/os-release": "", "bin": "usr/bin", "etc/os-release": "../usr/lib/os-release",
		"etc/abs": "/bin/sh", "etc/up": "../../../../bin/sh", "loop": "loop", "etc/gone": "/nothing",
		"deep": "etc/abs", "dots": "usr/./bin/../lib//", "file": "usr/bin/sh/below",
	}
	for _, v := range []rafs.Version{rafs.V5, rafs.V6} {
		im := linked(t, v, names)
		for _, tt := range []struct {
			path, want string
			err        error
		}{
			{"/", "/", nil},
			{"", "/", nil},
			{"/usr/bin/sh", "/usr/bin/sh", nil},
			{"bin", "/usr/bin", nil},
			{"/bin//sh", "/usr/bin/sh", nil},
			{"/etc/os-release", "/usr/lib/os-release", nil},
			{"/etc/abs", "/usr/bin/sh", nil},
			{"/etc/up", "/usr/bin/sh", nil},
			{"/deep", "/usr/bin/sh", nil},
			{"/dots/os-release", "/usr/lib/os-release", nil},
			{"/../../bin/../lib", "/usr/lib", nil},
			{"/loop", "", imagewalk.ErrLinks},
			{"/etc/gone", "", rafs.ErrNotExist},
			{"/file", "", rafs.ErrNotDir},
		} {
			got, err := imagewalk.Follow(im, tt.path)
			if !errors.Is(err, tt.err) {
				t.Errorf("v%d %s: got %v, want %v", v, tt.path, err, tt.err)
				continue
			}
			if tt.err != nil {
				continue
			}
			if want, err := imagewalk.Find(im, tt.want); err != nil || got.Ino() != want.Ino() {
				t.Errorf("v%d %s: got inode %d, want %d (%s, %v)", v, tt.path, got.Ino(), want.Ino(), tt.want, err)
			}
		}
	}
}

func TestFollowTakesFortySymlinks(t *testing.T) {
	names := map[string]string{"0": ""}
	for i := range 41 {
		names[fmt.Sprint(i+1)] = fmt.Sprint(i)
	}
	im := linked(t, rafs.V6, names)
	if _, err := imagewalk.Follow(im, "/40"); err != nil {
		t.Errorf("40 symlinks: %v", err)
	}
	if _, err := imagewalk.Follow(im, "/41"); !errors.Is(err, imagewalk.ErrLinks) {
		t.Errorf("41 symlinks: %v", err)
	}
}
