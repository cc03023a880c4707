package imagefs

import (
	"context"
	"fmt"
	"io"
	"syscall"
	"testing"

	"vrafs/blobcache"
	"vrafs/rafs"
)

func TestErrnoOf(t *testing.T) {
	tests := []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{rafs.ErrNotExist, syscall.ENOENT},
		{rafs.ErrNotDir, syscall.ENOTDIR},
		{rafs.ErrNotRegular, syscall.EISDIR},
		{rafs.ErrNotSymlink, syscall.EINVAL},
		{&rafs.FormatError{Field: "inode.nlink"}, syscall.EUCLEAN},
		{fmt.Errorf("hole: %w", rafs.ErrUnsupported), syscall.EUCLEAN},
		{syscall.EFAULT, syscall.EFAULT},
		{fmt.Errorf("preadv: %w", syscall.EFAULT), syscall.EFAULT},
		{syscall.ENOSPC, syscall.EIO},
		{syscall.ENOSYS, syscall.EIO},
		{blobcache.ErrDigest, syscall.EIO},
		{blobcache.ErrUnverified, syscall.EIO},
		{blobcache.ErrClosed, syscall.EIO},
		{context.Canceled, syscall.EIO},
		{context.DeadlineExceeded, syscall.EIO},
		{io.ErrUnexpectedEOF, syscall.EIO},
	}
	for _, tt := range tests {
		if got := errnoOf(tt.err); got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.err, got, tt.want)
		}
	}
}

func TestGenerationTellsBootstrapsApart(t *testing.T) {
	a := make([]byte, 1<<20)
	seen := map[uint32]string{}
	add := func(name string, b []byte) {
		g := Generation(b)
		if old, ok := seen[g]; ok || g == 0 {
			t.Errorf("%s: got generation %d, which %s has", name, g, old)
		}
		seen[g] = name
	}
	add("empty", nil)
	add("zeros", a)
	add("shorter", a[:len(a)-1])
	for _, at := range []int{0, 4095, 1<<16 - 1, 1 << 16, 1<<20 - 4096} {
		a[at] ^= 1
		add(fmt.Sprint("changed at ", at), a)
		a[at] ^= 1
	}
	if Generation(a) != Generation(make([]byte, 1<<20)) {
		t.Error("equal bootstraps have unlike generations")
	}
}
