package devfuse_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv/devfuse"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/rafs"
)

// A mount is an image mounted for a test.
type mount struct {
	*devfuse.Conn
	stack *fusesrvtest.Stack
	stop  context.CancelFunc
	ended chan error // what Serve returned
}

func mountImage(t *testing.T, im *testimage.Image, o fusesrvtest.StackOptions) *mount {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.FUSE)
	m := &mount{stack: fusesrvtest.Serve(t, im, o), ended: make(chan error, 1)}
	var err error
	if m.Conn, err = devfuse.Mount(t.TempDir(), devfuse.MountOptions{Opener: opener.Local()}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	go func() {
		m.ended <- m.Serve(ctx, m.stack.Server, devfuse.ServeOptions{Threads: 4, Workers: 8})
	}()
	t.Cleanup(func() {
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
		stop()
		if m.ended != nil {
			if err := <-m.ended; err != nil {
				t.Error(err)
			}
		}
		_ = m.Close()
	})
	answerPoll(t, m.Dir())
	return m
}

// answerPoll asks the mount's first regular file for POLL, after which the kernel
// knows that there is none. Package os asks it of every file it opens, in a system
// call that the scheduler does not see: with the server in the same process, a
// collection of garbage at that moment waits for a thread that waits for the server.
func answerPoll(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); err != nil {
			return err
		}
		return fs.SkipAll
	})
	if err != nil {
		t.Fatal(err)
	}
}

// end waits for Serve.
func (m *mount) end(t *testing.T) {
	t.Helper()
	if err := <-m.ended; err != nil {
		t.Error(err)
	}
	m.ended = nil
}

func dropCaches(t *testing.T) {
	t.Helper()
	unix.Sync()
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("2\n"), 0); err != nil {
		t.Log("kernel caches stay:", err)
	}
}

func TestTreeReadsBackThroughTheKernel(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    testimage.Options
		long bool
	}{
		{"v6_zstd", testimage.Options{Version: rafs.V6, Compressor: rafs.CompressorZstd}, false},
		{"v5_lz4", testimage.Options{Version: rafs.V5, Compressor: rafs.CompressorLZ4}, true},
		{"v6_none", testimage.Options{Version: rafs.V6}, true},
		{"v5_zstd", testimage.Options{Version: rafs.V5, Compressor: rafs.CompressorZstd}, true},
		{"v6_lz4_batches", testimage.Options{Version: rafs.V6, Compressor: rafs.CompressorLZ4, BatchSize: 1 << 18}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testenv.Need(t, testenv.Root, testenv.FUSE)
			if tt.long {
				testenv.Long(t)
			}
			im := testimage.Make(t, tt.o)
			m := mountImage(t, im, fusesrvtest.StackOptions{})
			im.CompareMount(t, m.Dir()) // nothing cached
			im.CompareMount(t, m.Dir()) // the kernel's caches
			dropCaches(t)
			im.CompareMount(t, m.Dir()) // our cache
		})
	}
}

func TestImageServesAsLowerLayer(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE, testenv.Overlay)
	im := testimage.Make(t, testimage.Options{Version: rafs.V6, Compressor: rafs.CompressorLZ4})
	m := mountImage(t, im, fusesrvtest.StackOptions{})
	im.CompareMount(t, mountOverlay(t, m.Dir()))
}

func TestManyProcessesReadAtOnce(t *testing.T) {
	im := testimage.Make(t, testimage.Options{Version: rafs.V6, Compressor: rafs.CompressorZstd})
	m := mountImage(t, im, fusesrvtest.StackOptions{})
	want, err := exec.Command("sh", "-c", "cd "+im.Tree+" && find . -type f -size -1000k -exec sha256sum {} + | sort").Output()
	if err != nil {
		t.Fatal(err)
	}
	n := 50
	if testing.Short() {
		n = 5
	}
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			got, err := exec.Command("sh", "-c", "cd "+m.Dir()+" && find . -type f -size -1000k -exec sha256sum {} + | sort").Output()
			if err != nil || string(got) != string(want) {
				t.Errorf("%v, %d bytes of sums, want %d", err, len(got), len(want))
			}
		})
	}
	wg.Wait()
}

// mountControl mounts the file system that connections are aborted through, where
// nobody has.
func mountControl(t *testing.T) {
	const dir, magic = "/sys/fs/fuse/connections", 0x65735543
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil && fs.Type == magic {
		return
	}
	if err := unix.Mount("fusectl", dir, "fusectl", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func TestServeEnds(t *testing.T) {
	im := testimage.Make(t, testimage.Options{Version: rafs.V6})
	for _, tt := range []struct {
		name string
		how  func(m *mount) error
	}{
		{"with_its_context", func(m *mount) error { m.stop(); return nil }},
		{"unmounted_from_outside", func(m *mount) error { return unix.Unmount(m.Dir(), 0) }},
		{"unmounted_lazily", func(m *mount) error { return unix.Unmount(m.Dir(), unix.MNT_DETACH) }},
		{"aborted", func(m *mount) error { mountControl(t); return m.Abort() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := mountImage(t, im, fusesrvtest.StackOptions{})
			if _, err := os.ReadDir(m.Dir()); err != nil {
				t.Fatal(err)
			}
			if err := tt.how(m); err != nil {
				t.Fatal(err)
			}
			m.end(t)
		})
	}
}

func TestServeGoesOnAfterAnother(t *testing.T) {
	im := testimage.Make(t, testimage.Options{Version: rafs.V6, Compressor: rafs.CompressorZstd})
	m := mountImage(t, im, fusesrvtest.StackOptions{})
	names, err := os.ReadDir(m.Dir())
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(uintptr(m.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.stop()
	m.end(t)
	// Another server, which saw no INIT, takes the connection over.
	next := fusesrvtest.Serve(t, im, fusesrvtest.StackOptions{})
	next.Server.Restore(*m.stack.Server.Settings())
	conn, err := devfuse.Adopt(opener.Local(), fd, m.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if conn.ID() != m.ID() {
		t.Errorf("connection %d, was %d", conn.ID(), m.ID())
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- conn.Serve(ctx, next.Server, devfuse.ServeOptions{Threads: 2, Workers: 4})
	}()
	dropCaches(t)
	again, err := os.ReadDir(m.Dir())
	if err != nil || len(again) != len(names) {
		t.Errorf("%d names, were %d: %v", len(again), len(names), err)
	}
	im.CompareMount(t, m.Dir())
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

func TestMountRefusesWhatIsNoDirectory(t *testing.T) {
	testenv.Need(t, testenv.FUSE)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{file: unix.ENOTDIR, file + "s": os.ErrNotExist} {
		if _, err := devfuse.Mount(path, devfuse.MountOptions{Opener: opener.Local()}); !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(text), file) {
		t.Error("a mount was left behind")
	}
}
