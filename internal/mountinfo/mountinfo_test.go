package mountinfo

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/opener"
	"vrafs/internal/testenv"
)

func TestMountpointsOfAnyNameAreFound(t *testing.T) {
	testenv.Need(t, testenv.Root)
	for _, name := range []string{"plain", "with blank", "tab\tand\nline", `back\slash\040`} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		at, err := Place(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Device(opener.Local(), at); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%q before it is mounted: %v", name, err)
		}
		if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		statErr := unix.Stat(dir, &st)
		minor, err := Device(opener.Local(), at)
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
		if err != nil || statErr != nil || minor != unix.Minor(st.Dev) {
			t.Errorf("%q: device %d, want %d, %v, %v", name, minor, unix.Minor(st.Dev), err, statErr)
		}
	}
}

func TestPlaceFollowsLinksButNotTheLastName(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "real"), 0o700), os.Symlink("real", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	if got, err := Place(filepath.Join(dir, "link", "mnt")); err != nil || got != filepath.Join(dir, "real", "mnt") {
		t.Errorf("got %s, %v", got, err)
	}
}
