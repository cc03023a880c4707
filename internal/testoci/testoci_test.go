package testoci

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/internal/testenv"
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
