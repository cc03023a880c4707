package passthrough

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
)

// TestAReusedInodeIsNotOpenedAsWhatItWas puts a FIFO in a file's place, with its inode
// number, between the two looks that a lookup takes. To open it would take for ever.
func TestAReusedInodeIsNotOpenedAsWhatItWas(t *testing.T) {
	testenv.Need(t, testenv.Root)
	dir := t.TempDir()
	f, err := New(opener.Local(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.noHandles || !f.mounts.get(f.rootKey.mount).byName {
		t.Log("no handles here: every look is through a descriptor")
	}
	c := fusesrvtest.NewDirect(t, fusesrv.NewServer(f, fusesrv.Options{}))
	if _, err := fusesrvtest.Init(c, fusesrv.Minor, fusesrvtest.AllFlags); err != nil {
		t.Fatal(err)
	}
	path, reused := filepath.Join(dir, "name"), 0
	for range 100 {
		file := place(t, path, unix.S_IFREG)
		var pipe unix.Stat_t
		f.looked = func() {
			_ = os.Remove(path)
			pipe = place(t, path, unix.S_IFIFO)
		}
		e, err := fusesrvtest.Lookup(c, fusesrv.RootID, "name")
		f.looked = nil
		if err != nil {
			t.Fatal(err)
		}
		if pipe.Ino == file.Ino {
			reused++
		}
		opens(t, c, e.NodeID)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if reused == 0 {
		t.Log("this file system gives inode numbers out once")
	}
}

// place makes a file of a type.
func place(t *testing.T, path string, kind uint32) (st unix.Stat_t) {
	t.Helper()
	if err := unix.Mknod(path, kind|0o644, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// opens opens a node that is no regular file, for reading.
func opens(t *testing.T, c fusesrvtest.Caller, node uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := fusesrvtest.Open(c, fusesrv.OpOpen, node, unix.O_RDONLY)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil || errors.Is(err, fusesrvtest.ErrServer) {
			t.Fatalf("opened: %v", err)
		}
	case <-ctx.Done():
		t.Fatal("a FIFO was opened")
	}
}
