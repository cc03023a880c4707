package devfuse_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/hanwen/go-fuse/v2/posixtest"
	"golang.org/x/sys/unix"

	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/rafs"
)

// goFuse mounts a directory read-only through go-fuse's loopback.
func goFuse(t *testing.T, dir string) string {
	t.Helper()
	root, err := fs.NewLoopbackRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	server, err := fs.Mount(at, root, &fs.Options{MountOptions: fuse.MountOptions{
		DirectMount: true, Options: []string{"ro", "default_permissions"}, FsName: dir,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return at
}

// A deed is something that a program does to a file.
type deed struct {
	name string
	do   func(path string) error
}

func deeds() []deed {
	open := func(flags int) func(string) error {
		return func(path string) error {
			fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
			if err == nil {
				_ = unix.Close(fd)
			}
			return err
		}
	}
	opened := func(f func(fd int) error) func(string) error {
		return func(path string) error {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return f(fd)
		}
	}
	seek := func(offset int64, whence int) func(string) error {
		return opened(func(fd int) error { _, err := unix.Seek(fd, offset, whence); return err })
	}
	var buf [64]byte
	return []deed{
		{"open", open(unix.O_RDONLY)},
		{"open_to_write", open(unix.O_WRONLY)},
		{"open_to_truncate", open(unix.O_RDWR | unix.O_TRUNC)},
		{"open_or_create", open(unix.O_RDWR | unix.O_CREAT)},
		{"create", open(unix.O_RDWR | unix.O_CREAT | unix.O_EXCL)},
		{"open_as_directory", open(unix.O_DIRECTORY)},
		{"open_without_following", open(unix.O_NOFOLLOW)},
		{"open_temporary", open(unix.O_TMPFILE | unix.O_RDWR)},
		{"read", opened(func(fd int) error { _, err := unix.Pread(fd, buf[:], 1<<40); return err })},
		{"seek_data_at_0", seek(0, unix.SEEK_DATA)},
		{"seek_data_behind", seek(1<<50, unix.SEEK_DATA)},
		{"seek_hole_behind", seek(1<<50, unix.SEEK_HOLE)},
		{"list_opened", opened(func(fd int) error { _, err := unix.ReadDirent(fd, make([]byte, 4096)); return err })},
		{"fsync", opened(unix.Fsync)},
		{"fallocate", opened(func(fd int) error { return unix.Fallocate(fd, 0, 0, 1) })},
		{"flock", opened(func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })},
		{"truncate", func(path string) error { return unix.Truncate(path, 0) }},
		{"chmod", func(path string) error { return unix.Chmod(path, 0o600) }},
		{"utimes", func(path string) error { return unix.Utimes(path, nil) }},
		{"unlink", unix.Unlink},
		{"rmdir", unix.Rmdir},
		{"mkdir", func(path string) error { return unix.Mkdir(path, 0o700) }},
		{"mkdir_below", func(path string) error { return unix.Mkdir(path+"/new", 0o700) }},
		{"mknod_below", func(path string) error { return unix.Mknod(path+"/new", unix.S_IFIFO, 0) }},
		{"rename", func(path string) error { return unix.Rename(path, path+".new") }},
		{"link", func(path string) error { return unix.Link(path, path+".new") }},
		{"symlink_below", func(path string) error { return unix.Symlink("x", path+"/new") }},
		{"readlink", func(path string) error { _, err := unix.Readlink(path, buf[:]); return err }},
		{"look_below", func(path string) error { return unix.Access(path+"/no such name", unix.F_OK) }},
		{"look_for_a_long_name", func(path string) error { return unix.Access(path+"/"+strings.Repeat("n", 256), unix.F_OK) }},
		{"execute", func(path string) error { return unix.Access(path, unix.X_OK) }},
		{"write_access", func(path string) error { return unix.Access(path, unix.W_OK) }},
		{"getxattr", func(path string) error { _, err := unix.Lgetxattr(path, "user.no such", buf[:]); return err }},
		{"setxattr", func(path string) error { return unix.Lsetxattr(path, "user.new", []byte("x"), 0) }},
		{"removexattr", func(path string) error { return unix.Lremovexattr(path, "user.no such") }},
		{"open_path_as_directory", open(unix.O_PATH | unix.O_DIRECTORY)},
	}
}

// TestErrorsAreThoseOfGoFuse compares what every deed to every kind of file ends in
// on our mount and on go-fuse's read-only loopback of the same tree.
func TestErrorsAreThoseOfGoFuse(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE)
	im := testimage.Make(t, testimage.Options{Version: rafs.V6, Compressor: rafs.CompressorLZ4})
	theirs := goFuse(t, im.Tree)
	ours := mountImage(t, im, fusesrvtest.StackOptions{}).Dir()
	for _, path := range oneOfEachKind(t, im.Tree) {
		for _, d := range deeds() {
			want, got := d.do(filepath.Join(theirs, path)), d.do(filepath.Join(ours, path))
			if !errors.Is(got, want) {
				t.Errorf("%s of %s: %v, go-fuse says %v", d.name, path, got, want)
			}
		}
	}
}

// oneOfEachKind gives paths below dir: one file of each type, and one that is not.
func oneOfEachKind(t *testing.T, dir string) []string {
	t.Helper()
	seen := map[os.FileMode]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err == nil && seen[d.Type()] == "" && (!info.Mode().IsRegular() || info.Size() > 0) {
			seen[d.Type()], err = filepath.Rel(dir, path)
		}
		return err
	})
	if err != nil || len(seen) < 6 {
		t.Fatalf("%d types of files: %v", len(seen), err)
	}
	paths := []string{"no such file"}
	for _, p := range seen {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

// TestPosixSuiteOverTheImage runs go-fuse's suite in a directory of an image, in an
// overlay over it, as a container would.
func TestPosixSuiteOverTheImage(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE, testenv.Overlay)
	const dir = "work"
	tree := t.TempDir()
	if err := os.Mkdir(filepath.Join(tree, dir), 0o755); err != nil {
		t.Fatal(err)
	}
	m := mountImage(t, testimage.Make(t, testimage.Options{Version: rafs.V6, Source: tree}), fusesrvtest.StackOptions{})
	for name, run := range posixtest.All {
		switch name {
		case "FcntlFlockLocksFile": // a lock of fcntl and one of flock: local file systems keep them apart
		case "XAttrLarge": // more than ext4, which has the upper layer, can hold
		default:
			t.Run(name, func(t *testing.T) { run(t, filepath.Join(mountOverlay(t, m.Dir()), dir)) })
		}
	}
}

// TestEveryCookieCanBeSoughtTo reads a big directory on from the place of each entry.
func TestEveryCookieCanBeSoughtTo(t *testing.T) {
	im := testimage.Make(t, testimage.Options{Version: rafs.V5})
	m := mountImage(t, im, fusesrvtest.StackOptions{})
	fd, err := unix.Open(biggest(t, m.Dir()), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	all := entries(t, fd, 64<<10)
	if len(all) < 100 {
		t.Fatalf("only %d entries", len(all))
	}
	for i := range all[1:] {
		if _, err := unix.Seek(fd, int64(all[i].Off), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if rest := entries(t, fd, 512); !slices.Equal(rest, all[i+1:]) {
			t.Fatalf("%d entries from the place of %q on, want %d", len(rest), all[i].Name, len(all)-i-1)
		}
	}
}

// entries reads a directory on to its end, size bytes at a time.
func entries(t *testing.T, fd, size int) (all []fuse.DirEntry) {
	t.Helper()
	buf := make([]byte, size)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return all
		}
		for b := buf[:n]; len(b) > 0; {
			var d fuse.DirEntry
			b = b[d.Parse(b):]
			all = append(all, d)
		}
	}
}

// biggest gives the directory below dir with the most entries.
func biggest(t *testing.T, dir string) (path string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	most := 0
	for _, d := range list {
		if in, err := os.ReadDir(filepath.Join(dir, d.Name())); err == nil && len(in) > most {
			path, most = filepath.Join(dir, d.Name()), len(in)
		}
	}
	return path
}
