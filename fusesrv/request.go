package fusesrv

import (
	"context"
	"syscall"
	"time"
)

// A Request is one request from Handle to its reply. Transports allocate them
// once, for each request that can be in flight, and reuse them; FS methods see
// them during a call. Its zero value is ready.
type Request struct {
	Header InHeader // as the guest sent it
	Node   uint64   // the node asked about, in the terms of the FS called
	Ext    []byte   // extensions at the end of the request, during the call only

	worker  *Worker // during a call
	view    *View
	op      *op
	dirSize uint32        // bytes of entries wanted
	task    Task          // while pending
	aside   bool          // task has nothing to wait for
	errno   syscall.Errno // what Wait ended in
	start   time.Time     // zero unless timed

	// Guarded by Server.inflight.
	cancel     context.CancelCauseFunc
	aborted    error
	prev, next *Request
}

// A Task is what an FS leaves behind with a pending request. Its methods are
// called one after the other, from any goroutine: Wait, then Finish or Drop. Drop
// may also come instead of Wait, and after a Finish that a fault ended.
type Task interface {
	// Wait blocks until Finish can answer without waiting. It has no buffers. ctx
	// ends when the request is aborted or too old; Wait then returns soon, with
	// EIO or EINTR. After an errno Drop is called, and the errno is the answer.
	Wait(ctx context.Context) syscall.Errno
	// Finish answers as the FS method would have done, but w is what an earlier
	// request left: a result is stored whole. After Pending, Wait and Finish are
	// called once more.
	Finish(r *Request, w *Reply) syscall.Errno
	// Drop is called instead of Finish when there is nobody to answer: what a
	// reply would have given to the guest is taken back.
	Drop()
}

// Pend makes t answer the request. It returns Pending, for the FS method to
// return.
func (r *Request) Pend(t Task) syscall.Errno {
	r.task, r.aside = t, false
	return Pending
}

// PendAside is Pend for a task that has nothing to wait for and only is not to run in the
// goroutine that has called the FS: its Wait is not called.
func (r *Request) PendAside(t Task) syscall.Errno {
	r.task, r.aside = t, true
	return Pending
}

// Worker is the scratch memory of the goroutine that makes the call.
func (r *Request) Worker() *Worker { return r.worker }

// SetView routes the rest of the request: what the FS called answers is shown as
// v says, and r.Node is what it is asked about.
func (r *Request) SetView(v *View, node uint64) {
	r.view, r.Node = v, node
}

// A View is how one of several file systems on a connection looks from outside.
// It must not change.
type View struct {
	// Base is ORed into node ids of replies, InoBase into inode numbers.
	Base, InoBase uint64
	// Root is the node that is shown as RootID, 0 if none is.
	Root uint64
	// Stats counts the requests; nil: the server's.
	Stats *Stats
	// Ended is called when a pending request has been answered or dropped. May be
	// nil.
	Ended func()
}

// RootID is the node id of a connection's root (FUSE_ROOT_ID).
const RootID = 1

// node returns the node id to show for a node of the file system.
func (v *View) node(n uint64) uint64 {
	switch n {
	case 0:
		return 0
	case v.Root:
		return RootID
	}
	return n | v.Base
}
