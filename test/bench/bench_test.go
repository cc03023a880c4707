package bench

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"vrafs/vhostuser/vhostusertest"
)

const (
	rounds = 5
	slice  = 400 * time.Millisecond // of load, per round and peer
)

// A session is a peer with clients on its request queues.
type session struct {
	*peer
	tree    *tree
	clients map[string][]*vhostusertest.Client // by row
}

func newSession(b *testing.B, p *peer, queues int) *session {
	b.Helper()
	s := &session{peer: p, clients: map[string][]*vhostusertest.Client{}}
	first, err := vhostusertest.NewClient(p.guest.Ring(1), vhostusertest.ClientConfig{Depth: 1})
	if err != nil {
		b.Fatal(err)
	}
	if s.tree, err = scan(first); err != nil {
		b.Fatalf("%s: %v", p.name, err)
	}
	for _, r := range rows() {
		for i := range queues {
			c, err := vhostusertest.NewClient(p.guest.Ring(1+i), vhostusertest.ClientConfig{Depth: r.depth, MaxRoom: r.room, MaxArgs: 256})
			if err != nil {
				b.Fatal(err)
			}
			s.clients[r.name] = append(s.clients[r.name], c)
		}
	}
	return s
}

// measure runs one row once.
func (s *session) measure(b *testing.B, r *row, queues int) figure {
	b.Helper()
	var feeds []feed
	for i := range queues {
		feeds = append(feeds, r.feed(s.tree, uint64(i)))
	}
	f, err := s.run(s.clients[r.name][:queues], feeds, r.depth, slice)
	if err != nil {
		b.Fatal(err)
	}
	return f
}

// BenchmarkDevice measures every row on both daemons in turn, through one
// request queue, and ours through four as well, each at the row's depth as a
// guest of several processors has it: their one queue is all they have, so there
// the base is our own single queue.
func BenchmarkDevice(b *testing.B) {
	dir := b.TempDir()
	makeTree(b, dir)
	im := makeImage(b, dir)
	theirs := newSession(b, startVirtiofsd(b, dir), 1)
	ours := newSession(b, startVrafsd(b, im, 4), 4)
	for _, r := range rows() {
		b.Run(r.name+"/queues=1", func(b *testing.B) {
			c := &comparison{}
			for range rounds {
				c.add(ours.measure(b, &r, 1), theirs.measure(b, &r, 1))
				if r.bare != nil {
					c.floor = append(c.floor, r.bare(b, &r, filepath.Join(dir, bigFile)))
				}
			}
			c.report(b, "virtiofsd")
			if r.goal > 0 {
				b.ReportMetric(r.goal, "cpu-ratio-aim")
			}
		})
		b.Run(r.name+"/queues=4", func(b *testing.B) {
			c := &comparison{}
			for range rounds {
				c.add(ours.measure(b, &r, 4), ours.measure(b, &r, 1))
			}
			c.report(b, "one-queue")
		})
	}
	if n, err := ours.rssAnon(); err == nil {
		b.Logf("RssAnon of vrafsd: %d KiB", n>>10)
	}
}

// A comparison is what the rounds of one row gave.
type comparison struct {
	cpu, base, cpuRatio, rate, rateRatio, load, floor []float64
}

func (c *comparison) add(a, z figure) {
	c.cpu, c.base = append(c.cpu, a.perRequest()), append(c.base, z.perRequest())
	c.cpuRatio = append(c.cpuRatio, a.perRequest()/z.perRequest())
	c.rate, c.rateRatio = append(c.rate, a.rate()), append(c.rateRatio, a.rate()/z.rate())
	c.load = append(c.load, float64(a.load.Nanoseconds())/float64(a.requests)/1000)
}

// report gives the medians; base names what the ratios are to.
func (c *comparison) report(b *testing.B, base string) {
	b.ReportMetric(0, "ns/op") // the time of the whole run says nothing
	b.ReportMetric(median(c.cpu), "cpu-µs/req")
	b.ReportMetric(median(c.base), base+"-cpu-µs/req")
	b.ReportMetric(median(c.cpuRatio), "cpu-ratio")
	b.ReportMetric(median(c.rate), "req/s")
	b.ReportMetric(median(c.rateRatio), "rate-ratio")
	b.ReportMetric(median(c.load), "load-cpu-µs/req")
	if c.floor != nil {
		b.ReportMetric(median(c.cpu)/median(c.floor), "bare-cpu-ratio")
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
