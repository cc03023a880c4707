package opener

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vrafs/internal/testenv"
)

// FUSE opcodes (linux/fuse.h) that the server of a test answers or looks for.
const (
	fuseLookup      = 1
	fuseForget      = 2
	fuseGetattr     = 3
	fuseOpen        = 14
	fuseInit        = 26
	fuseInterrupt   = 36
	fusePoll        = 40
	fuseBatchForget = 42
)

// pollCounter mounts a directory in which every name is an empty regular file, and
// counts the POLL requests that its files get.
func pollCounter(t *testing.T) (dir string, polls *atomic.Uint32) {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.FUSE)
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir, polls = t.TempDir(), new(atomic.Uint32)
	if err := unix.Mount("polls", dir, "fuse", unix.MS_NODEV|unix.MS_NOSUID, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", dev)); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1<<17)
		for {
			n, err := unix.Read(dev, buf)
			if err != nil && err != unix.EINTR && err != unix.ENOENT {
				return // unmounted
			}
			if n < 40 {
				continue
			}
			if binary.LittleEndian.Uint32(buf[4:]) == fusePoll {
				polls.Add(1)
			}
			if reply := fuseReply(buf[:n]); reply != nil {
				_, _ = unix.Write(dev, reply)
			}
		}
	}()
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
		<-done
		_ = unix.Close(dev)
	})
	return dir, polls
}

// fuseReply answers a request; nil if it takes no answer.
func fuseReply(in []byte) []byte {
	le := binary.LittleEndian
	attr := func(mode uint32) []byte {
		a := make([]byte, 88)
		le.PutUint64(a, 2)
		le.PutUint32(a[60:], mode)
		le.PutUint32(a[64:], 1)
		return a
	}
	var body []byte
	errno := syscall.Errno(0)
	switch le.Uint32(in[4:]) {
	case fuseInit:
		body = make([]byte, 64)
		le.PutUint32(body, 7)
		le.PutUint32(body[4:], 31)
	case fuseLookup:
		body = make([]byte, 40)
		le.PutUint64(body, 2)
		body = append(body, attr(unix.S_IFREG|0o644)...)
	case fuseGetattr:
		mode := uint32(unix.S_IFREG | 0o644)
		if le.Uint64(in[16:]) == 1 {
			mode = unix.S_IFDIR | 0o755
		}
		body = append(make([]byte, 16), attr(mode)...)
	case fuseOpen:
		body = make([]byte, 16)
	case fuseForget, fuseBatchForget, fuseInterrupt:
		return nil
	default:
		errno = syscall.ENOSYS
	}
	out := make([]byte, 16, 16+len(body))
	le.PutUint32(out, uint32(16+len(body)))
	le.PutUint32(out[4:], uint32(-int32(errno)))
	copy(out[8:16], in[8:16])
	return append(out, body...)
}

func TestOpenDoesNotAskTheServerOfAMountForPoll(t *testing.T) {
	dir, polls := pollCounter(t)
	for name, flags := range map[string]int{"plain": os.O_RDONLY, "nonblock": os.O_RDONLY | unix.O_NONBLOCK} {
		f, err := Local().Open(filepath.Join(dir, name), flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		if n := polls.Load(); n != 0 {
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
	if err != nil || polls.Load() != 1 {
		t.Errorf("%d POLL requests, %v", polls.Load(), err)
	}
}
