package devfuse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
	"vrafs/internal/turn"
)

const (
	pageSize = 4096

	// outBytes is the longest reply: a READ of max_read bytes with its header.
	outBytes = maxRead + pageSize
)

// ErrInternal is the class of faults of our own. They end Serve.
var ErrInternal = errors.New("internal error")

// A request is one from its read to its reply. It has both buffers: what a part of
// a reply was stored in before the request had to wait is where the rest goes.
type request struct {
	req  fusesrv.Request
	buf  []byte
	size int // bytes read into buf
	fd   int // the descriptor that it came through, which the reply goes to
	view [1][]byte
	out  [1][]byte
}

func newRequest(inBytes int) *request {
	return &request{buf: make([]byte, inBytes), out: [1][]byte{make([]byte, outBytes)}}
}

// in gives the request as Handle wants it.
func (r *request) in() [][]byte {
	r.view[0] = r.buf[:r.size]
	return r.view[:]
}

// unique is the request's id, as the kernel wants it back.
func (r *request) unique() uint64 {
	const at = 8 // in fuse_in_header
	if r.size < fusesrv.InHeaderSize {
		return 0
	}
	return binary.LittleEndian.Uint64(r.buf[at:])
}

// A desk is what one goroutine answers requests with.
type desk struct {
	s *fusesrv.Server
	w *fusesrv.Worker
}

func newDesk(s *fusesrv.Server) *desk { return &desk{s: s, w: s.NewWorker()} }

func (d *desk) close() { d.w.Close() }

// thread reads and answers requests on a descriptor until the session stops.
func (e *session) thread(fd int) error {
	debug.SetPanicOnFault(true)
	d := newDesk(e.s)
	defer func() { d.close() }()
	p, err := newPoller(fd, e.wake)
	if err != nil {
		return err
	}
	defer p.close()
	r := e.get()
	var t turn.Turn
	for ; !e.stopped.Load(); t.Step() {
		n, err := unix.Read(fd, r.buf)
		switch err {
		case nil:
		case unix.EAGAIN:
			if err := p.wait(); err != nil {
				return err
			}
			continue
		case unix.EINTR, unix.ENOENT: // ENOENT: the request was withdrawn
			continue
		case unix.ENODEV: // unmounted, or aborted
			return nil
		default:
			return fmt.Errorf("read %s: %w", device, err)
		}
		r.size, r.fd = n, fd
		n, pending, err := d.guarded(r, d.handle)
		if err != nil {
			return err
		}
		if pending {
			e.pool.submit(r)
			r = e.get()
			continue
		}
		r.reply(n)
	}
	return nil
}

func (d *desk) handle(r *request) (n int, pending bool) {
	return d.s.Handle(d.w, &r.req, r.in(), r.out[:])
}

func (d *desk) finish(r *request) (n int, pending bool) {
	return d.s.Finish(d.w, &r.req, r.in(), r.out[:])
}

// guarded runs f. The fault of a mapped image that was cut short fails the request
// only; the worker that it hit is not used again.
func (d *desk) guarded(r *request, f func(*request) (int, bool)) (n int, pending bool, err error) {
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }:
			d.w.Close()
			d.w = d.s.NewWorker()
			n, pending = r.fail(), false
		default:
			err = fmt.Errorf("%w: %v\n%s", ErrInternal, fault, debug.Stack())
		}
	}()
	n, pending = f(r)
	return n, pending, nil
}

// fail makes the reply EIO.
func (r *request) fail() int {
	h := r.out[0][:fusesrv.OutHeaderSize]
	binary.LittleEndian.PutUint32(h[0:], fusesrv.OutHeaderSize)
	errno := -int32(unix.EIO)
	binary.LittleEndian.PutUint32(h[4:], uint32(errno))
	binary.LittleEndian.PutUint64(h[8:], r.unique())
	return len(h)
}

// reply writes the first n bytes of the answer; none is no answer.
func (r *request) reply(n int) {
	for n > 0 {
		_, err := unix.Write(r.fd, r.out[0][:n])
		switch {
		case err == unix.EINTR:
		case err == nil, err == unix.ENOENT, err == unix.ENODEV, n == fusesrv.OutHeaderSize:
			return // ENOENT: nobody waits for it any more
		default: // the kernel does not accept it, but somebody waits
			n = r.fail()
		}
	}
}
