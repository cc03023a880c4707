package devfuse

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vrafs/fusesrv"
)

// ServeOptions choose how a connection is served.
type ServeOptions struct {
	Threads int // that read requests, at least 1
	Workers int // requests that may wait for data at once, at least 1
	// Survive lets requests outlive this process where somebody else holds the
	// connection's descriptor: all threads read from that one. With descriptors of
	// their own, which share no lock in the kernel, the requests read through one
	// fail when it is closed.
	Survive bool
	// Keep reports, after the end of the context, whether another process goes on
	// with the mount: requests that still wait for data are then left unanswered, for
	// the kernel to send again. nil is no.
	Keep func() bool
}

// A session is a Serve that runs.
type session struct {
	s       *fusesrv.Server
	ctx     context.Context // ends the waits of requests
	in      int             // bytes of a request's buffer
	stopped atomic.Bool
	wake    int        // eventfd: stopped was set
	failed  chan error // of a worker
	keep    func() bool
	pool    pool

	mu    sync.Mutex
	room  int // of spare
	spare []*request
}

// Serve answers requests until the file system is unmounted or the connection
// aborted (nil), ctx ends (nil), or a thread can't go on. After the end of ctx
// requests that were read are still answered; those that wait for data fail, or are
// left, see Keep. The mount stays.
func (c *Conn) Serve(ctx context.Context, s *fusesrv.Server, o ServeOptions) error {
	waits, cancel := context.WithCancel(context.Background())
	defer cancel()
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	defer unix.Close(wake)
	e := &session{s: s, ctx: waits, in: int(s.MaxWrite()) + 2*pageSize, wake: wake, failed: make(chan error, 1), keep: o.Keep,
		room: o.Threads + o.Workers}
	e.pool = pool{e: e, room: o.Workers}
	fds, clones := c.descriptors(o)
	defer func() {
		for _, fd := range clones {
			_ = unix.Close(fd)
		}
	}()
	ended := make(chan error, len(fds))
	for _, fd := range fds {
		go func() { ended <- e.thread(fd) }()
	}
	err = e.wait(ctx.Done(), ended, len(fds))
	cancel()
	e.pool.close()
	return err
}

// descriptors gives one for each thread; clones are those to be closed. Where a
// clone can't be had, threads share.
func (c *Conn) descriptors(o ServeOptions) (fds, clones []int) {
	fds = []int{c.fd}
	for len(fds) < o.Threads {
		fd := c.fd
		if !o.Survive {
			if clone, err := c.clone(); err == nil {
				fd, clones = clone, append(clones, clone)
			}
		}
		fds = append(fds, fd)
	}
	return fds, clones
}

// wait returns when all n threads have ended. One that ends is the end of all.
func (e *session) wait(stop <-chan struct{}, ended <-chan error, n int) (err error) {
	for n > 0 {
		select {
		case one := <-ended:
			n--
			err = errors.Join(err, one)
		case one := <-e.failed:
			err = errors.Join(err, one)
		case <-stop:
			stop = nil
		}
		e.stop()
	}
	return err
}

// stop makes every thread end after its request.
func (e *session) stop() {
	if e.stopped.Swap(true) {
		return
	}
	one := binary.NativeEndian.AppendUint64(nil, 1)
	_, _ = unix.Write(e.wake, one) // cannot fail: it is the first
}

// left reports whether requests that wait are another's from now on.
func (e *session) left() bool { return e.ctx.Err() != nil && e.keep != nil && e.keep() }

// fail ends the session.
func (e *session) fail(err error) {
	select {
	case e.failed <- err:
	default:
	}
}

// get takes a request that is not in use.
func (e *session) get() *request {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.spare); n > 0 {
		r := e.spare[n-1]
		e.spare = e.spare[:n-1]
		return r
	}
	return newRequest(e.in)
}

// put gives a request back.
func (e *session) put(r *request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.spare) < e.room {
		e.spare = append(e.spare, r)
	}
}
