package virtiofs

import (
	"runtime/debug"
	"sync"

	"vrafs/fusesrv"
	"vrafs/virtqueue"
)

// A pool is the workers of a device and the requests that wait for one. A worker
// is a goroutine as long as there is something to do.
type pool struct {
	s *fusesrv.Server

	mu      sync.Mutex
	waiting []*slot   // oldest first
	idle    []*worker // kept for their memory
	free    int       // workers that may be started
	room    int64     // bytes that may be worked on
	busy    int       // workers that run
	running sync.WaitGroup
}

// A worker is the memory of a goroutine of the pool.
type worker struct {
	w       *fusesrv.Worker
	pin     *virtqueue.Pin
	space   *virtqueue.Space // of the pin
	in, out [][]byte
	extra   bool // beyond the limit, for requests in a hurry
}

// submit has a request served. It does not wait.
func (p *pool) submit(s *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = append(p.waiting, s)
	p.start()
}

// start starts workers for what may be served. p.mu is held.
func (p *pool) start() {
	for p.free > 0 && len(p.waiting) > 0 && p.fits(p.waiting[0]) {
		p.free--
		p.run(p.next(), false)
	}
}

// fits reports whether a request's bytes are within the limit.
func (p *pool) fits(s *slot) bool { return p.busy == 0 || s.bytes <= p.room }

// next takes the oldest request. p.mu is held.
func (p *pool) next() *slot {
	s := p.waiting[0]
	p.waiting[0] = nil
	p.waiting = p.waiting[1:]
	p.room -= s.bytes
	p.busy++
	return s
}

// run starts a goroutine that begins with s. p.mu is held.
func (p *pool) run(s *slot, extra bool) {
	var w *worker
	if n := len(p.idle); n > 0 {
		w = p.idle[n-1]
		p.idle = p.idle[:n-1]
	} else {
		w = &worker{w: p.s.NewWorker()}
	}
	w.extra = extra
	p.running.Go(func() { p.work(w, s) })
}

// rush serves the waiting requests of a ring that stops, whatever the limits: their
// waits end at once.
func (p *pool) rush(q *queue) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rest := p.waiting[:0:0]
	for _, s := range p.waiting {
		if s.q != q {
			rest = append(rest, s)
			continue
		}
		p.room -= s.bytes
		p.busy++
		p.run(s, true)
	}
	p.waiting = rest
}

// work serves requests until there are none.
func (p *pool) work(w *worker, s *slot) {
	debug.SetPanicOnFault(true)
	for s != nil {
		n := p.serve(w, s)
		bytes := s.bytes
		s.q.complete(s, n)
		s = p.done(w, bytes)
	}
}

// done ends a request and returns the next one; nil if the worker is to end.
func (p *pool) done(w *worker, bytes int64) *slot {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.room += bytes
	p.busy--
	if !w.extra && len(p.waiting) > 0 && p.fits(p.waiting[0]) {
		return p.next()
	}
	if !w.extra {
		p.free++
	}
	w.leave()
	p.idle = append(p.idle, w)
	p.start()
	return nil
}

// serve brings a request to its end and returns the length of its reply. A fault
// breaks the ring, and the reply is lost.
func (p *pool) serve(w *worker, s *slot) (n int) {
	defer func() {
		if r := recover(); r != nil {
			if w.pin != nil {
				w.pin.Leave()
			}
			s.q.v.Fault(r)
			p.s.Drop(&s.req)
			n = 0
		}
	}()
	for {
		p.s.Wait(s.q.ctx, &s.req)
		n, pending := p.finish(w, s)
		if !pending {
			return n
		}
	}
}

// finish maps the request's buffers and answers it.
func (p *pool) finish(w *worker, s *slot) (n int, pending bool) {
	w.enter(s.q)
	m, err := s.q.v.Enter(w.pin)
	if err != nil {
		p.s.Drop(&s.req)
		return 0, false
	}
	defer w.pin.Leave()
	if w.in, err = m.Translate(w.in[:0], s.in); err == nil {
		w.out, err = m.Translate(w.out[:0], s.out)
	}
	if err != nil {
		p.s.Drop(&s.req)
		return 0, false
	}
	return p.s.Finish(w.w, &s.req, w.in, w.out)
}

// enter makes the pin one of the memory that a queue's guest has.
func (w *worker) enter(q *queue) {
	if space := q.v.Space(); w.space != space {
		w.leave()
		w.pin, w.space = space.NewPin(), space
	}
}

// leave forgets about a guest.
func (w *worker) leave() {
	if w.pin != nil {
		w.pin.Close()
		w.pin, w.space = nil, nil
	}
}

// close waits for the goroutines.
func (p *pool) close() {
	p.running.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.idle {
		w.w.Close()
	}
	p.idle = nil
}
