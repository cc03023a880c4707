// Package hosts is what is known of each server: whether it is asked at this moment,
// and what asking it has brought.
//
//	           failures in a row                 its time is over
//	asked ------------------------> left alone ------------------> one request
//	  ^                                  ^                          |       |
//	  |                                  +------- failure: longer --+       |
//	  +------------------------------- anything else -----------------------+
//
// A host that is left alone fails every request at once, with an error that names the
// host, the cause and when it is asked again. So many waits for a dead host become one,
// and who has another place to ask goes there without delay. The times are short: a read
// that is tried again outlives them, and a host that came back is used after the longest
// of them, by itself.
//
// What counts as a failure is that nobody answered, or with a status from 500 on;
// anything else shows that the host is alive. A request that its reader gave up says
// nothing.
//
// Trust: none in hosts. Their names come from redirects too, so the table is bounded:
// the host that was asked least recently gives its place to a new one. Concurrency:
// everything may be called from any goroutine; a nil *Table and a nil *Host know nothing
// and refuse nothing. Source: none, the rules are ours.
package hosts

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Options are when a host is left alone. A zero value of a field stands for its default.
type Options struct {
	// Failures in a row are enough; default 5.
	Failures int
	// Min is how long a host is left alone first, doubled each time up to Max; default
	// 250 ms and 2 s.
	Min, Max time.Duration
	// Hosts bounds the table; default 256.
	Hosts int
	// Report, if set, is told when a host is left alone, and when it is back. It must not
	// block.
	Report func(Change)
}

// A Change is the beginning or the end of a time in which a host is left alone.
type Change struct {
	Host     string
	Away     bool
	Cause    error         // of the last failure
	Failures int           // in a row
	Lasted   time.Duration // since the first of them
}

// A Table holds the hosts that a process asks. Make it with New.
type Table struct {
	opt Options
	now func() time.Time

	mu    sync.Mutex
	m     map[string]*Host
	other Stats // of hosts that gave their place away
}

// New makes a table.
func New(o Options) *Table {
	if o.Failures == 0 {
		o.Failures = 5
	}
	if o.Min == 0 {
		o.Min = 250 * time.Millisecond
	}
	if o.Max == 0 {
		o.Max = 2 * time.Second
	}
	if o.Hosts == 0 {
		o.Hosts = 256
	}
	return &Table{opt: o, now: time.Now, m: map[string]*Host{}}
}

// Host gives the entry of name[:port].
func (t *Table) Host(name string) *Host {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.m[name]
	if h == nil {
		if len(t.m) >= t.opt.Hosts {
			t.evict()
		}
		h = &Host{t: t, name: name}
		t.m[name] = h
	}
	h.used = t.now()
	return h
}

// evict makes room for another host. Who still holds the old entry goes on with it.
// Preconditions: mu is held.
func (t *Table) evict() {
	var oldest *Host
	for _, h := range t.m {
		if oldest == nil || h.used.Before(oldest.used) {
			oldest = h
		}
	}
	delete(t.m, oldest.name)
	s := oldest.stats()
	t.other.Requests += s.Requests
	t.other.Failed += s.Failed
	t.other.Refused += s.Refused
	t.other.Bytes += s.Bytes
}

// Stats are the counters of one host.
type Stats struct {
	Host     string // empty: all that are no longer in the table
	Requests uint64 // that were sent
	Failed   uint64 // of them, without an answer or with a status from 500 on
	Refused  uint64 // not sent, since the host was left alone
	Bytes    uint64 // that came
	Away     bool   // it is left alone now
}

// Stats lists the hosts by name, those without a place in the table last and as one.
func (t *Table) Stats() []Stats {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Stats, 0, len(t.m)+1)
	for _, h := range t.m {
		list = append(list, h.stats())
	}
	slices.SortFunc(list, func(a, b Stats) int { return strings.Compare(a.Host, b.Host) })
	if t.other != (Stats{}) {
		list = append(list, t.other)
	}
	return list
}
