package testtree

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/internal/testenv"
)

// debianSuite and debianPackages decide what the Debian tree is. The version
// counts up when either changes, so that kept trees are made again.
const (
	debianSuite    = "bookworm"
	debianPackages = "python3-minimal,busybox-static"
	debianVersion  = "1"
)

// DebianRoot is the root file system of a minimal Debian with a Python and a
// static busybox. debootstrap makes it once, in some minutes; it is kept in
// testenv.CacheDir and must not be changed. Beside it lies DebianTar.
func DebianRoot(t testing.TB) string {
	t.Helper()
	testenv.Need(t, testenv.Debootstrap)
	dir, err := testenv.Kept("debian-"+debianSuite+"-"+debianVersion, debootstrap)
	if err != nil {
		t.Fatalf("Debian tree: %v", err)
	}
	return filepath.Join(dir, "root")
}

// DebianTar is DebianRoot as one plain tar.
func DebianTar(t testing.TB) string {
	return filepath.Join(filepath.Dir(DebianRoot(t)), "root.tar")
}

// debootstrap makes the directory with the tree and the tar.
func debootstrap(dir string) error {
	root := filepath.Join(dir, "root")
	err := run(testenv.Program("debootstrap"), "--variant=minbase", "--include="+debianPackages, debianSuite, root, mirror())
	if err != nil {
		return err
	}
	// What only fills the tree: packages that were unpacked, lists of others.
	for _, glob := range []string{"var/cache/apt/archives/*.deb", "var/lib/apt/lists/*_*", "var/cache/apt/*.bin"} {
		files, err := filepath.Glob(filepath.Join(root, glob))
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := os.RemoveAll(f); err != nil {
				return err
			}
		}
	}
	return run("tar", "--xattrs", "--numeric-owner", "--sort=name", "-C", root, "-cf", filepath.Join(dir, "root.tar"), ".")
}

// mirror is the archive that this machine gets its own Debian packages from.
func mirror() string {
	const usual = "http://deb.debian.org/debian"
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(SITE) $(CODENAME) $(ORIGIN)", "Identifier: Packages").Output()
	if err != nil {
		return usual
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 3 && f[1] == debianSuite && f[2] == "Debian" {
			return f[0]
		}
	}
	return usual
}

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, tail(out))
	}
	return nil
}

// tail is the end of a program's output.
func tail(out []byte) []byte { return out[max(0, len(out)-2000):] }
