package passthrough_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/passthrough"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
)

// TestBigTreesTakeFewDescriptors walks 200,000 inodes in a process that may have 1,024
// files open, and keeps all of them known.
func TestBigTreesTakeFewDescriptors(t *testing.T) {
	testenv.Need(t, testenv.Root)
	testenv.Long(t)
	dir, n := t.TempDir(), testenv.Rounds(200_000)
	const each = 500
	for i := range n / each {
		sub := filepath.Join(dir, strconv.Itoa(i))
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		for k := range each - 1 {
			if err := unix.Mknod(filepath.Join(sub, strconv.Itoa(k)), unix.S_IFREG|0o644, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	runChild(t, "walk", dir, strconv.Itoa(n))
}

const poor = 1024

// walkPoor looks everything below a directory up, twice, and then asks for the
// attributes of each node.
func walkPoor(args []string) error {
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: poor, Max: poor}); err != nil {
		return err
	}
	fs, err := passthrough.New(opener.Local(), args[0], passthrough.Options{})
	if err != nil {
		return err
	}
	defer fs.Close()
	s := fusesrv.NewServer(fs, fusesrv.Options{})
	c := &fusesrvtest.Direct{S: s, W: s.NewWorker()}
	if _, err := fusesrvtest.Init(c, fusesrv.Minor, fusesrvtest.AllFlags); err != nil {
		return err
	}
	var nodes []uint64
	for range 2 {
		nodes = nodes[:0]
		if err := lookAll(c, fusesrv.RootID, &nodes); err != nil {
			return err
		}
	}
	if want, err := strconv.Atoi(args[1]); err != nil || len(nodes) != want || fs.Nodes() != want {
		return fmt.Errorf("%d nodes listed and %d known, want %s", len(nodes), fs.Nodes(), args[1])
	}
	for _, n := range nodes {
		if _, err := fusesrvtest.Getattr(c, n); err != nil {
			return fmt.Errorf("node %d: %w", n, err)
		}
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	fmt.Printf("%d nodes, %d descriptors\n", fs.Nodes(), len(fds))
	return openTooMany(c, nodes)
}

// lookAll looks up everything below a directory.
func lookAll(c fusesrvtest.Caller, dir uint64, nodes *[]uint64) error {
	o, err := fusesrvtest.Open(c, fusesrv.OpOpendir, dir, 0)
	if err != nil {
		return err
	}
	var below []uint64
	for off := uint64(0); ; {
		list, err := fusesrvtest.Readdir(c, true, dir, o.FH, off, 64<<10)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			break
		}
		for _, e := range list {
			off = e.Next
			if e.Name == "." || e.Name == ".." {
				continue
			}
			if e.Entry.NodeID == 0 {
				return fmt.Errorf("no node for %q", e.Name)
			}
			*nodes = append(*nodes, e.Entry.NodeID)
			if e.Entry.Attr.Mode&unix.S_IFMT == unix.S_IFDIR {
				below = append(below, e.Entry.NodeID)
			}
		}
	}
	if err := fusesrvtest.Release(c, fusesrv.OpReleasedir, dir, o.FH); err != nil {
		return err
	}
	for _, d := range below {
		if err := lookAll(c, d, nodes); err != nil {
			return err
		}
	}
	return nil
}

// openTooMany opens files until there are no descriptors left for the guest. Some are
// left for the process, and everything works again when they are closed.
func openTooMany(c fusesrvtest.Caller, nodes []uint64) error {
	type file struct{ node, fh uint64 }
	var files []file
	for _, n := range nodes {
		o, err := fusesrvtest.Open(c, fusesrv.OpOpen, n, unix.O_RDONLY)
		switch {
		case errors.Is(err, unix.EISDIR):
			continue
		case errors.Is(err, unix.ENFILE):
		case err != nil:
			return err
		}
		if err != nil {
			break
		}
		files = append(files, file{n, o.FH})
	}
	own, err := os.Open("/proc/self/status")
	if err != nil {
		return fmt.Errorf("after %d files of the guest: %w", len(files), err)
	}
	defer own.Close()
	if len(files) < poor/2 || len(files) >= poor {
		return fmt.Errorf("the guest could open %d files", len(files))
	}
	for _, f := range files {
		if err := fusesrvtest.Release(c, fusesrv.OpRelease, f.node, f.fh); err != nil {
			return err
		}
	}
	_, err = fusesrvtest.Open(c, fusesrv.OpOpen, files[0].node, unix.O_RDONLY)
	return err
}

// TestTheGuestCanKnowSoMuch lets a guest look up more than it may know.
func TestTheGuestCanKnowSoMuch(t *testing.T) {
	testenv.Need(t, testenv.Root)
	const most = 100
	s := serve(t, t.TempDir(), 0, passthrough.Options{MaxNodes: most})
	c := client(t, s)
	var last uint64
	for i := range 2 * most {
		e, err := fusesrvtest.Mkdir(c, fusesrv.RootID, strconv.Itoa(i), 0o755)
		switch {
		case err == nil:
			last = e.NodeID
		case !errors.Is(err, unix.ENFILE) || s.fs.Nodes() < most-2:
			t.Fatalf("%d nodes: %v", s.fs.Nodes(), err)
		}
	}
	if n := s.fs.Nodes(); n > most {
		t.Errorf("%d nodes are known", n)
	}
	if err := fusesrvtest.Forget(c, last, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := fusesrvtest.Mkdir(c, fusesrv.RootID, "again", 0o755); err != nil {
		t.Error(err)
	}
}
