package bench

import (
	"fmt"
	"sync"
	"syscall"
	"time"

	"vrafs/vhostuser/vhostusertest"
)

// A feed makes the requests of one queue, one after the other. It changes q, which
// is its own, and may keep what it needs of replies by note.
type feed interface {
	next(q *vhostusertest.Request)
	note(r *vhostusertest.Reply) error
}

// A figure is what one run of a load cost.
type figure struct {
	requests uint64
	took     time.Duration
	daemon   time.Duration // CPU time of the daemon
	load     time.Duration // CPU time of this process
}

func (f figure) rate() float64 { return float64(f.requests) / f.took.Seconds() }
func (f figure) perRequest() float64 {
	return float64(f.daemon.Nanoseconds()) / float64(f.requests) / 1000
} // µs

// run drives one client per feed for the time d, with depth requests in flight.
func (p *peer) run(clients []*vhostusertest.Client, feeds []feed, depth int, d time.Duration) (figure, error) {
	return p.measure(func() (uint64, error) {
		counts, errs := make([]uint64, len(feeds)), make([]error, len(feeds))
		end := time.Now().Add(d)
		var wg sync.WaitGroup
		for i := range feeds {
			wg.Go(func() { counts[i], errs[i] = pump(clients[i], feeds[i], depth, end) })
		}
		wg.Wait()
		return total(counts, errs)
	})
}

// total sums up what several clients did, unless one failed.
func total(counts []uint64, errs []error) (n uint64, err error) {
	for i := range counts {
		if errs[i] != nil {
			return 0, errs[i]
		}
		n += counts[i]
	}
	return n, nil
}

// measure takes the figures of a load that says how many requests it made.
func (p *peer) measure(load func() (uint64, error)) (f figure, err error) {
	before, err := p.cpu()
	if err != nil {
		return figure{}, err
	}
	own, begin := ownCPU(), time.Now()
	if f.requests, err = load(); err != nil {
		return figure{}, fmt.Errorf("%s: %w", p.name, err)
	}
	f.took, f.load = time.Since(begin), ownCPU()-own
	after, err := p.cpu()
	f.daemon = after - before
	return f, err
}

// pump keeps depth requests of f in flight on c until the deadline, then takes
// the replies that are still due. One kick covers all that was added since the
// last sleep, as a guest under load does it.
func pump(c *vhostusertest.Client, f feed, depth int, until time.Time) (n uint64, err error) {
	var q vhostusertest.Request
	flight := 0
	for {
		for flight < depth {
			f.next(&q)
			if _, err := c.Send(&q); err != nil {
				return n, err
			}
			flight++
		}
		if err := c.Ring.Kick(); err != nil {
			return n, err
		}
		for range (depth + 1) / 2 { // refill in halves, so that the ring never runs dry
			if err := take(c, f); err != nil {
				return n, err
			}
			flight--
			n++
		}
		if n%64 < uint64(depth) && time.Now().After(until) {
			break
		}
	}
	for ; flight > 0; flight-- {
		if err := take(c, f); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func take(c *vhostusertest.Client, f feed) error {
	r, err := c.Recv()
	if err != nil {
		return err
	}
	if r.Errno != 0 && r.Errno != syscall.ENOSYS { // an open that is not needed
		return r.Errno
	}
	return f.note(&r)
}
