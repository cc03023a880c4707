package mountfs_test

import (
	"errors"
	"syscall"
	"testing"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/mountfs"
)

// A latch is what the guest's kernel remembers for a whole connection (kata 2.5).
type latch struct {
	op    fusesrv.Opcode
	args  []byte
	room  int
	mixed syscall.Errno // instead
}

func latches(t testing.TB) []latch {
	return []latch{
		{fusesrv.OpFlush, fusesrvtest.Args(t, fusesrv.FlushIn{}), 0, 0},
		{fusesrv.OpFsync, fusesrvtest.Args(t, fusesrv.FsyncIn{}), 0, 0},
		{fusesrv.OpFsyncdir, fusesrvtest.Args(t, fusesrv.FsyncIn{}), 0, 0},
		{fusesrv.OpSyncfs, make([]byte, 8), 0, 0},
		{fusesrv.OpGetxattr, fusesrvtest.Args(t, fusesrv.GetxattrIn{}, "user.a"), 8, syscall.ENODATA},
		{fusesrv.OpListxattr, fusesrvtest.Args(t, fusesrv.GetxattrIn{}), 8, 0},
		{fusesrv.OpLseek, fusesrvtest.Args(t, fusesrv.LseekIn{Whence: 3}), 8, syscall.EINVAL},
		{fusesrv.OpStatx, fusesrvtest.Args(t, fusesrv.StatxIn{}), 288, syscall.EOPNOTSUPP},
	}
}

// bare is a file system that answers ENOSYS to all of these.
func bare() *flat { return &flat{content: "bare", names: []string{"f"}} }

func TestENOSYSIsPassedOnOnlyWhereNothingElseWillBe(t *testing.T) {
	for _, images := range []bool{true, false} {
		c := newConn(t, mountfs.Options{ImagesOnly: images})
		if _, err := c.Mount("/x", bare(), mountfs.MountOptions{}); err != nil {
			t.Fatal(err)
		}
		node := c.lookup(t, "x", "f").NodeID
		for _, l := range latches(t) {
			want := l.mixed
			if images {
				want = syscall.ENOSYS
			}
			_, err := c.d.Call(l.op, node, l.args, l.room)
			if got, _ := err.(syscall.Errno); got != want {
				t.Errorf("images only %v: %v: got %v, want %v", images, l.op, err, want)
			}
		}
	}
}

func TestNoAnswerOfAPseudoDirectoryStays(t *testing.T) {
	c := newConn(t, mountfs.Options{})
	c.mount(t, "/a/b", "x")
	for _, l := range latches(t) {
		if _, err := c.d.Call(l.op, c.lookup(t, "a").NodeID, l.args, l.room); err == syscall.ENOSYS {
			t.Errorf("%v: got ENOSYS", l.op)
		}
	}
}

func TestXattrsAreNotSwitchedOffByWhatHasNone(t *testing.T) {
	c := newConn(t, mountfs.Options{ImagesOnly: true})
	if _, err := c.Mount("/with", bare(), mountfs.MountOptions{Xattrs: true}); err != nil {
		t.Fatal(err)
	}
	c.mount(t, "/without", "x")
	getxattr := fusesrvtest.Args(t, fusesrv.GetxattrIn{}, "user.a")
	if _, err := c.d.Call(fusesrv.OpGetxattr, c.lookup(t, "without", "f").NodeID, getxattr, 8); err != syscall.ENODATA {
		t.Errorf("got %v, want ENODATA", err)
	}
	if err := c.Unmount("/with"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.d.Call(fusesrv.OpGetxattr, c.lookup(t, "without", "f").NodeID, getxattr, 8); err != syscall.ENOSYS {
		t.Errorf("got %v, want ENOSYS", err)
	}
	if _, err := c.Mount("/with", bare(), mountfs.MountOptions{Xattrs: true}); !errors.Is(err, mountfs.ErrUnfit) {
		t.Errorf("mounted xattrs after the guest was told that there are none: %v", err)
	}
}

func TestNothingCrossesFileSystems(t *testing.T) {
	c := newConn(t, mountfs.Options{})
	c.mount(t, "/a", "a")
	c.mount(t, "/b", "b")
	a, b := c.lookup(t, "a"), c.lookup(t, "b")
	af, bf := c.lookup(t, "a", "f").NodeID, c.lookup(t, "b", "f").NodeID
	tests := []struct {
		op   fusesrv.Opcode
		node uint64
		args []byte
		want syscall.Errno
	}{
		{fusesrv.OpRename2, a.NodeID, fusesrvtest.Args(t, fusesrv.RenameIn{NewDir: b.NodeID}, "f", "g"), syscall.EXDEV},
		{fusesrv.OpLink, a.NodeID, fusesrvtest.Args(t, fusesrv.LinkIn{OldNodeID: bf}, "g"), syscall.EXDEV},
		{fusesrv.OpCopyFileRange, af, fusesrvtest.Args(t, fusesrv.CopyFileRangeIn{NodeIDOut: bf}), syscall.EXDEV},
		{fusesrv.OpRename2, a.NodeID, fusesrvtest.Args(t, fusesrv.RenameIn{NewDir: a.NodeID}, "f", "g"), syscall.EROFS},
		{fusesrv.OpRename2, a.NodeID, fusesrvtest.Args(t, fusesrv.RenameIn{NewDir: 99 << 40}, "f", "g"), syscall.ESTALE},
	}
	for _, tt := range tests {
		if _, err := c.d.Call(tt.op, tt.node, tt.args, 200); err != tt.want {
			t.Errorf("%v: got %v, want %v", tt.op, err, tt.want)
		}
	}
	c.mount(t, "/a/sub", "sub")
	for op, want := range map[fusesrv.Opcode]syscall.Errno{fusesrv.OpRmdir: syscall.EBUSY, fusesrv.OpUnlink: syscall.EBUSY} {
		if _, err := c.d.Call(op, a.NodeID, fusesrvtest.Args(t, "sub"), 0); err != want {
			t.Errorf("%v of a mountpoint: got %v, want %v", op, err, want)
		}
	}
	mkdir := fusesrvtest.Args(t, fusesrv.MkdirIn{}, "sub")
	if _, err := c.d.Call(fusesrv.OpMkdir, a.NodeID, mkdir, 128); err != syscall.EEXIST {
		t.Errorf("MKDIR of a mountpoint: got %v, want EEXIST", err)
	}
}
