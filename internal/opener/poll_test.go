package opener_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/devfuse"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
)

// An empties is a file system in which every name is an empty regular file.
type empties struct{ fusesrv.ReadOnly }

func (empties) attr(node uint64) fusesrv.Attr {
	mode := uint32(syscall.S_IFREG | 0o644)
	if node == fusesrv.RootID {
		mode = syscall.S_IFDIR | 0o755
	}
	return fusesrv.Attr{Ino: node, Mode: mode, Nlink: 1}
}

func (e empties) Lookup(_ *fusesrv.Request, _ []byte, out *fusesrv.EntryOut) syscall.Errno {
	*out = fusesrv.EntryOut{NodeID: 2, Attr: e.attr(2)}
	return 0
}

func (e empties) Getattr(r *fusesrv.Request, _ *fusesrv.GetattrIn, out *fusesrv.AttrOut) syscall.Errno {
	out.Attr = e.attr(r.Node)
	return 0
}

func (empties) Open(*fusesrv.Request, *fusesrv.OpenIn, *fusesrv.OpenOut) syscall.Errno { return 0 }

// pollCounter mounts a directory in which every name is an empty regular file, and
// counts the POLL requests that its files get.
func pollCounter(t *testing.T) (dir string, polls func() uint64) {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.FUSE)
	c, err := devfuse.Mount(t.TempDir(), devfuse.MountOptions{Opener: opener.Local()})
	if err != nil {
		t.Fatal(err)
	}
	s := fusesrv.NewServer(empties{}, fusesrv.Options{})
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(context.Background(), s, devfuse.ServeOptions{Threads: 1, Workers: 1}) }()
	t.Cleanup(func() {
		if err := c.Unmount(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		_ = c.Close()
	})
	return c.Dir(), func() uint64 { return s.Stats().Totals().Hits[fusesrv.OpPoll] }
}

func TestOpenDoesNotAskTheServerOfAMountForPoll(t *testing.T) {
	dir, polls := pollCounter(t)
	for name, flags := range map[string]int{"plain": os.O_RDONLY, "nonblock": os.O_RDONLY | unix.O_NONBLOCK} {
		f, err := opener.Local().Open(filepath.Join(dir, name), flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		if n := polls(); n != 0 {
			t.Errorf("%s: %d POLL requests", name, n)
		}
	}
	// A poll of our own does ask: the counter works.
	fd, err := unix.Open(filepath.Join(dir, "asked"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	if err != nil || polls() != 1 {
		t.Errorf("%d POLL requests, %v", polls(), err)
	}
}
