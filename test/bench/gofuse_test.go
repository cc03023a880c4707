package bench

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// The test binary serves through go-fuse instead of running tests when
// goFuseMode is in its environment: goFuseRaw or goFuseLoopback. Its arguments are
// then the directory and the mountpoint.
const (
	goFuseMode     = "VRAFS_BENCH_GOFUSE"
	goFuseRaw      = "raw"
	goFuseLoopback = "loopback"
)

// startGoFuse has another process of this binary serve dir.
func startGoFuse(b *testing.B, mode, dir string) *mounted {
	b.Helper()
	at := b.TempDir()
	b.Setenv(goFuseMode, mode)
	defer os.Unsetenv(goFuseMode)
	return mountedBy(b, "gofuse", at, os.Args[0], dir, at)
}

// forever is how long the kernel may keep what it was told.
const forever = 1 << 32 * time.Second

// serveGoFuse is the other process.
func serveGoFuse(mode, dir, at string) error {
	o := fuse.MountOptions{DirectMount: true, AllowOther: true, FsName: "gofuse", MaxWrite: 1 << 20, MaxBackground: 256, EnableSymlinkCaching: true}
	var server *fuse.Server
	switch mode {
	case goFuseRaw:
		raw, err := newRaw(dir)
		if err == nil {
			server, err = fuse.NewServer(raw, at, &o)
		}
		if err != nil {
			return err
		}
		go server.Serve()
	default:
		root, err := fs.NewLoopbackRoot(dir)
		if err != nil {
			return err
		}
		keep := time.Duration(forever)
		server, err = fs.Mount(at, root, &fs.Options{MountOptions: o, EntryTimeout: &keep, AttrTimeout: &keep})
		if err != nil {
			return err
		}
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt)
	<-stop
	return server.Unmount()
}

// A raw is the tree of makeTree on go-fuse's raw level, with nothing between
// the library and the work: a map of names, and one pread of a host file for a READ.
// That is less than an image needs, which has to find its chunks first.
type raw struct {
	fuse.RawFileSystem
	nodes []node // by node id - 1
}

type node struct {
	attr     fuse.Attr
	children map[string]uint64 // node ids, in directories
	file     *os.File          // of regular files
}

func newRaw(dir string) (*raw, error) {
	r := &raw{RawFileSystem: fuse.NewDefaultRawFileSystem()}
	_, err := r.add(dir)
	return r, err
}

// add adds a host file, with all below it, and returns its node id.
func (r *raw) add(path string) (uint64, error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	id := uint64(len(r.nodes) + 1)
	n := node{attr: *fuse.ToAttr(st)}
	n.attr.Ino = id
	r.nodes = append(r.nodes, n)
	if !st.IsDir() {
		if r.nodes[id-1].file, err = os.Open(path); err != nil {
			return 0, err
		}
		return id, nil
	}
	list, err := os.ReadDir(path)
	if err != nil {
		return 0, err
	}
	children := map[string]uint64{}
	for _, e := range list {
		if children[e.Name()], err = r.add(filepath.Join(path, e.Name())); err != nil {
			return 0, err
		}
	}
	r.nodes[id-1].children = children
	return id, nil
}

func (r *raw) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	id := r.nodes[h.NodeId-1].children[name]
	if id == 0 {
		return fuse.ENOENT
	}
	out.NodeId, out.Attr = id, r.nodes[id-1].attr
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
	return fuse.OK
}

func (r *raw) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Attr = r.nodes[in.NodeId-1].attr
	out.SetTimeout(forever)
	return fuse.OK
}

func (r *raw) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	n, err := unix.Pread(int(r.nodes[in.NodeId-1].file.Fd()), buf[:in.Size], int64(in.Offset))
	if err != nil {
		return nil, fuse.ToStatus(err)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// beGoFuse serves and reports whether this process is to do that.
func beGoFuse() bool {
	mode := os.Getenv(goFuseMode)
	if mode == "" {
		return false
	}
	if err := serveGoFuse(mode, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}
