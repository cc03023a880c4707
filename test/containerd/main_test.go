package containerd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/internal/testns"
)

// needed is what every test here needs.
var needed = []testenv.Feature{testenv.Root, testenv.FUSE, testenv.Overlay, testenv.Containerd, testenv.Snapshotter}

func TestMain(m *testing.M) {
	os.Exit(testns.Main(m, testns.Options{Needed: needed, After: removeCgroups}))
}

// removeCgroups removes the groups of all containers: a hierarchy each, or one.
func removeCgroups(name string) error {
	var errs []error
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		groups, err := filepath.Glob(filepath.Join(pattern, name))
		errs = append(errs, err)
		for _, g := range groups {
			inner, err := filepath.Glob(filepath.Join(g, "*/"))
			errs = append(errs, err)
			for _, c := range append(inner, g) {
				if st, err := os.Lstat(c); err == nil && st.IsDir() {
					errs = append(errs, unix.Rmdir(c))
				}
			}
		}
	}
	return errors.Join(errs...)
}
