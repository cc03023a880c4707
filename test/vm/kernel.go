package vm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"vrafs/internal/testenv"

	"golang.org/x/sys/unix"
)

// Series are the kernels that FetchKernel knows, oldest first. The first sends
// everything to one request queue, the second uses several.
var Series = []string{"6.1", "6.12"}

// packagePatterns say which of Debian's packages is of a series.
var packagePatterns = map[string]*regexp.Regexp{
	"6.1":  regexp.MustCompile(`^linux-image-6\.1\.[0-9]+-[0-9]+-amd64$`),
	"6.12": regexp.MustCompile(`^linux-image-6\.12\.[0-9]+\+deb1[0-9]+(\+[0-9]+)?-cloud-amd64$`),
}

// wantedModules are what a guest needs; those built into a kernel are left out of
// its list.
// crc32c_generic comes first because erofs reaches it by name, not as a dependency.
var wantedModules = []string{"crc32c_generic", "virtio_pci", "virtiofs", "overlay", "erofs", "loop"}

// A Kernel is an unpacked guest kernel in the cache directory.
type Kernel struct {
	Series  string   // "6.1"
	Package string   // "linux-image-6.1.0-56-amd64"
	Image   string   // path of the ELF kernel
	Modules []string // paths of modules, in the order in which they must be loaded
}

// FetchKernel returns the newest kernel of a series that apt knows, downloading
// it on first use. Later calls find it in the cache without asking apt.
func FetchKernel(ctx context.Context, series string) (*Kernel, error) {
	pattern := packagePatterns[series]
	if pattern == nil {
		return nil, fmt.Errorf("no guest kernel %q: there are %v", series, Series)
	}
	base := filepath.Join(testenv.CacheDir(), "kernels")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return nil, fmt.Errorf("guest kernel %s: %w", series, err)
	}
	unlock, err := lockFile(filepath.Join(base, series+".lock"))
	if err != nil {
		return nil, fmt.Errorf("guest kernel %s: %w", series, err)
	}
	defer unlock()
	dir := filepath.Join(base, series)
	k, err := openKernel(series, dir)
	if err == nil {
		return k, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("guest kernel %s: %w; delete %s to fetch it again", series, err, dir)
	}
	if err := downloadKernel(ctx, pattern, dir); err != nil {
		return nil, fmt.Errorf("guest kernel %s: %w", series, err)
	}
	return openKernel(series, dir)
}

// lockFile waits for an exclusive lock, so that two test binaries do not download
// the same thing twice.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// openKernel reads what downloadKernel left: vmlinux, and a file "list" with the
// package's name and then one module a line.
func openKernel(series, dir string) (*Kernel, error) {
	b, err := os.ReadFile(filepath.Join(dir, "list"))
	if err != nil {
		return nil, err
	}
	lines := strings.Fields(string(b))
	if len(lines) == 0 {
		return nil, errors.New("empty list of modules")
	}
	k := &Kernel{Series: series, Package: lines[0], Image: filepath.Join(dir, "vmlinux")}
	for _, name := range lines[1:] {
		k.Modules = append(k.Modules, filepath.Join(dir, name))
	}
	_, err = os.Stat(k.Image)
	return k, err
}

func downloadKernel(ctx context.Context, pattern *regexp.Regexp, dir string) error {
	name, err := newestPackage(ctx, pattern)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "fetch-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := UnpackPackages(ctx, []string{name}, filepath.Join(tmp, "root")); err != nil {
		return err
	}
	out := filepath.Join(tmp, "kernel")
	if err := unpackKernel(ctx, name, filepath.Join(tmp, "root"), out); err != nil {
		return fmt.Errorf("package %s: %w", name, err)
	}
	return os.Rename(out, dir)
}

// newestPackage asks apt which package names match and returns the highest.
func newestPackage(ctx context.Context, pattern *regexp.Regexp) (string, error) {
	names, err := packageNames(ctx, "linux-image-")
	if err != nil {
		return "", err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !pattern.MatchString(n) })
	if len(names) == 0 {
		return "", fmt.Errorf("apt knows no package like %s: run apt-get update, or add Debian's security archive to its sources", pattern)
	}
	return slices.MaxFunc(names, compareVersions), nil
}

var digits = regexp.MustCompile(`[0-9]+`)

// compareVersions orders package names of one pattern by the numbers in them.
func compareVersions(a, b string) int {
	return slices.CompareFunc(digits.FindAllString(a, -1), digits.FindAllString(b, -1), func(x, y string) int {
		m, _ := strconv.Atoi(x)
		n, _ := strconv.Atoi(y)
		return cmp.Compare(m, n)
	})
}

// unpackKernel makes the directory that openKernel reads.
func unpackKernel(ctx context.Context, name, root, out string) error {
	if err := os.Mkdir(out, 0o755); err != nil {
		return err
	}
	images, _ := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if len(images) != 1 {
		return fmt.Errorf("%d files boot/vmlinuz-*", len(images))
	}
	image, err := os.ReadFile(images[0])
	if err != nil {
		return err
	}
	elf, err := extractVmlinux(ctx, image)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, "vmlinux"), elf, 0o644); err != nil {
		return err
	}
	release := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	tree, err := openModules(filepath.Join(root, "lib", "modules", release))
	if err != nil {
		return err
	}
	names, err := tree.unpack(ctx, wantedModules, out)
	if err != nil {
		return err
	}
	list := strings.Join(append([]string{name}, names...), "\n") + "\n"
	return os.WriteFile(filepath.Join(out, "list"), []byte(list), 0o644)
}
