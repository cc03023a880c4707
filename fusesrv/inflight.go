package fusesrv

import (
	"context"
	"sync"
	"time"
)

// An Inflight describes a request that has no reply yet.
type Inflight struct {
	Opcode Opcode
	NodeID uint64
	Unique uint64
	Start  time.Time
}

// inflight is the list of requests that are pending, or all if tracked.
type inflight struct {
	mu    sync.Mutex
	first *Request
	n     int
}

// add lists r unless that was done before. It guards the fields that others read.
func (l *inflight) add(r *Request, listed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if listed {
		return
	}
	if r.start.IsZero() {
		r.start = time.Now()
	}
	r.aborted, r.cancel = nil, nil
	r.prev, r.next = nil, l.first
	if l.first != nil {
		l.first.prev = r
	}
	l.first = r
	l.n++
}

func (l *inflight) remove(r *Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.prev != nil {
		r.prev.next = r.next
	} else if l.first == r {
		l.first = r.next
	} else {
		return
	}
	if r.next != nil {
		r.next.prev = r.prev
	}
	r.prev, r.next = nil, nil
	l.n--
}

// waiting says how r's wait is ended, nil after the wait. One aborted before is
// ended at once.
func (l *inflight) waiting(r *Request, cancel context.CancelCauseFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.cancel = cancel
	if cancel != nil && r.aborted != nil {
		cancel(r.aborted)
	}
}

// Inflight appends the requests that are being served: the pending ones, and with
// Options.Track all.
func (s *Server) Inflight(dst []Inflight) []Inflight {
	s.inflight.mu.Lock()
	defer s.inflight.mu.Unlock()
	for r := s.inflight.first; r != nil; r = r.next {
		dst = append(dst, r.describe())
	}
	return dst
}

func (r *Request) describe() Inflight {
	return Inflight{r.Header.Opcode, r.Header.NodeID, r.Header.Unique, r.start}
}

// Abort ends the waits of the pending requests that match says yes to, and
// returns how many. They are answered with errors.
func (s *Server) Abort(match func(Inflight) bool) int {
	s.inflight.mu.Lock()
	defer s.inflight.mu.Unlock()
	n := 0
	for r := s.inflight.first; r != nil; r = r.next {
		if r.aborted != nil || !match(r.describe()) {
			continue
		}
		n++
		r.aborted = ErrAborted
		if r.cancel != nil {
			r.cancel(ErrAborted)
		}
	}
	return n
}
