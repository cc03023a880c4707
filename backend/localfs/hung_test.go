package localfs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"vrafs/backend"
	"vrafs/internal/opener"
	"vrafs/internal/testenv"
)

var errGivenUp = errors.New("given up")

// A hungOpener opens nothing before it is released.
type hungOpener struct {
	opener.Opener
	asked, released chan struct{}
}

func (h *hungOpener) Open(path string, flags int, perm uint32) (*os.File, error) {
	h.asked <- struct{}{}
	<-h.released
	return h.Opener.Open(path, flags, perm)
}

func TestOpenEndsWithItsContextWhereTheDirectoryHangs(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "id"), []byte("x"))
	h := &hungOpener{opener.Local(), make(chan struct{}, maxApart+1), make(chan struct{})}
	o, err := New(h, Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error)
	const calls = 2 * maxApart // more than may be under way
	for range calls {
		go func() {
			_, err := o.Open(ctx, "id")
			ended <- err
		}()
	}
	for range maxApart {
		<-h.asked
	}
	cancel(errGivenUp)
	for range calls {
		if err := <-ended; !errors.Is(err, errGivenUp) || errors.Is(err, backend.ErrPermanent) {
			t.Errorf("got %v", err)
		}
	}
	close(h.released)
	if got := read(t, o, "id", 1); got != "x" {
		t.Errorf("afterwards: got %q", got)
	}
}

// A hungFile can be opened, but nothing is ever read from it.
type hungFile struct {
	fs.Inode
	asked, released chan struct{}
}

func (h *hungFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (h *hungFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o444, 4096
	return 0
}

func (h *hungFile) Read(context.Context, fs.FileHandle, []byte, int64) (fuse.ReadResult, syscall.Errno) {
	h.asked <- struct{}{}
	<-h.released
	return nil, syscall.EIO
}

func TestReadEndsWithItsContextWhereTheFileSystemHangs(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.FUSE)
	h := &hungFile{asked: make(chan struct{}, 1), released: make(chan struct{})}
	root := &fs.Inode{}
	dir := t.TempDir()
	server, err := fs.Mount(dir, root, &fs.Options{OnAdd: func(ctx context.Context) {
		root.AddChild("id", root.NewPersistentInode(ctx, h, fs.StableAttr{}), false)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Unmount() })
	t.Cleanup(func() { close(h.released) })
	b, err := open(t, Options{Dir: dir}).Open(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-h.asked
		cancel(errGivenUp)
	}()
	p := []byte("untouched")
	if n, err := b.ReadAt(ctx, p, 0); n != 0 || !errors.Is(err, errGivenUp) || string(p) != "untouched" {
		t.Errorf("got %d, %v, %q", n, err, p)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}
