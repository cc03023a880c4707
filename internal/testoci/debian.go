package testoci

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/internal/testtree"
)

// debianVersion counts up when what makes the images of packages changes.
const debianVersion = "1"

// A recipe says what is on a Debian.
type recipe struct {
	packages []string
	files    map[string]string // of the layer above the packages, by path
	remove   []string          // what that layer takes away
	command  []string
	port     string // that the command listens on
}

// Python has an interpreter with its library and numpy, and a program that imports
// much of it.
func Python(t testing.TB) *Image {
	return debian(t, "python", recipe{
		packages: []string{"python3", "python3-numpy"},
		files: map[string]string{
			"app/main.py":  "import asyncio, http.server, json, sqlite3, ssl\nimport numpy\n\nfrom words import word\n\nprint(word if numpy.arange(4).sum() == 6 else \"wrong\", flush=True)\n",
			"app/words.py": "word = \"ready\"\n",
		},
		remove:  []string{"usr/share/doc/python3-numpy", "usr/share/doc/bash", "usr/lib/python3/dist-packages/numpy/tests", "etc/motd"},
		command: []string{"python3", "/app/main.py"},
	})
}

// Nginx has a web server with a page.
func Nginx(t testing.TB) *Image {
	return debian(t, "nginx", recipe{
		packages: []string{"nginx-light"},
		files: map[string]string{
			"etc/nginx/conf.d/app.conf": "server {\n\tlisten 8080;\n\troot /app;\n}\n",
			"app/index.html":            "ready\n",
		},
		remove:  []string{"etc/nginx/sites-enabled/default", "usr/share/nginx/html", "usr/share/doc/bash"},
		command: []string{"nginx", "-g", "daemon off;"},
		port:    "8080/tcp",
	})
}

// JVM has a Java runtime, and ant as the program in it.
func JVM(t testing.TB) *Image {
	return debian(t, "jvm", recipe{
		packages: []string{"openjdk-17-jre-headless", "ant"},
		files: map[string]string{
			"app/build.xml": "<project name=\"app\" default=\"say\">\n\t<target name=\"say\"><echo>ready</echo></target>\n</project>\n",
		},
		remove:  []string{"usr/share/doc/ant", "usr/share/doc/bash", "usr/lib/jvm/java-17-openjdk-amd64/man"},
		command: []string{"ant", "-q", "-f", "/app/build.xml"},
	})
}

// debian makes the image in three layers.
func debian(t testing.TB, name string, r recipe) *Image {
	t.Helper()
	base := testtree.DebianTar(t)
	return kept(t, name, debianVersion, func(dir string) error {
		bundle := filepath.Join(dir, "bundle")
		return first(
			func() error { return umoci("new", "--image", layoutTag(dir)) },
			func() error { return umoci("raw", "add-layer", "--image", layoutTag(dir), base) },
			func() error { return r.configure(dir) },
			func() error { return umoci("unpack", "--image", layoutTag(dir), bundle) },
			func() error { return install(filepath.Join(bundle, "rootfs"), r.packages) },
			func() error { return umoci("repack", "--refresh-bundle", "--image", layoutTag(dir), bundle) },
			func() error { return r.finish(filepath.Join(bundle, "rootfs")) },
			func() error { return umoci("repack", "--image", layoutTag(dir), bundle) },
			func() error { return os.RemoveAll(bundle) },
		)
	})
}

// first runs steps until one fails.
func first(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (r *recipe) configure(dir string) error {
	args := []string{"config", "--image", layoutTag(dir), "--config.workingdir", "/app", "--config.env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, word := range r.command {
		args = append(args, "--config.cmd", word)
	}
	if r.port != "" {
		args = append(args, "--config.exposedports", r.port)
	}
	return umoci(args...)
}

// install runs apt-get in root, with a /proc that packages of a Java want.
func install(root string, packages []string) error {
	const script = `
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends "$@"
apt-get clean
rm -rf /var/lib/apt/lists/*_* /var/cache/apt/*.bin /var/cache/ldconfig/aux-cache /var/log/*.log /var/log/apt
`
	resolv := filepath.Join(root, "etc/resolv.conf")
	text, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(resolv, text, 0o644); err != nil {
		return err
	}
	args := []string{"--mount", "--pid", "--fork", "--mount-proc=" + filepath.Join(root, "proc"), "chroot", root, "sh", "-c", script, "sh"}
	if err := run(exec.Command(testenv.Program("unshare"), append(args, packages...)...)); err != nil {
		return err
	}
	return os.Remove(resolv)
}

// finish makes what the last layer changes.
func (r *recipe) finish(root string) error {
	for name, text := range r.files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, name := range r.remove {
		path := filepath.Join(root, name)
		if _, err := os.Lstat(path); err != nil {
			return err // a whiteout of nothing would show nothing
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}
