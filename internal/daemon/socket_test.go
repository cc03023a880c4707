package daemon

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/opener"
	"vrafs/internal/testenv"
)

func TestListenTakesTheNameOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	for _, before := range []string{"nothing", "a file", "a dead socket", "a live socket"} {
		t.Run(before, func(t *testing.T) {
			switch before {
			case "a file":
				if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			case "a dead socket", "a live socket":
				ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
				if err != nil {
					t.Fatal(err)
				}
				ln.SetUnlinkOnClose(false)
				if before == "a live socket" {
					defer ln.Close()
				} else {
					ln.Close()
				}
			}
			want := map[string]leftover{"nothing": leftNothing, "a file": leftDead, "a dead socket": leftDead, "a live socket": leftAlive}[before]
			if got := probe(path); got != want {
				t.Errorf("probe: got %v, want %v", got, want)
			}
			s, err := listen(opener.Local(), path)
			if err != nil {
				t.Fatal(err)
			}
			if probe(path) != leftAlive {
				t.Error("nobody listens")
			}
			s.remove()
			left, _ := os.ReadDir(filepath.Dir(path))
			if len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestListenTakesLongNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := listen(opener.Local(), filepath.Join(dir, "s.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s.remove()
}

func TestSocketGoesToTheOwnerOfItsDirectory(t *testing.T) {
	testenv.Need(t, testenv.Root)
	dir := t.TempDir()
	if err := os.Chown(dir, 1000, 1001); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s.sock")
	s, err := listen(opener.Local(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.remove()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Uid != 1000 || st.Gid != 1001 {
		t.Errorf("got %d:%d, %v", st.Uid, st.Gid, err)
	}
}

func TestRemoveLeavesASuccessorsSocketAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	first, err := listen(opener.Local(), path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := listen(opener.Local(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.remove()
	first.remove()
	if probe(path) != leftAlive {
		t.Error("the successor's socket is gone")
	}
}
