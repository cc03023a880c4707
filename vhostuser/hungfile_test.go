package vhostuser_test

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// hungFile returns a descriptor of a regular file whose FUSE server stops
// answering once the file is open. abort closes the server's side: everyone who
// waits for it gets an error. It is called at the test's end at the latest.
func hungFile(t testing.TB) (fd int, abort func()) {
	t.Helper()
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	dir := t.TempDir()
	must(t, unix.Mount("hung", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", dev)))
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		answerUntilOpen(dev)
	}()
	fd, err = unix.Open(filepath.Join(dir, "file"), unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	<-answered
	var once sync.Once
	abort = func() {
		once.Do(func() {
			_ = unix.Close(dev)
			_ = unix.Close(fd)
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(abort)
	return fd, abort
}

// answerUntilOpen serves a directory with one regular file up to its OPEN.
func answerUntilOpen(dev int) {
	const lookup, getattr, open, initReq = 1, 3, 14, 26
	le := binary.LittleEndian
	buf := make([]byte, 1<<20)
	for {
		n, err := unix.Read(dev, buf)
		if err != nil || n < 40 {
			return
		}
		op, unique, node := le.Uint32(buf[4:]), le.Uint64(buf[8:]), le.Uint64(buf[16:])
		var body []byte
		switch op {
		case initReq:
			body = make([]byte, 64)
			le.PutUint32(body, 7)
			le.PutUint32(body[4:], 31)
			le.PutUint32(body[20:], 4096)
		case lookup:
			body = make([]byte, 128)
			le.PutUint64(body, 2)
			putHungAttr(body[40:], 2)
		case getattr:
			body = make([]byte, 104)
			putHungAttr(body[16:], node)
		case open:
			body = make([]byte, 16)
		}
		reply := le.AppendUint32(nil, uint32(16+len(body)))
		reply = le.AppendUint32(reply, 0)
		if body == nil {
			le.PutUint32(reply[4:], uint32(0xffff_ffff-38+1)) // -ENOSYS
		}
		reply = append(le.AppendUint64(reply, unique), body...)
		if _, err := unix.Write(dev, reply); err != nil || op == open {
			return
		}
	}
}

// putHungAttr fills struct fuse_attr for the root (1) or the file.
func putHungAttr(b []byte, node uint64) {
	mode, size := uint32(unix.S_IFDIR|0o755), uint64(0)
	if node != 1 {
		mode, size = unix.S_IFREG|0o644, 1<<30
	}
	binary.LittleEndian.PutUint64(b, node)
	binary.LittleEndian.PutUint64(b[8:], size)
	binary.LittleEndian.PutUint32(b[60:], mode)
	binary.LittleEndian.PutUint32(b[64:], 1)
}
