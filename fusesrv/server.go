package fusesrv

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// maxErrno is the first number that a guest takes for nonsense.
const maxErrno = 512

// ErrAborted is the cause that ends a pending request's context in Abort.
var ErrAborted = errors.New("request aborted")

// Options are the knobs of a Server. The zero value is usable.
type Options struct {
	// Want is what the transport can do beyond DefaultFlags, Without what it
	// can't.
	Want, Without InitFlags
	// MaxWrite and MaxReadahead are in bytes, 0: 1 MiB.
	MaxWrite, MaxReadahead uint32
	// Deadline ends the wait of a pending request; 0: none.
	Deadline time.Duration
	// Changed is called after INIT was agreed on and after a session's end, before
	// the guest hears of it: a place to save Settings. It must not wait for more
	// than a local file. May be nil.
	Changed func(*Settings)
	// Track lists requests that are not pending, too, in Inflight, and times each.
	// It is for transports where that costs nothing beside the transport.
	Track bool
}

// A Server decodes requests, calls an FS and encodes the replies.
type Server struct {
	fs    FS
	o     Options
	view  *View // of an FS that sets none
	stats Stats

	settings atomic.Pointer[Settings] // nil before INIT
	shards   atomic.Uint32

	mu      sync.Mutex // guards workers
	workers map[*Worker]struct{}

	inflight inflight
}

// NewServer returns a server of fs. It starts nothing.
func NewServer(fs FS, o Options) *Server {
	s := &Server{fs: fs, o: o, workers: map[*Worker]struct{}{}}
	s.view = &View{Stats: &s.stats}
	if s.o.MaxWrite == 0 {
		s.o.MaxWrite = 1 << 20
	}
	if s.o.MaxReadahead == 0 {
		s.o.MaxReadahead = 1 << 20
	}
	return s
}

// Stats counts the requests of every view without Stats of its own.
func (s *Server) Stats() *Stats { return &s.stats }

// MaxWrite is the most bytes of data in one request: what INIT has agreed on, or
// will.
func (s *Server) MaxWrite() uint32 { return max(s.o.MaxWrite, s.Settings().MaxWrite) }

// Handle serves one request: in holds it, out takes the reply, both in any
// pieces. It returns the length of the reply, 0 if there is none; or pending, and
// then r, with neither in nor out, has to go through Wait and Finish. r must not
// be in use. Handle waits for nothing but local memory and files.
func (s *Server) Handle(w *Worker, r *Request, in, out [][]byte) (n int, pending bool) {
	w.epoch.Add(1)
	defer w.epoch.Add(1)
	whole := newStream(in)
	if whole.total < InHeaderSize {
		s.stats.malformed.Add(1)
		return 0, false
	}
	s.begin(w, r, whole, newStream(out))
	defer func() { // also after a fault
		if s.o.Track && !pending {
			s.inflight.remove(r)
		}
	}()
	e := s.dispatch(w, r, whole)
	if e == Pending && r.task != nil {
		s.inflight.add(r, s.o.Track)
		return 0, true
	}
	return s.end(w, r, e), false
}

// begin reads the header and makes w work on r.
func (s *Server) begin(w *Worker, r *Request, in, out stream) {
	var h [InHeaderSize]byte
	in.get(0, h[:])
	r.Header.decode(&h)
	r.Node, r.op, r.view, r.task, r.errno = r.Header.NodeID, opOf(r.Header.Opcode), s.view, nil, 0
	r.worker, w.r, w.fs = w, r, s.fs
	w.reply.bind(r.op, stream{}, out)
	if w.ticks++; s.o.Track || w.ticks%timeEvery == 0 {
		r.start = time.Now()
	} else {
		r.start = time.Time{}
	}
	if s.o.Track {
		s.inflight.add(r, false)
	}
}

// dispatch checks the request and calls the FS.
func (s *Server) dispatch(w *Worker, r *Request, in stream) syscall.Errno {
	size := int64(r.Header.Len)
	if size < InHeaderSize || size > int64(in.total) {
		return syscall.EINVAL
	}
	in.total = int(size)
	if s.settings.Load() == nil && !r.op.outside {
		return syscall.EIO
	}
	if e := w.load(r, in); e != 0 {
		return e
	}
	if r.op.out != noReply && r.op.out > w.reply.out.total-OutHeaderSize {
		return syscall.EINVAL // before the FS gives away what could not be delivered
	}
	return r.op.call(w)
}

// end counts the request and writes its reply.
func (s *Server) end(w *Worker, r *Request, e syscall.Errno) int {
	if e >= maxErrno {
		e = syscall.EIO
	}
	n := w.reply.finish(r, e)
	st := r.view.Stats
	if st == nil {
		st = &s.stats
	}
	st.count(w, r, e)
	w.r, r.worker, r.Ext = nil, nil, nil
	return n
}

// Wait blocks until the pending request r can be finished. It touches no buffer.
// The request's wait ends early when ctx ends, at the deadline, and by Abort.
func (s *Server) Wait(ctx context.Context, r *Request) {
	if r.aside {
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if s.o.Deadline > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, s.o.Deadline)
		defer stop()
	}
	s.inflight.waiting(r, cancel)
	r.errno = r.task.Wait(ctx)
	s.inflight.waiting(r, nil)
}

// Finish answers r after Wait, in the same buffers that Handle had, mapped anew.
// It returns the length of the reply; or pending, if what Wait brought has gone
// again meanwhile, and then r has to go through Wait and Finish once more. An FS
// lets that happen a few times only.
func (s *Server) Finish(w *Worker, r *Request, in, out [][]byte) (n int, pending bool) {
	w.epoch.Add(1)
	defer w.epoch.Add(1)
	r.worker, w.r = w, r
	w.reply.bind(r.op, stream{}, newStream(out))
	if r.op.data {
		whole := newStream(in)
		w.inParts = whole.slice(w.inParts[:0], InHeaderSize+r.op.in, int(r.Header.Len)-InHeaderSize-r.op.in)
		w.reply.input = newStream(w.inParts)
	}
	e := s.finishTask(w, r)
	if e == Pending {
		return 0, true
	}
	n = s.end(w, r, e)
	s.leave(r)
	return n, false
}

// finishTask has r's task fill the reply.
func (s *Server) finishTask(w *Worker, r *Request) syscall.Errno {
	switch {
	case r.errno != 0:
		r.task.Drop()
		return r.errno
	case r.op.dir:
		w.reply.bindDir(r)
		return w.reply.dirDone(r.task.Finish(r, &w.reply))
	}
	return r.task.Finish(r, &w.reply)
}

// Drop ends a pending request after Wait, or instead of it, without a reply: its
// buffers are gone.
func (s *Server) Drop(r *Request) {
	defer s.leave(r)
	r.task.Drop()
	s.stats.dropped.Add(1)
}

// Fail makes Finish answer a pending request with e; it is called instead of Wait.
func (r *Request) Fail(e syscall.Errno) { r.errno = e }

// leave takes a pending request off the books.
func (s *Server) leave(r *Request) {
	s.inflight.remove(r)
	r.task = nil
	if ended := r.view.Ended; ended != nil {
		ended()
	}
}

// Quiesce returns once every call of Handle and Finish that runs now has
// returned, or when ctx ends, with its cause. What was unpublished before, no
// call looks at any more; pending requests may.
func (s *Server) Quiesce(ctx context.Context) error {
	const spins, pause = 100, 100 * time.Microsecond
	for _, w := range s.running() {
		was := w.epoch.Load()
		for n := 0; was&1 == 1 && w.epoch.Load() == was; n++ {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if n < spins { // most requests end in a few microseconds
				runtime.Gosched()
			} else {
				time.Sleep(pause)
			}
		}
	}
	return nil
}

func (s *Server) running() []*Worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Worker, 0, len(s.workers))
	for w := range s.workers {
		all = append(all, w)
	}
	return all
}
