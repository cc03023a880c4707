package hosts

import (
	"fmt"
	"sync"
	"time"

	"vrafs/backend"
)

// A Host is one server, by name and port.
type Host struct {
	t    *Table
	name string
	used time.Time // guarded by Table.mu

	// Lock order: Table.mu, mu.
	mu       sync.Mutex
	count    Stats
	failures int       // in a row
	since    time.Time // the first of them
	cause    error     // the last of them
	pause    time.Duration
	until    time.Time // it is left alone; zero: it is not
	trying   bool      // the request that decides is under way
}

// An Outcome is how a request ended.
type Outcome uint8

// Outcomes.
const (
	Alive   Outcome = iota // the host answered, whatever it said
	Failed                 // nobody answered, or it is in trouble
	Unknown                // the reader gave up, or half of an answer came
)

// away is the cause of a request that was not sent.
type away struct {
	failures int
	cause    error
	wait     time.Duration
}

func (a *away) Error() string {
	return fmt.Sprintf("left alone after %d failures in a row, asked again in %v; the last was: %v",
		a.failures, a.wait.Round(time.Millisecond), a.cause)
}

func (a *away) Unwrap() error { return a.cause }

// A Visit is one request to a host. The zero Visit is to nobody.
type Visit struct {
	h     *Host
	trial bool // it decides whether the host is asked again
}

// Enter begins a request, or says in a *backend.Error why none may be sent now.
func (h *Host) Enter() (Visit, error) {
	if h == nil {
		return Visit{}, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	away := !h.until.IsZero()
	if away {
		wait := h.until.Sub(h.t.now())
		if h.trying {
			wait = max(wait, h.t.opt.Min)
		}
		if wait > 0 {
			h.count.Refused++
			return Visit{}, h.refusal(wait)
		}
		h.trying = true
	}
	h.count.Requests++
	return Visit{h, away}, nil
}

// refusal is the error of a request that is not sent. Preconditions: mu is held.
func (h *Host) refusal(wait time.Duration) error {
	return &backend.Error{Host: h.name, After: wait, Cause: &away{h.failures, h.cause, wait}, Remedy: "check the host and the network"}
}

// Began says that an answer has begun. It may be a long one: if the visit decides whether
// the host is asked again, another may decide before it.
func (v Visit) Began() {
	if !v.trial {
		return
	}
	v.h.mu.Lock()
	defer v.h.mu.Unlock()
	v.h.trying = false
}

// Leave ends a request, with the bytes that it brought and, of a failure, its cause. It
// must be called once.
func (v Visit) Leave(o Outcome, bytes int, cause error) {
	h := v.h
	if h == nil {
		return
	}
	h.mu.Lock()
	h.count.Bytes += uint64(bytes)
	if v.trial {
		h.trying = false
	}
	var c *Change
	switch o {
	case Failed:
		c = h.failed(cause, v.trial)
	case Alive:
		c = h.alive()
	}
	h.mu.Unlock()
	if c != nil && h.t.opt.Report != nil {
		h.t.opt.Report(*c)
	}
}

// failed counts a failure. Preconditions: mu is held.
func (h *Host) failed(cause error, trial bool) *Change {
	now, was := h.t.now(), !h.until.IsZero()
	h.count.Failed++
	if h.failures == 0 {
		h.since = now
	}
	h.failures++
	h.cause = cause
	if h.failures < h.t.opt.Failures || was && !trial { // it was sent before the host was left alone
		return nil
	}
	h.pause = min(max(2*h.pause, h.t.opt.Min), h.t.opt.Max)
	h.until = now.Add(h.pause)
	if was {
		return nil
	}
	return h.change(true, now)
}

// alive ends a row of failures. Preconditions: mu is held.
func (h *Host) alive() *Change {
	var c *Change
	if !h.until.IsZero() {
		c = h.change(false, h.t.now())
	}
	h.failures, h.cause, h.pause, h.until = 0, nil, 0, time.Time{}
	return c
}

// change is what is reported. Preconditions: mu is held.
func (h *Host) change(away bool, now time.Time) *Change {
	return &Change{Host: h.name, Away: away, Cause: h.cause, Failures: h.failures, Lasted: now.Sub(h.since)}
}

func (h *Host) stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.count
	s.Host, s.Away = h.name, !h.until.IsZero()
	return s
}
