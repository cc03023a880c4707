package testoci

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
	"vrafs/internal/testtree"
)

func TestImagesOfPackagesRunTheirPrograms(t *testing.T) {
	testenv.Need(t, testenv.Overlay)
	testenv.Long(t)
	for _, tt := range []struct {
		name    string
		image   func(testing.TB) *Image
		command []string
		want    string
	}{
		{"python", Python, []string{"python3", "/app/main.py"}, "ready"},
		{"nginx", Nginx, []string{"nginx", "-t"}, "test is successful"},
		{"jvm", JVM, []string{"ant", "-q", "-f", "/app/build.xml"}, "[echo] ready"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			im := tt.image(t)
			if layers := im.Layers(t); len(layers) != 3 {
				t.Errorf("layers %v, want 3", layers)
			}
			out, err := inside(t, im, tt.command...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), tt.want) {
				t.Errorf("%v: %v, said %q", tt.command, err, out)
			}
			for _, gone := range []string{"usr/share/doc/bash", "etc/resolv.conf"} {
				if _, err := os.Lstat(filepath.Join(im.Tree, gone)); !os.IsNotExist(err) {
					t.Errorf("%s is there: %v", gone, err)
				}
			}
		})
	}
}

// inside runs a command in the image, which it can't change.
func inside(t *testing.T, im *Image, command ...string) *exec.Cmd {
	const script = `
set -eu
tree=$1
cd "$2"
shift 2
mount -t tmpfs none .
mkdir upper work root
mount -t overlay -o lowerdir="$tree",upperdir=upper,workdir=work none root
mount -t proc none root/proc
exec chroot root "$@"
`
	args := []string{"--mount", "--pid", "--fork", "sh", "-c", script, "sh", im.Tree, t.TempDir()}
	cmd := exec.Command(testenv.Program("unshare"), append(args, command...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	return cmd
}

// TestOddIsAsOddAsItsLayersSay looks for what umoci must have found in each layer.
func TestOddIsAsOddAsItsLayersSay(t *testing.T) {
	im := Odd(t)
	if n := len(im.Layers(t)); n != 6 {
		t.Errorf("%d layers, want 6", n)
	}
	entries, err := testtree.Scan(im.Tree, testtree.ScanOptions{NoData: true})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]testtree.Entry{}
	for _, e := range entries {
		found[e.Path] = e
	}
	for path, want := range map[string]func(e testtree.Entry) bool{
		"times/at-2147483648":                   func(e testtree.Entry) bool { return e.Sec == -1<<31 },
		"times/at+8589934669":                   func(e testtree.Entry) bool { return e.Sec == 2<<32+77 },
		"times/before-1970":                     func(e testtree.Entry) bool { return e.Sec == -2 && e.Nsec == 250_000_000 },
		"ids/file4294967294":                    func(e testtree.Entry) bool { return e.UID == 1<<32-2 && e.GID == 1<<32-3 },
		"xattrs/capability":                     func(e testtree.Entry) bool { return len(e.Xattrs) == 1 && e.Xattrs[0].Value == capability },
		"xattrs/acl":                            func(e testtree.Entry) bool { return len(e.Xattrs) == 1 && e.Mode&0o777 == 0o664 },
		"xattrs/dozens":                         func(e testtree.Entry) bool { return len(e.Xattrs) == 60 },
		"devices/large":                         func(e testtree.Entry) bool { return e.Rdev == unix.Mkdev(4095, 1<<20-1) },
		"links/third":                           nil,
		"links/fourth":                          func(e testtree.Entry) bool { return e.Nlink == 3 && e.Link == "links/absolute" },
		"links/sym-third":                       func(e testtree.Entry) bool { return e.Nlink == 3 },
		"links/removed-first":                   nil,
		"links/removed-third":                   func(e testtree.Entry) bool { return e.Nlink == 2 },
		"inner/symlink":                         func(e testtree.Entry) bool { return e.Mode&unix.S_IFMT == unix.S_IFREG },
		"kept-attributes":                       func(e testtree.Entry) bool { return e.Mode&0o777 == 0o711 && len(e.Xattrs) == 1 },
		"opaque/after":                          nil,
		"gone/mine":                             func(e testtree.Entry) bool { return e.Size > 0 },
		"never":                                 nil,
		"names/" + strings.Repeat("\xff", 255):  func(testtree.Entry) bool { return true },
		"names/" + strings.Repeat("n", 255):     func(testtree.Entry) bool { return true },
		"gnu/large":                             func(e testtree.Entry) bool { return e.Size == 60<<20 },
		"posix/all-hole":                        func(e testtree.Entry) bool { return e.Size == 5<<20 && e.Nsec == 500_000_000 },
		"posix/link-to-long":                    func(e testtree.Entry) bool { return e.Nlink == 2 },
		fmt.Sprintf("many/%04d", manyEntries-1): func(testtree.Entry) bool { return true },
		fmt.Sprintf("many/%04d", manyEntries-2): nil,
	} {
		e, there := found[path]
		if there != (want != nil) || there && !want(e) {
			t.Errorf("%q: there: %v, %+v", path, there, e)
		}
	}
	for _, from := range kinds {
		for _, to := range kinds {
			if a, b := found["types/"+from.name+"-"+to.name], found["types/"+to.name+"-"+to.name]; a.Mode == 0 || a.Mode != b.Mode {
				t.Errorf("%s to %s: mode %o, want %o", from.name, to.name, a.Mode, b.Mode)
			}
		}
	}
}
