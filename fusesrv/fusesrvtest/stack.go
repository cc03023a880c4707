package fusesrvtest

import (
	"testing"

	"vrafs/backend"
	"vrafs/backend/localfs"
	"vrafs/blobcache"
	"vrafs/fusesrv"
	"vrafs/fusesrv/imagefs"
	"vrafs/fusesrv/mountfs"
	"vrafs/internal/bootload"
	"vrafs/internal/opener"
	"vrafs/internal/testimage"
)

// AllFlags is everything that a guest of the newest kernel may offer.
const AllFlags = ^fusesrv.InitFlags(0)

// A Stack is an image and everything that serves it.
type Stack struct {
	Boot   *bootload.Bootstrap
	Cache  *blobcache.Cache
	Images *imagefs.FS
	Tree   *mountfs.FS
	Server *fusesrv.Server
}

// StackOptions say how an image is served.
type StackOptions struct {
	At      string // mountpoint; empty: "/"
	Tree    mountfs.Options
	Image   imagefs.Options
	Server  fusesrv.Options
	CacheIn string // cache directory; empty: a new one
	// Backend wraps the back end; nil: not.
	Backend func(backend.Opener) backend.Opener
}

// Serve serves an image until the test ends.
func Serve(t testing.TB, im *testimage.Image, o StackOptions) *Stack {
	t.Helper()
	s := &Stack{Tree: mountfs.New(o.Tree)}
	s.Server = fusesrv.NewServer(s.Tree, o.Server)
	s.Tree.Serve(s.Server.Quiesce)
	s.Mount(t, im, o)
	return s
}

// Mount mounts another image in the same tree, and makes it the Stack's.
func (s *Stack) Mount(t testing.TB, im *testimage.Image, o StackOptions) mountfs.Mount {
	t.Helper()
	var err error
	if s.Boot, err = bootload.Open(opener.Local(), im.Bootstrap); err != nil {
		t.Fatal(err)
	}
	boot := s.Boot
	t.Cleanup(func() { _ = boot.Close() })
	s.Cache = Cache(t, boot, im.BlobDir, o)
	if s.Images, err = imagefs.New(boot.Image, boot.Bytes(), s.Cache, o.Image); err != nil {
		t.Fatal(err)
	}
	if o.At == "" {
		o.At = "/"
	}
	m, err := s.Tree.Mount(o.At, s.Images, mountfs.MountOptions{Identity: im.Bootstrap, Xattrs: s.Images.HasXattrs()})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Cache opens a cache for an image whose blobs lie in dir.
func Cache(t testing.TB, boot *bootload.Bootstrap, dir string, o StackOptions) *blobcache.Cache {
	t.Helper()
	if o.CacheIn == "" {
		o.CacheIn = t.TempDir()
	}
	store, err := blobcache.NewStore(opener.Local(), blobcache.Options{Dir: o.CacheIn})
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := localfs.New(opener.Local(), localfs.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if o.Backend != nil {
		blobs = o.Backend(blobs)
	}
	c, err := store.Open(boot.Image, blobs, blobcache.ImageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.Close(), store.Close() })
	return c
}

// Start returns a client whose session has begun.
func (s *Stack) Start(t testing.TB) *Direct {
	t.Helper()
	d := NewDirect(t, s.Server)
	if _, err := Init(d, fusesrv.Minor, AllFlags); err != nil {
		t.Fatal(err)
	}
	return d
}

// Warm fetches every byte of the image that a walk reads.
func (s *Stack) Warm(t testing.TB, d *Direct) {
	t.Helper()
	if _, err := Walk(d, fusesrv.RootID, 5); err != nil {
		t.Fatal(err)
	}
}
