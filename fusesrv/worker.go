package fusesrv

import "sync/atomic"

const (
	// maxName is the longest name in bytes (NAME_MAX).
	maxName = 255
	// maxTarget is the longest symlink target in bytes (PATH_MAX without its NUL).
	maxTarget = 4095
	// maxXattr is the longest xattr value in bytes (XATTR_SIZE_MAX).
	maxXattr = 65536
	// maxArgs is enough for the arguments of every operation but SETXATTR: two
	// names, or a name and a target, or the ranges of a REMOVEMAPPING.
	maxArgs = 4 + 256*16 + 256
)

// A Worker is the scratch memory of one goroutine that calls Handle and Finish.
type Worker struct {
	s     *Server
	r     *Request // being called, and its buffers
	fs    FS
	reply Reply

	args        []byte // arguments, private
	name, name2 []byte // views of args
	in          arguments
	argBuf      []byte
	inParts     [][]byte
	ranges      []RemovemappingOne
	shard       int
	ticks       uint // requests since one was timed
	locals      []any

	// epoch is odd during a call: see Server.Quiesce.
	epoch atomic.Uint64
}

// arguments are the decoded arguments of each operation.
type arguments struct {
	init     InitIn
	getattr  GetattrIn
	setattr  SetattrIn
	mknod    MknodIn
	mkdir    MkdirIn
	rename   RenameIn
	link     LinkIn
	open     OpenIn
	create   CreateIn
	read     ReadIn
	write    WriteIn
	release  ReleaseIn
	fsync    FsyncIn
	setxattr SetxattrIn
	getxattr GetxattrIn
	flush    FlushIn
	lk       LkIn
	access   AccessIn
	ioctl    IoctlIn
	falloc   FallocateIn
	lseek    LseekIn
	copy     CopyFileRangeIn
	setup    SetupmappingIn
	statx    StatxIn
}

// NewWorker returns a worker of s, to be closed.
func (s *Server) NewWorker() *Worker {
	w := &Worker{s: s, argBuf: make([]byte, maxArgs)}
	w.shard = int(s.shards.Add(1) % statShards)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.workers[w] = struct{}{}
	return w
}

// Close takes the worker out of its server. It must not be in a call.
func (w *Worker) Close() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	delete(w.s.workers, w)
}

var locals atomic.Int32

// A Local is scratch memory of one type that an FS keeps with each Worker.
type Local[T any] struct{ id int }

// NewLocal returns a new Local; it is made once per program, for a package
// variable.
func NewLocal[T any]() Local[T] { return Local[T]{int(locals.Add(1)) - 1} }

// Of returns w's T, zero when it is first asked for.
func (l Local[T]) Of(w *Worker) *T {
	if l.id < len(w.locals) {
		if t, ok := w.locals[l.id].(*T); ok {
			return t
		}
	}
	for l.id >= len(w.locals) {
		w.locals = append(w.locals, nil)
	}
	t := new(T)
	w.locals[l.id] = t
	return t
}
