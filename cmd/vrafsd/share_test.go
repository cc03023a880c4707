package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/testenv"
	"vrafs/vhostuser/vhostusertest"
)

func TestSharedDirectoryIsMounted(t *testing.T) {
	h := newHost(t)
	dir := t.TempDir()
	p := h.kept(t, "--shared-dir", dir, "--writable")
	if err := os.WriteFile(filepath.Join(h.dir, "new"), []byte("written through the mount"), 0o640); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "new")); err != nil || string(b) != "written through the mount" {
		t.Errorf("%q, %v", b, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "host"), []byte("from the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(h.dir, "host")); err != nil || string(b) != "from the host" {
		t.Errorf("%q, %v", b, err)
	}
	if got := p.must(200, "GET", "/api/v1/daemon", ""); !strings.Contains(got, `"/":{"backend_type":"PassthroughFs","mountpoint":"/"`) {
		t.Error(got)
	}
	p.signal(syscall.SIGTERM)
	h.none(t)
}

// TestSharedDirectorySurvivesItsServer kills the server: what was open is lost, but the
// directory is there again at once.
func TestSharedDirectorySurvivesItsServer(t *testing.T) {
	h := newHost(t)
	dir := t.TempDir()
	h.kept(t, "--shared-dir", dir, "--writable")
	_, s := h.one(t)
	for i := range testenv.Rounds(30) {
		name := fmt.Sprint("file-", i)
		if err := os.WriteFile(filepath.Join(h.dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		kill(t, s, syscall.SIGKILL)
		_, s = h.one(t, s)
		b, err := os.ReadFile(filepath.Join(h.dir, name))
		if err != nil || string(b) != name {
			t.Fatalf("%q, %v", b, err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != name {
			t.Fatalf("%q on the host, %v", b, err)
		}
	}
}

func TestSharedDirectoryIsReadOnlyUnlessWritable(t *testing.T) {
	h := newHost(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.kept(t, "--shared-dir", dir)
	if err := os.WriteFile(filepath.Join(h.dir, "new"), nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(h.dir, "f")); err != nil || string(b) != "text" {
		t.Errorf("%q, %v", b, err)
	}
}

// shareBody is the body of a request that shares a directory.
func shareBody(dir string) string {
	return fmt.Sprintf(`{"fs_type":"passthrough_fs","source":%q,"config":""}`, dir)
}

// TestSharedDirectoryBesideImages has the shape of a pod of Kata's: a shared directory
// and images, which come and go, on one connection.
func TestSharedDirectoryBesideImages(t *testing.T) {
	testenv.Need(t, testenv.Root)
	sock, api := sockets(t)
	p := virtiofs(t, sock, api, "--hybrid-mode").ready()
	dir, im := t.TempDir(), oneFile(t, "of the image")
	const containers, lower = "/api/v1/mount?mountpoint=/containers", "/api/v1/mount?mountpoint=%2Frafs%2Fc1%2Flowerdir"
	p.must(204, "POST", containers, shareBody(dir))
	g := boot(t, sock, vhostusertest.GuestConfig{EventIdx: true, Indirect: true})
	p.must(204, "POST", lower, im.mountBody(""))
	c := g.clients[0]
	share, err := walk(c, "/containers")
	if err != nil {
		t.Fatal(err)
	}
	file, err := walk(c, "/rafs/c1/lowerdir/f")
	if err != nil {
		t.Fatal(err)
	}
	made, err := fusesrvtest.Create(c, share.Node, "new", unix.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if made.Entry.Attr.Ino == file.Attr.Ino || made.Entry.Attr.Ino>>62 == 0 || file.Attr.Ino>>62 != 0 {
		t.Errorf("inode numbers %#x of the directory, %#x of the image", made.Entry.Attr.Ino, file.Attr.Ino)
	}
	if b, err := fusesrvtest.Read(c, file.Node, 0, 0, 100); err != nil || string(b) != "of the image" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := fusesrvtest.Create(c, share.Node, "../escaped", unix.O_RDWR, 0o644); err == nil {
		t.Error("a name with slashes worked")
	}
	if err := fusesrvtest.Rename(c, share.Node, "new", file.Node, "new", 0); !errors.Is(err, unix.EXDEV) {
		t.Errorf("renamed into an image: %v", err)
	}
	p.must(204, "DELETE", lower, "")
	p.must(204, "DELETE", containers, "")
	if _, err := fusesrvtest.Lookup(c, share.Node, "new"); !errors.Is(err, unix.ESTALE) {
		t.Errorf("lookup after the unmount: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBeSharedSaysWhy(t *testing.T) {
	sock, api := sockets(t)
	p := virtiofs(t, sock, api).ready()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for source, why := range map[string]string{"/no/such/directory": "no such file or directory", file: "not a directory"} {
		answer := p.must(500, "POST", "/api/v1/mount?mountpoint=/c", shareBody(source))
		if !strings.Contains(answer, why) || !strings.Contains(answer, source) {
			t.Errorf("%s: %s", source, answer)
		}
	}
	p.must(204, "POST", "/api/v1/mount?mountpoint=/c", shareBody(t.TempDir()))
	p.must(500, "POST", "/api/v1/mount?mountpoint=/c", shareBody(t.TempDir()))
}
