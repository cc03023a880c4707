package devfuse

import (
	"runtime/debug"
	"sync"
)

// A pool serves the requests that wait for data. A worker is a goroutine as long
// as there is something to do.
type pool struct {
	e *session

	mu      sync.Mutex
	room    int        // workers that may be started
	waiting []*request // oldest first
	idle    []*desk    // kept for their memory
	running sync.WaitGroup
}

// submit has a pending request served. It does not wait.
func (p *pool) submit(r *request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.room == 0 {
		p.waiting = append(p.waiting, r)
		return
	}
	p.room--
	d := p.desk()
	p.running.Go(func() { p.work(d, r) })
}

// desk takes one that is idle, or makes one. p.mu is held.
func (p *pool) desk() *desk {
	if n := len(p.idle); n > 0 {
		d := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return d
	}
	return newDesk(p.e.s)
}

// work serves requests until there are none.
func (p *pool) work(d *desk, r *request) {
	debug.SetPanicOnFault(true)
	for r != nil {
		p.serve(d, r)
		p.e.put(r)
		r = p.next(d)
	}
}

// serve brings a request to its end.
func (p *pool) serve(d *desk, r *request) {
	for {
		p.e.s.Wait(p.e.ctx, &r.req)
		if p.e.left() {
			p.e.s.Drop(&r.req)
			return
		}
		n, pending, err := d.guarded(r, d.finish)
		if err != nil {
			p.e.fail(err)
			n, pending = r.fail(), false
		}
		if !pending {
			r.reply(n)
			return
		}
	}
}

// next gives the request to serve after one; nil if the worker is to end.
func (p *pool) next(d *desk) *request {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		p.room++
		if p.e.ctx.Err() != nil {
			d.close()
		} else {
			p.idle = append(p.idle, d)
		}
		return nil
	}
	r := p.waiting[0]
	p.waiting[0] = nil
	p.waiting = p.waiting[1:]
	return r
}

// close frees what is idle; no worker runs.
func (p *pool) close() {
	p.running.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.idle {
		d.close()
	}
	p.idle = nil
}
