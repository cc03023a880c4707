package mountfs

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"vrafs/fusesrv"
)

const (
	localBits  = 40
	localMask  = 1<<localBits - 1
	maxNumber  = 1<<22 - 1
	rootNumber = 0 // of the first file system at "/"
	dirNumber  = 1 // of pseudo directories
	firstFree  = 2
)

var (
	// ErrMounted says that a mountpoint is taken, ErrNotMounted that it is not.
	ErrMounted    = errors.New("already mounted")
	ErrNotMounted = errors.New("not mounted")
	// ErrPath is the class of mountpoints that are no absolute paths.
	ErrPath = errors.New("bad mountpoint")
	// ErrUnfit says that a file system needs what this connection has ruled out.
	ErrUnfit = errors.New("file system does not fit the connection")
)

// A Mountable is a file system below a mountpoint. Its node ids have 40 bits, are
// not 0, and its root's is fixed. Node ids of requests may be any number.
type Mountable interface {
	fusesrv.FS
	// Root returns the node id of the root.
	Root() uint64
	// RootEntry stores what a lookup of the root finds. It must not wait.
	RootEntry(out *fusesrv.EntryOut) syscall.Errno
}

// Options are the circumstances of a connection.
type Options struct {
	// ImagesOnly promises that nothing but images will ever be mounted: ENOSYS is
	// passed on. Never on a connection that starts empty.
	ImagesOnly bool
	// NoOpen, with ImagesOnly, makes the guest open files and directories without a
	// message.
	NoOpen bool
	// Flags are asked for at INIT when there is more than images.
	Flags fusesrv.InitFlags
	// Stale is told, after something was mounted or unmounted, what a guest may know
	// that is no longer so: a name in the directory of a node, or with "" every name
	// there. It may be nil: there are transports that can't tell a guest anything.
	Stale func(parent uint64, name string)
}

// MountOptions are the circumstances of one file system.
type MountOptions struct {
	// Identity names the content. A saved state is taken over only by the same.
	Identity string
	// OwnInos says that inode numbers are unique on the connection as the file
	// system gives them. Otherwise they are made so.
	OwnInos bool
	// Handles says that the file system can't do without OPEN and RELEASE, and
	// needs everything that ENOSYS would switch off.
	Handles bool
	// Latches are operations, as bits by opcode, that the file system answers ENOSYS
	// where no file system of the connection could answer better: that is passed on.
	Latches uint64
	// Xattrs says that the file system has extended attributes.
	Xattrs bool
	// Extra is kept in the saved state, for whoever mounts it again.
	Extra []byte
	// Observe is called for each request, see fusesrv.Stats. May be nil.
	Observe func(op fusesrv.Opcode, node uint64, e syscall.Errno, bytes int)
	// Closed is called once, when no request looks at the file system any more
	// after it was unmounted. May be nil.
	Closed func()
}

// A Mount describes a mounted file system.
type Mount struct {
	Path     string
	Number   uint32
	Identity string
	Extra    []byte
	Stats    *fusesrv.Stats
}

// An FS is a connection's tree of file systems.
type FS struct {
	o       Options
	table   atomic.Pointer[table]
	dirs    *mount        // mount 1
	latched atomic.Uint64 // opcodes that were answered ENOSYS

	mu      sync.Mutex // guards what follows and changes of table
	next    uint32     // mount number
	nextDir uint64
	quiesce func(context.Context) error
	retired sync.WaitGroup
}

// New returns a tree with nothing mounted.
func New(o Options) *FS {
	o.NoOpen = o.NoOpen && o.ImagesOnly
	f := &FS{o: o, next: firstFree, nextDir: fusesrv.RootID + 1}
	f.dirs = newMount(f, dirNumber, "", &pseudo{f: f}, MountOptions{})
	f.table.Store(&table{})
	f.publish(nil)
	return f
}

// Serve tells how to wait until no request runs that began before, usually
// Server.Quiesce. It must be called before the first Unmount.
func (f *FS) Serve(quiesce func(context.Context) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.quiesce = quiesce
}

// Wait returns once every file system that is unmounted and no longer used was
// told so.
func (f *FS) Wait() { f.retired.Wait() }

// Mount mounts fs at an absolute path. It shows at once, also to a guest that
// runs.
func (f *FS) Mount(at string, fs Mountable, o MountOptions) (Mount, error) {
	at, err := clean(at)
	if err != nil {
		return Mount{}, err
	}
	if err := f.fits(o); err != nil {
		return Mount{}, fmt.Errorf("mount %s: %w", at, err)
	}
	m, err := f.add(at, fs, o)
	if err != nil {
		return Mount{}, fmt.Errorf("mount %s: %w", at, err)
	}
	f.stale(at)
	return m.describe(), nil
}

// add puts a mount into the table.
func (f *FS) add(at string, fs Mountable, o MountOptions) (*mount, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.table.Load()
	if t.at(at) != nil {
		return nil, ErrMounted
	}
	number, err := f.number(at, t)
	if err != nil {
		return nil, err
	}
	m := newMount(f, number, at, fs, o)
	f.publish(append(slices.Clone(t.mounts), m))
	return m, nil
}

// number gives out a mount number. Number 0 is free as long as nothing has had it.
func (f *FS) number(at string, t *table) (uint32, error) {
	if at == "/" && !t.rooted {
		return rootNumber, nil
	}
	if f.next > maxNumber {
		return 0, fmt.Errorf("%w: all of its %d mounts are used up", ErrUnfit, maxNumber)
	}
	f.next++
	return f.next - 1, nil
}

// fits says whether the connection can carry a file system.
func (f *FS) fits(o MountOptions) error {
	const xattrs = 1<<fusesrv.OpGetxattr | 1<<fusesrv.OpListxattr
	switch latched := f.latched.Load(); {
	case o.Handles && f.o.ImagesOnly:
		return fmt.Errorf("%w: it was started for images only; start without a bootstrap", ErrUnfit)
	case o.Xattrs && latched&xattrs != 0:
		return fmt.Errorf("%w: the guest was told that there are no extended attributes; start without a bootstrap", ErrUnfit)
	}
	return nil
}

// Unmount takes the file system at a path away.
func (f *FS) Unmount(at string) error {
	at, err := clean(at)
	if err != nil {
		return err
	}
	f.mu.Lock()
	t := f.table.Load()
	m := t.at(at)
	if m == nil {
		f.mu.Unlock()
		return fmt.Errorf("unmount %s: %w", at, ErrNotMounted)
	}
	m.gone.Store(true)
	f.publish(t.mounts)
	f.mu.Unlock()
	f.stale(at)
	m.drop(1) // what newMount took
	return nil
}

// Mounts lists what is mounted, in the order it was.
func (f *FS) Mounts() []Mount {
	var list []Mount
	for _, m := range f.table.Load().mounts {
		if !m.gone.Load() {
			list = append(list, m.describe())
		}
	}
	return list
}

// clean returns a mountpoint in its one form.
func clean(at string) (string, error) {
	if !strings.HasPrefix(at, "/") || strings.ContainsRune(at, 0) || len(at) > 4095 {
		return "", fmt.Errorf("%w: %q is not an absolute path", ErrPath, at)
	}
	for name := range strings.SplitSeq(at, "/") {
		if name == ".." || len(name) > 255 {
			return "", fmt.Errorf("%w: %q has an element that no directory can hold", ErrPath, at)
		}
	}
	return path.Clean(at), nil
}
