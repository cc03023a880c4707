package passthrough

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/internal/opener"
)

const (
	// defaultTimeout is how long a guest may keep names and attributes (nydusd 5).
	defaultTimeout = 5 * time.Second
	// defaultNodes is how many nodes a guest may know at once.
	defaultNodes = 1 << 20
)

// Flags is what a connection with a shared directory should ask for at INIT.
const Flags = fusesrv.AtomicOTrunc | fusesrv.HandleKillprivV2 | fusesrv.CreateSuppGroup

// Latches are the operations, as bits by opcode, that may have to be answered ENOSYS.
const Latches = 1 << fusesrv.OpLseek

// ErrHost says that the host lacks what a shared directory needs.
var ErrHost = errors.New("the host can't share directories")

// Options are the circumstances of an FS. The zero value is usable.
type Options struct {
	// EntryTimeout and AttrTimeout are how long a guest may keep a name, or
	// attributes; 0: 5 seconds, negative: not at all.
	EntryTimeout, AttrTimeout time.Duration
	// MaxNodes is how many nodes a guest may know at once; 0: 2^20.
	MaxNodes uint32
	// NoHandles keeps a descriptor for each node, instead of file handles.
	NoHandles bool
	// Settings tells what the connection has agreed on; nil: nothing special.
	Settings func() *fusesrv.Settings
	// Beside reports whether others are served by the same queues: writes, which may have
	// to wait for a disk, are then left to workers. nil: no.
	Beside func() bool
	// Numbers and Descriptors are shared by the directories of one connection, or
	// process; nil: own ones.
	Numbers     *Numbers
	Descriptors *Descriptors
	// Descriptor gives Resume a descriptor that another process's state names, which is
	// the FS's then. That process may yet go on itself: what it had is not touched. nil:
	// the state is of a former program of this process.
	Descriptor func(number int) (int, error)
}

// An FS shares one directory.
type FS struct {
	fusesrv.Unsupported

	root    *os.File
	rootFD  int
	proc    int // /proc/self/fd
	rootKey identity

	noHandles bool

	entryValid, attrValid time.Duration
	settings              func() *fusesrv.Settings
	beside                func() bool // may be nil

	nodes   nodes
	mounts  mounts
	cache   cache
	files   openFiles
	fds     *Descriptors
	numbers *Numbers
	creator creator
	// looked is called between the looks at a name and its handle, by tests.
	looked func()
	// listRoom is how many bytes more may be kept of directories.
	listRoom atomic.Int64
}

// New shares the directory at path, which may be a link to one. The FS must be closed.
func New(o opener.Opener, path string, opt Options) (*FS, error) {
	f, err := prepare(o, opt)
	if err != nil {
		return nil, err
	}
	if err = f.nodes.init(cmp.Or(opt.MaxNodes, defaultNodes)); err == nil {
		err = f.open(o, path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// prepare makes an FS without a directory.
func prepare(o opener.Opener, opt Options) (*FS, error) {
	f := &FS{
		entryValid: timeout(opt.EntryTimeout), attrValid: timeout(opt.AttrTimeout), settings: opt.Settings, beside: opt.Beside,
		mounts: mounts{m: map[uint32]*mount{}}, fds: opt.Descriptors, numbers: opt.Numbers, noHandles: opt.NoHandles,
		nodes: nodes{memory: memory{fd: -1}}, proc: -1, rootFD: -1,
	}
	if f.settings == nil {
		f.settings = func() *fusesrv.Settings { return &fusesrv.Settings{} }
	}
	if f.numbers == nil {
		f.numbers = &Numbers{}
	}
	if f.fds == nil {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return nil, fmt.Errorf("limit of open files: %w", err)
		}
		f.fds = NewDescriptors(limit.Cur)
	}
	f.files.fds = f.fds
	f.cache.init(int(min(f.fds.limit/cacheShare, mostCached)))
	f.listRoom.Store(listRoom)
	status, err := o.Open("/proc/self/status", os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer status.Close()
	if err := f.creator.init(status); err != nil {
		return nil, err
	}
	proc, err := o.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	if f.proc, err = unix.FcntlInt(proc.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("/proc/self/fd: %w", err)
	}
	return f, nil
}

func timeout(d time.Duration) time.Duration {
	if d == 0 {
		return defaultTimeout
	}
	return max(d, 0)
}

// open opens the directory and makes it the root.
func (f *FS) open(o opener.Opener, path string) (err error) {
	if f.root, err = o.Open(path, os.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
		return err
	}
	f.rootFD = int(f.root.Fd())
	var s scratch
	if e := fstatx(f.rootFD, &s.st); e != 0 {
		return fmt.Errorf("stat %s: %w", path, e)
	}
	if s.st.Mask&unix.STATX_MNT_ID == 0 {
		return fmt.Errorf("%w: its kernel does not tell mounts apart (Linux 5.8 does)", ErrHost)
	}
	c := candidate{fd: f.rootFD, handle: &s.handle}
	c.describe(&s.st)
	f.rootKey = c.identity
	f.mountOf(&c)
	f.nodes.root(&c, f.rootFD)
	return nil
}

// Root returns the node id of the directory.
func (f *FS) Root() uint64 { return rootID }

// RootEntry stores what a lookup of the directory finds.
func (f *FS) RootEntry(out *fusesrv.EntryOut) syscall.Errno {
	var st unix.Statx_t
	if e := fstatx(f.rootFD, &st); e != 0 {
		return e
	}
	f.entry(rootID, &st, out)
	return 0
}

// Nodes is how many nodes the guest knows beside the root.
func (f *FS) Nodes() int { return int(f.nodes.count.Load()) - 1 }

// Destroy forgets what the guest knew.
func (f *FS) Destroy() {
	f.files.releaseAll()
	f.nodes.forgetAll(f.bury)
}

// Close closes every descriptor. No request may be running, nor come.
func (f *FS) Close() {
	f.Destroy()
	f.creator.close()
	if f.root != nil {
		f.fds.close(f.mounts.leave(f.rootKey.mount))
		_ = f.root.Close()
	}
	if f.proc >= 0 {
		_ = unix.Close(f.proc)
	}
	f.nodes.memory.close()
}
