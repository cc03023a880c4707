package passthrough

import (
	"context"
	"sync"
	"syscall"

	"vrafs/fusesrv"
)

// A later is a call that may wait long, and touches no memory of the guest's.
type later struct {
	wait   func(context.Context) syscall.Errno
	finish func(w *fusesrv.Reply) // may be nil
	drop   func()                 // what was held
}

// Wait makes the call.
func (t *later) Wait(ctx context.Context) syscall.Errno { return t.wait(ctx) }

// Finish answers.
func (t *later) Finish(_ *fusesrv.Request, w *fusesrv.Reply) syscall.Errno {
	if t.finish != nil {
		t.finish(w)
	}
	t.drop()
	return 0
}

// Drop gives up what was held.
func (t *later) Drop() { t.drop() }

// pool keeps memory for data that waits. How much is in use at once is bounded by the
// transport.
type pool struct{ p sync.Pool }

var buffers pool

// get returns n bytes.
func (b *pool) get(n int) *[]byte {
	p, _ := b.p.Get().(*[]byte)
	if p == nil || cap(*p) < n {
		fresh := make([]byte, n)
		return &fresh
	}
	*p = (*p)[:n]
	return p
}

func (b *pool) put(p *[]byte) {
	if p != nil {
		b.p.Put(p)
	}
}
