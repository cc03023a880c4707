package containerd

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/internal/testns"
	"vrafs/internal/testoci"
)

// needed is what every test here needs.
var needed = []testenv.Feature{testenv.Root, testenv.FUSE, testenv.Overlay, testenv.Containerd, testenv.Snapshotter}

// imagesVar is set in the process that makes images, while there is a network.
const imagesVar = "VRAFS_CONTAINERD_IMAGES"

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(imagesVar) != "" {
		os.Exit(m.Run())
	}
	if testns.Name() == "" && !testing.Short() {
		makeImages()
	}
	os.Exit(testns.Main(m, testns.Options{Needed: needed, After: removeCgroups}))
}

// makeImages makes what tests need of Debian's packages, outside the namespaces. Should
// it fail, the test that needs it says so.
func makeImages() {
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestImagesAreMadeOutside$")
	cmd.Env = append(os.Environ(), imagesVar+"=1")
	_ = cmd.Run()
}

func TestImagesAreMadeOutside(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.ImageTools)
	testenv.Long(t)
	testoci.Nginx(t)
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
