package virtiofs_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"vrafs/fusesrv"
	"vrafs/fusesrv/fusesrvtest"
	"vrafs/fusesrv/virtiofs"
	"vrafs/internal/testenv"
	"vrafs/internal/testimage"
	"vrafs/internal/testtree"
	"vrafs/rafs"
	"vrafs/vhostuser"
	"vrafs/vhostuser/vhostusertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A rig is an image served to a guest over a vhost-user connection.
type rig struct {
	*fusesrvtest.Stack
	dev   *virtiofs.Device
	guest *vhostusertest.Guest
	conn  *vhostusertest.Conn
}

// image makes a small image.
func image(t testing.TB, v rafs.Version) *testimage.Image {
	t.Helper()
	testenv.Need(t, testenv.Root)
	return testimage.Make(t, testimage.Options{Version: v, Compressor: rafs.CompressorLZ4, Tree: testtree.Small(2)})
}

// newRig starts everything; it ends with the test.
func newRig(t testing.TB, im *testimage.Image, so fusesrvtest.StackOptions, o virtiofs.Options, g vhostusertest.GuestConfig) *rig {
	t.Helper()
	r := &rig{Stack: fusesrvtest.Serve(t, im, so)}
	if o.Save == nil {
		o.Save = r.Tree.State
		o.Load = func(state []byte) error { return r.Tree.Load(state, true, nil) }
	}
	var err error
	if r.dev, err = virtiofs.New(r.Server, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.dev.Close)
	r.conn = connect(t, r.dev)
	if r.guest, err = vhostusertest.NewGuest(g); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.guest.Close)
	if err := r.guest.Start(r.conn); err != nil {
		t.Fatal(err)
	}
	return r
}

// connect returns a front-end's connection to dev, which ends with the test and
// before the guest's memory goes.
func connect(t testing.TB, dev vhostuser.Device) *vhostusertest.Conn {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(socketDir(t), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	conn, err := vhostusertest.Dial(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	back, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- vhostuser.Serve(context.Background(), back, dev, vhostuser.Options{}) }()
	t.Cleanup(func() {
		_ = conn.Close()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		_ = back.Close()
	})
	return conn
}

// socketDir is a directory with a short name, as socket paths need.
func socketDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "vfs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// client returns a client of ring i.
func (r *rig) client(t testing.TB, i int, cfg vhostusertest.ClientConfig) *vhostusertest.Client {
	t.Helper()
	if cfg.Depth == 0 {
		cfg.Depth = 4
	}
	c, err := vhostusertest.NewClient(r.guest.Ring(i), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// start begins a session over ring 1.
func (r *rig) start(t testing.TB) *vhostusertest.Client {
	t.Helper()
	c := r.client(t, 1, vhostusertest.ClientConfig{})
	if _, err := fusesrvtest.Init(c, fusesrv.Minor, fusesrvtest.AllFlags); err != nil {
		t.Fatal(err)
	}
	return c
}
