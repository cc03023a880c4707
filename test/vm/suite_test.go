package vm

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vrafs/internal/testenv"
	"vrafs/test/vm/guestapi"

	"golang.org/x/sys/unix"
)

// A share is a file system as the guest should see it.
type share struct {
	tag      string
	device   Filesystem // its Tag is filled in
	tree     string     // what it was made from, on the host
	manifest []byte     // what the guest should find
}

func (s *share) dir() string { return "/mnt/" + s.tag }
func (s *share) manifestFile() string {
	return guestapi.FilesDir + "/" + s.tag
}

// bootWith starts a machine that has the shares and their manifests.
func bootWith(t testing.TB, series string, o Options, shares ...*share) *Machine {
	t.Helper()
	files := map[string][]byte{}
	maps.Copy(files, o.Files)
	o.Files = files
	for _, s := range shares {
		s.device.Tag = s.tag
		o.Filesystems = append(o.Filesystems, s.device)
		o.Files[s.tag] = s.manifest
	}
	return boot(t, series, o)
}

func (s *share) mount(t testing.TB, m *Machine) {
	t.Helper()
	do(t, m, guestapi.Mount, guestapi.MountArgs{Source: s.tag, Path: s.dir(), Type: "virtiofs", Flags: unix.MS_RDONLY})
}

func (s *share) compare(t testing.TB, m *Machine) {
	t.Helper()
	compare(t, m, guestapi.CompareArgs{Path: s.dir(), Manifest: s.manifestFile()})
}

func unmount(t testing.TB, m *Machine, dir string) {
	t.Helper()
	do(t, m, guestapi.Unmount, guestapi.PathArgs{Path: dir})
}

// checkTree compares the share with its tree, with nothing cached anywhere and with
// the guest's own caches warm.
func (s *share) checkTree(t testing.TB, m *Machine) {
	t.Helper()
	s.mount(t, m)
	s.compare(t, m)
	s.compare(t, m)
}

// checkOverlay compares it again through overlayfs, with the guest's caches dropped
// and the server's warm, and writes to the overlay.
func (s *share) checkOverlay(t testing.TB, m *Machine) {
	t.Helper()
	merged := s.mountOverlay(t, m)
	do(t, m, guestapi.DropCache, nil)
	compare(t, m, guestapi.CompareArgs{Path: merged, Manifest: s.manifestFile()})
	do(t, m, guestapi.Write, guestapi.WriteArgs{Path: merged + "/kinds/one-byte", Data: "copied up"})
	r := call[guestapi.ReadAtResult](t, m, guestapi.ReadAt, guestapi.ReadAtArgs{Path: merged + "/kinds/one-byte", Offsets: []int64{0}, Length: 100})
	if r.Digests[0] != hexDigest([]byte("copied up")) {
		t.Error("the overlay does not show what was written to it")
	}
	s.checkOffsets(t, m, "kinds/one-byte", []int64{0}, 100)
	unmount(t, m, merged)
}

// mountOverlay puts a writable layer over the share.
func (s *share) mountOverlay(t testing.TB, m *Machine) (merged string) {
	t.Helper()
	layers, merged := "/tmp/"+s.tag, "/mnt/"+s.tag+"-merged"
	for _, d := range []string{"upper", "work"} {
		do(t, m, guestapi.Mkdir, guestapi.PathArgs{Path: layers + "/" + d})
	}
	do(t, m, guestapi.Mount, guestapi.MountArgs{Source: s.tag, Path: merged, Type: "overlay",
		Data: "lowerdir=" + s.dir() + ",upperdir=" + layers + "/upper,workdir=" + layers + "/work"})
	return merged
}

// checkMmap reads files through mappings.
func (s *share) checkMmap(t testing.TB, m *Machine, paths ...string) {
	t.Helper()
	for _, p := range paths {
		b, err := os.ReadFile(filepath.Join(s.tree, p))
		if err != nil {
			t.Fatal(err)
		}
		want := guestapi.MmapResult{Digest: hexDigest(b), Bytes: int64(len(b))}
		if got := call[guestapi.MmapResult](t, m, guestapi.Mmap, guestapi.PathArgs{Path: s.dir() + "/" + p}); got != want {
			t.Errorf("mmap %s: got %+v, want %+v", p, got, want)
		}
	}
}

func hexDigest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// checkOffsets reads length bytes at each offset of a file.
func (s *share) checkOffsets(t testing.TB, m *Machine, path string, offsets []int64, length int) {
	t.Helper()
	f, err := os.Open(filepath.Join(s.tree, path))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	got := call[guestapi.ReadAtResult](t, m, guestapi.ReadAt, guestapi.ReadAtArgs{Path: s.dir() + "/" + path, Offsets: offsets, Length: length})
	buf := make([]byte, length)
	for i, off := range offsets {
		n, _ := f.ReadAt(buf, off)
		if want := hexDigest(buf[:n]); got.Digests[i] != want {
			t.Errorf("%s: %d bytes at %d: got digest %s, want %s", path, n, off, got.Digests[i], want)
		}
	}
}

// programInTree is where addProgram puts it.
const programInTree = "bin/program"

// addProgram puts a program into a tree that is yet to be made an image.
func addProgram(t testing.TB, tree string) {
	t.Helper()
	guest, err := guestProgram()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(guest)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(tree, programInTree)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

// checkExec runs the program from the share.
func (s *share) checkExec(t testing.TB, m *Machine) {
	t.Helper()
	argv := []string{s.dir() + "/" + programInTree, "runs", "from", "the", "image"}
	r := call[guestapi.RunResult](t, m, guestapi.Run, guestapi.RunArgs{Argv: argv})
	if want := strings.Join(argv, " ") + "\n"; r.Code != 0 || r.Output != want {
		t.Errorf("exit code %d, output %q, want %q", r.Code, r.Output, want)
	}
}

// needVM ends the test unless machines can be booted here.
func needVM(t testing.TB) {
	t.Helper()
	testenv.Long(t)
	testenv.Need(t, testenv.Root, testenv.QEMU, testenv.GuestKernel)
}
