package images

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/internal/apiclient"
	"vrafs/internal/testenv"
	"vrafs/internal/testoci"
	"vrafs/internal/testregistry"
	"vrafs/internal/testtree"
)

// needMounts is what mounting by reference needs.
var needMounts = []testenv.Feature{testenv.Root, testenv.FUSE, testenv.Registry, testenv.ImageTools}

const repo = "library/image"

// converted is a layout with the Nydus image of im. It is made once.
func (u *user) converted(im *testoci.Image) string {
	u.t.Helper()
	made, err := programs()
	must(u.t, err)
	layout := filepath.Join(made, im.Name)
	if _, err := os.Stat(layout); err != nil {
		u.vrafs("convert", "--no-cache", "-q", im.Reference(), "oci:"+layout+":nydus")
	}
	return layout
}

// mount mounts ref until the test ends, and gives the mountpoint and the socket.
func (u *user) mount(ref string, more ...string) (dir, socket string) {
	u.t.Helper()
	dir = u.t.TempDir()
	out := u.vrafs(append([]string{"mount", "--state-dir", u.state, "--cache-dir", u.cache, ref, dir}, more...)...)
	u.t.Cleanup(func() {
		if u.t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(u.state, "*", "daemon.*"))
			for _, l := range logs {
				text, _ := os.ReadFile(l)
				u.t.Logf("%s:\n%s", l, text)
			}
		}
		_, _ = u.try("umount", "--state-dir", u.state, "--lazy", dir)
	})
	_, socket, _ = strings.Cut(strings.TrimSpace(out), "control socket ")
	return dir, socket
}

func (u *user) umount(dir string, more ...string) {
	u.t.Helper()
	u.vrafs(append([]string{"umount", "--state-dir", u.state, dir}, more...)...)
}

// leftNothing fails if a mount has left anything behind but the cache.
func (u *user) leftNothing(dir, socket string) {
	u.t.Helper()
	entries, err := os.ReadDir(dir)
	must(u.t, err)
	if len(entries) > 0 {
		u.t.Errorf("%s still shows %d names", dir, len(entries))
	}
	if left, err := os.ReadDir(u.state); err != nil || len(left) > 0 {
		u.t.Errorf("%v is left, %v", left, err)
	}
	if _, err := apiclient.New(socket).Do(u.t.Context(), "GET", "/api/v1/daemon", nil); err == nil {
		u.t.Error("the daemon still answers")
	}
}

func TestImageIsMountedByReference(t *testing.T) {
	testenv.Need(t, needMounts...)
	testenv.Long(t)
	const password = "hunter2hunter2"
	im := testoci.Nginx(t)
	layout := newUser(t).converted(im)
	for _, tt := range []struct {
		name string
		o    func(t *testing.T) testregistry.Options
	}{
		{"plain", func(*testing.T) testregistry.Options { return testregistry.Options{} }},
		{"tls_password", func(*testing.T) testregistry.Options {
			return testregistry.Options{TLS: true, User: "user", Password: password}
		}},
		{"token", func(t *testing.T) testregistry.Options {
			k := testregistry.StartTokens(t, testregistry.TokenSettings{User: "user", Password: password})
			k.URL = strings.Replace(k.URL, "127.0.0.1", "localhost", 1) // a name, which clients take for a token server
			return testregistry.Options{Tokens: k}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUser(t)
			s := testregistry.Start(t, tt.o(t))
			auth := filepath.Join(t.TempDir(), "auth.json")
			text := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, s.Host, testregistry.Auth("user", password))
			must(t, os.WriteFile(auth, []byte(text), 0o600))
			access := []string{"--authfile", auth}
			if s.CAFile != "" {
				access = append(access, "--ca-file", s.CAFile)
			}
			ref := s.Host + "/" + repo + ":nydus"
			u.vrafs(append([]string{"push", "oci:" + layout, ref}, access...)...)
			dir, socket := u.mount(ref, access...)
			got, err := testtree.Scan(dir, testtree.ScanOptions{})
			must(t, err)
			im.Compare(t, got)
			u.noSecrets(password, testregistry.Auth("user", password))
			u.umount(dir)
			u.leftNothing(dir, socket)
		})
	}
	t.Run("layout", func(t *testing.T) {
		u := newUser(t)
		dir, socket := u.mount("oci:" + layout)
		got, err := testtree.Scan(dir, testtree.ScanOptions{})
		must(t, err)
		im.Compare(t, got)
		u.umount(dir)
		u.leftNothing(dir, socket)
	})
}

// noSecrets looks at what others could see of the user's daemons, and at what they
// left on the disk.
func (u *user) noSecrets(secrets ...string) {
	u.t.Helper()
	logs, err := filepath.Glob(filepath.Join(u.state, "*", "*"))
	must(u.t, err)
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(u.t, err)
	environ, err := filepath.Glob("/proc/[0-9]*/environ")
	must(u.t, err)
	mine := 0
	for _, path := range append(append(lines, logs...), environ...) {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // a socket, or a process that has ended
		}
		if strings.Contains(string(text), u.state) {
			mine++
		}
		for _, s := range secrets {
			if strings.Contains(string(text), s) && !strings.Contains(path, "environ") {
				u.t.Errorf("a secret in %s", path)
			}
		}
	}
	if mine == 0 {
		u.t.Error("no daemon was looked at")
	}
}

func TestMountIsLazyAndSharesItsCache(t *testing.T) {
	testenv.Need(t, needMounts...)
	testenv.Long(t)
	im, u := testoci.Nginx(t), newUser(t)
	layout := filepath.Join(t.TempDir(), "layout")
	must(t, os.CopyFS(layout, os.DirFS(u.converted(im))))
	ref := "oci:" + layout
	first, _ := u.mount(ref)
	text, err := os.ReadFile(filepath.Join(first, "app/index.html"))
	must(t, err)
	if string(text) != "ready\n" {
		t.Errorf("got %q", text)
	}
	if used, all := diskUse(t, u.cache), diskUse(t, layout); used > all/10 {
		t.Errorf("one small file took %d KiB of an image of %d KiB", used>>10, all>>10)
	}
	got, err := testtree.Scan(first, testtree.ScanOptions{})
	must(t, err)
	im.Compare(t, got)
	u.umount(first)
	// The next mount finds everything in the cache: the blobs are not needed any more.
	second, _ := u.mount(ref)
	must(t, os.Rename(filepath.Join(layout, "blobs"), filepath.Join(layout, "gone")))
	got, err = testtree.Scan(second, testtree.ScanOptions{})
	must(t, err)
	im.Compare(t, got)
	u.umount(second)
}

// diskUse is what a directory takes on the disk, in bytes.
func diskUse(t *testing.T, dir string) (total int64) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		total += st.Blocks * 512
		return err
	}))
	return total
}

func TestMountsThatCannotBeAreRefused(t *testing.T) {
	testenv.Need(t, needMounts...)
	im, u := testoci.Nginx(t), newUser(t)
	s := testregistry.Start(t, testregistry.Options{})
	mount := []string{"mount", "--state-dir", u.state, "--cache-dir", u.cache}
	dir := t.TempDir()
	u.refused(append(mount, im.Reference(), dir), "no Nydus image", "vrafs convert "+im.Reference())
	u.refused(append(mount, s.Host+"/no/image", dir), s.Host+"/no/image:latest", "not found")
	u.refused(append(mount, im.Reference(), filepath.Join(dir, "missing")), "mountpoint", "missing")
	u.refused(append(mount, "oci-archive:/etc/passwd", dir), "/etc/passwd")
	u.refused([]string{"umount", "--state-dir", u.state, dir}, dir, "no image is mounted there")
	if left, err := os.ReadDir(u.state); err == nil && len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

func TestMountStaysWhileItIsUsed(t *testing.T) {
	testenv.Need(t, needMounts...)
	testenv.Long(t)
	im, u := testoci.Nginx(t), newUser(t)
	ref := "oci:" + u.converted(im)
	dir, socket := u.mount(ref)
	u.refused([]string{"mount", "--state-dir", u.state, "--cache-dir", u.cache, ref, dir}, dir, "mounted there already")
	f, err := os.Open(filepath.Join(dir, "app/index.html"))
	must(t, err)
	defer f.Close()
	u.refused([]string{"umount", "--state-dir", u.state, dir}, dir, "in use", "--lazy")
	u.killDaemon(socket)
	text := make([]byte, 6)
	if _, err := f.ReadAt(text, 0); err != nil || string(text) != "ready\n" {
		t.Errorf("after the daemon was killed: %q, %v", text, err)
	}
	u.umount(dir, "--lazy")
	if _, err := f.ReadAt(text, 0); err != nil || string(text) != "ready\n" {
		t.Errorf("after it was unmounted: %q, %v", text, err)
	}
}

// TestDetachedMountServesUntilItsLastUserEnds, also if its daemon dies, while another image
// is mounted in its place. Then nothing is left of it.
func TestDetachedMountServesUntilItsLastUserEnds(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE)
	u := newUser(t)
	layouts := []string{}
	for _, text := range []string{"first\n", "second\n"} {
		layout := "oci:" + filepath.Join(t.TempDir(), "nydus") + ":1"
		u.vrafs("convert", "--no-cache", "-q", oneFile(t, text), layout)
		layouts = append(layouts, layout)
	}
	dir, first := u.mount(layouts[0])
	f, err := os.Open(filepath.Join(dir, "file"))
	must(t, err)
	defer f.Close()
	u.umount(dir, "--lazy")
	u.refused([]string{"umount", "--state-dir", u.state, dir}, "no image is mounted there")
	u.killDaemon(first)
	u.vrafs("mount", "--state-dir", u.state, "--cache-dir", u.cache, layouts[1], dir)
	u.refused([]string{"mount", "--state-dir", u.state, "--cache-dir", u.cache, layouts[0], dir}, dir, "mounted there already")
	text := make([]byte, 6)
	if _, err := f.ReadAt(text, 0); err != nil || string(text) != "first\n" {
		t.Errorf("the detached mount: %q, %v", text, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != "second\n" {
		t.Errorf("the mount in its place: %q, %v", got, err)
	}
	if n := len(glob(t, filepath.Join(u.state, "*"))); n != 2 {
		t.Errorf("%d states of two mounts that are used", n)
	}
	must(t, f.Close())
	u.untilGone(first)
	u.umount(dir)
	u.leftNothing(dir, first)

	// One that nobody uses leaves nothing behind at once.
	dir, socket := u.mount(layouts[0])
	u.umount(dir, "--lazy")
	u.leftNothing(dir, socket)
}

// TestOneOfManyMountsOfAPlaceSucceeds, and the others leave it alone.
func TestOneOfManyMountsOfAPlaceSucceeds(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE)
	u := newUser(t)
	layout := "oci:" + filepath.Join(t.TempDir(), "nydus") + ":1"
	u.vrafs("convert", "--no-cache", "-q", oneFile(t, "one\n"), layout)
	for range 5 {
		dir := t.TempDir()
		var wg sync.WaitGroup
		said := make([]string, 4)
		var mounted atomic.Int64
		for i := range said {
			wg.Go(func() {
				out, err := u.try("mount", "--state-dir", u.state, "--cache-dir", u.cache, layout, dir)
				if err == nil {
					mounted.Add(1)
				} else if !strings.Contains(out, "mounted there already") {
					said[i] = out
				}
			})
		}
		wg.Wait()
		if all := strings.Join(said, ""); mounted.Load() != 1 || all != "" {
			t.Errorf("%d mounts of one place: %s", mounted.Load(), all)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != "one\n" {
			t.Errorf("%q, %v", got, err)
		}
		u.umount(dir)
		if left := glob(t, filepath.Join(u.state, "*")); len(left) > 0 {
			t.Errorf("%v is left", left)
		}
	}
}

// untilGone waits for the end of all processes of a mount.
func (u *user) untilGone(socket string) {
	u.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(20 * time.Second); ; {
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		must(u.t, err)
		if !slices.ContainsFunc(lines, func(path string) bool {
			text, _ := os.ReadFile(path) // nothing of a process that has ended
			return strings.Contains(string(text), socket)
		}) {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			u.t.Fatal("the daemon does not end")
		}
	}
}

// killDaemon kills the process that serves socket; its keeper starts another.
func (u *user) killDaemon(socket string) {
	u.t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(u.t, err)
	defer unix.Close(fd)
	must(u.t, unix.Connect(fd, &unix.SockaddrUnix{Name: socket}))
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	must(u.t, err, unix.Kill(int(cred.Pid), unix.SIGKILL))
}

// TestUserMountsByReference: fusermount3 mounts for somebody without privileges, whose
// directories are found by the environment.
func TestUserMountsByReference(t *testing.T) {
	testenv.Need(t, append(needMounts, testenv.Fusermount)...)
	testenv.Long(t)
	im, u := testoci.Nginx(t), newUser(t)
	s := testregistry.Start(t, testregistry.Options{})
	u.vrafs("push", "oci:"+u.converted(im), s.Host+"/"+repo+":nydus")
	base := filepath.Dir(u.state)
	dir := filepath.Join(base, "mnt")
	for _, d := range []string{dir, u.state, u.cache} {
		must(t, os.Mkdir(d, 0o700), os.Chown(d, nobody, nobody))
	}
	u.wrap = append(inSpace(t, base), "setpriv", fmt.Sprint("--reuid=", nobody), fmt.Sprint("--regid=", nobody), "--clear-groups",
		"env", "HOME="+base, "XDG_RUNTIME_DIR="+u.state, "XDG_CACHE_HOME="+u.cache)
	u.vrafs("mount", s.Host+"/"+repo+":nydus", dir)
	show := exec.Command(u.wrap[0], append(u.wrap[1:], "cat", filepath.Join(dir, "app/index.html"))...)
	if out, err := show.CombinedOutput(); err != nil || string(out) != "ready\n" {
		t.Errorf("got %q, %v", out, err)
	}
	if n := len(glob(t, filepath.Join(u.cache, "vrafs/blobs/*"))); n == 0 {
		t.Error("nothing in the user's cache")
	}
	u.refused([]string{"mount", s.Host + "/" + repo + ":nydus", dir}, "mounted there already")
	u.vrafs("umount", dir)
	if left := glob(t, filepath.Join(u.state, "vrafs/mounts/*")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// nobody is a user without any privilege.
const nobody = 65534

// inSpace makes a mount namespace in which everybody may open /dev/fuse, as Debian's
// systems have it, and gives the arguments that run a command in it.
func inSpace(t *testing.T, dir string) []string {
	t.Helper()
	device := filepath.Join(dir, "fuse")
	must(t, unix.Mknod(device, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))), os.Chmod(device, 0o666))
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount --bind "$0" /dev/fuse && echo ready && read end`, device)
	end, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err, cmd.Start())
	t.Cleanup(func() { must(t, end.Close()); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("namespace: %q, %v", line, err)
	}
	return []string{"nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", cmd.Process.Pid)}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	must(t, err)
	return paths
}
