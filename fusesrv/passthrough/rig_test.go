package passthrough_test

import (
	"context"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/fusesrv/devfuse"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/mountfs"
	"vrafs/fusesrv/passthrough"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
)

// A shared is a directory of the host that is served until the test ends.
type shared struct {
	fs     *passthrough.FS
	tree   *mountfs.FS
	server *fusesrv.Server
}

// serve shares dir at "/" of a connection.
func serve(t testing.TB, dir string, flags fusesrv.InitFlags, o passthrough.Options) *shared {
	t.Helper()
	s := &shared{tree: mountfs.New(mountfs.Options{Flags: passthrough.Flags | flags})}
	s.server = fusesrv.NewServer(s.tree, fusesrv.Options{})
	s.tree.Serve(s.server.Quiesce)
	o.Settings = s.server.Settings
	var err error
	if s.fs, err = passthrough.New(opener.Local(), dir, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.fs.Close)
	_, err = s.tree.Mount("/", s.fs, mountfs.MountOptions{Identity: dir, OwnInos: true, Handles: true, Xattrs: true, Latches: passthrough.Latches})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// client starts a session.
func client(t testing.TB, s *shared) *fusesrvtest.Direct {
	t.Helper()
	c := fusesrvtest.NewDirect(t, s.server)
	if _, err := fusesrvtest.Init(c, fusesrv.Minor, fusesrvtest.AllFlags); err != nil {
		t.Fatal(err)
	}
	return c
}

// mount mounts what is shared on this host and returns where.
func (s *shared) mount(t testing.TB) string {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.FUSE)
	conn, err := devfuse.Mount(t.TempDir(), devfuse.MountOptions{Opener: opener.Local(), Writable: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- conn.Serve(ctx, s.server, devfuse.ServeOptions{Threads: 4, Workers: 8}) }()
	t.Cleanup(func() {
		if err := conn.Unmount(); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		_ = conn.Close()
	})
	answerPoll(t, conn.Dir())
	return conn.Dir()
}

// answerPoll asks a file of the mount for POLL, after which the kernel knows that there
// is none. Package os asks it of every file it opens, in a system call that the
// scheduler does not see: with the server in the same process, a collection of garbage
// at that moment waits for a thread that waits for the server.
func answerPoll(t testing.TB, dir string) {
	t.Helper()
	path := filepath.Join(dir, "poll")
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unlink(path); err != nil {
		t.Fatal(err)
	}
}
